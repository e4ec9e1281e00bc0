package man

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// A formatter that is strict finds nothing wrong with the pages, and everything that was written is shown.
func TestThePagesAreSound(t *testing.T) {
	pages, err := filepath.Glob("../../docs/man/*.8")
	if err != nil || len(pages) != 3 {
		t.Fatalf("%v, %v", pages, err)
	}
	for _, p := range pages {
		if out, err := exec.Command("mandoc", "-T", "lint", "-W", "warning", p).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("mandoc (make installs it): %v\n%s", err, out)
		}
		out, err := exec.Command("mandoc", "-T", "ascii", p).Output()
		if err != nil || strings.Count(string(out), "\n") < 40 {
			t.Errorf("%s: %v: %d bytes", p, err, len(out))
		}
	}
}

func TestFlagsAndTextAreShownAsTheyStand(t *testing.T) {
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	fs.SortFlags = false
	fs.StringP("odd-name", "o", "a-b", ".begins `LIKE` a request, with a back\\slash")
	fs.Bool("switch", false, "'quoted")
	page, err := Replace(".TH X 8 2026-11-22\n.SH NAME\nx \\- y\n.SH OPTIONS\n.\\\" begin flags\nold\n.\\\" end flags\n", "flags",
		Flags(fs)+".SH EXAMPLES\n"+Text("Words,\nand more.\n\n  weir --rule '-A'\n  .two\n"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("mandoc", "-T", "ascii", "-O", "width=78")
	cmd.Stdin = strings.NewReader(page)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	shown := strings.Join(strings.Fields(plain(string(out))), " ")
	for _, want := range []string{`-o, --odd-name LIKE .begins LIKE a request, with a back\slash (default a-b)`, "--switch 'quoted", "Words, and more. weir --rule '-A' .two"} {
		if !strings.Contains(shown, want) {
			t.Errorf("not shown: %s\n%s", want, shown)
		}
	}
	if strings.Contains(shown, "old") {
		t.Error("what stood between the marks is still there")
	}
	if _, err := Replace("no marks", "flags", ""); err == nil {
		t.Error("a page without marks is taken")
	}
}

// plain takes out what makes letters bold or underlined: each is printed over another.
func plain(s string) string {
	var out []rune
	for _, r := range s {
		if r == '\b' {
			out = out[:len(out)-1]
			continue
		}
		out = append(out, r)
	}
	return string(out)
}
