// Package man keeps manual pages in step with programs: what a page says of flags and commands is written from them, between two
// marks in the page, and a test fails when it is not.
//
//	page = man.Replace(page, "flags", man.Flags(fs))
package man

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// Check compares the blocks of a page with what they should be, and with update writes them.
func Check(t testing.TB, path string, update bool, blocks map[string]string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	for name, text := range blocks {
		if page, err = Replace(page, name, text); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	if page == string(b) {
		return
	}
	if !update {
		t.Fatalf("%s says other than the program: go test with -update writes it", filepath.Base(path))
	}
	if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Replace puts text between the page's marks of that name:
//
//	.\" begin NAME
//	.\" end NAME
func Replace(page, name, text string) (string, error) {
	begin, end := ".\\\" begin "+name+"\n", ".\\\" end "+name+"\n"
	before, rest, ok := strings.Cut(page, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return "", fmt.Errorf("the marks of %s are missing", name)
	}
	return before + begin + text + end + after, nil
}

// Flags describes flags, each a tagged paragraph.
func Flags(fs *pflag.FlagSet) string {
	var b strings.Builder
	fs.VisitAll(func(f *pflag.Flag) {
		value, usage := pflag.UnquoteUsage(f)
		b.WriteString(".TP\n")
		if f.Shorthand != "" {
			fmt.Fprintf(&b, "\\fB\\-%s\\fR, ", f.Shorthand)
		}
		fmt.Fprintf(&b, "\\fB\\-\\-%s\\fR", Escape(f.Name))
		if value != "" && f.NoOptDefVal == "" {
			fmt.Fprintf(&b, " \\fI%s\\fR", Escape(value))
		}
		if d := f.DefValue; d != "" && d != "[]" && d != "false" && d != "0" && d != "0s" && !strings.Contains(usage, "default") {
			usage += " (default " + d + ")"
		}
		b.WriteString("\n" + Escape(usage) + "\n")
	})
	return b.String()
}

// Text writes what a --help says at the beginning of a section: paragraphs, and examples, which are indented.
func Text(help string) string {
	var b strings.Builder
	for paragraph := range strings.SplitSeq(strings.Trim(help, "\n"), "\n\n") {
		if strings.HasPrefix(paragraph, "  ") {
			b.WriteString(".PP\n.RS 4\n.nf\n" + Escape(dedent(paragraph)) + "\n.fi\n.RE\n")
			continue
		}
		b.WriteString(".PP\n" + Escape(paragraph) + "\n")
	}
	return strings.TrimPrefix(b.String(), ".PP\n") // a section's first needs none
}

func dedent(s string) string {
	return strings.TrimPrefix(strings.ReplaceAll(s, "\n  ", "\n"), "  ")
}

// Escape makes text that groff prints as it stands: a hyphen that can be copied, a backslash, and no line that is a request.
func Escape(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
