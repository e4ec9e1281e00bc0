package complete

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Check compares the committed scripts, below dir, with what the program says, and with update writes them.
func Check(t testing.TB, dir string, update bool, p Program) {
	t.Helper()
	for path, want := range map[string]string{"bash/" + p.Name: Bash(p), "fish/" + p.Name + ".fish": Fish(p)} {
		path = filepath.Join(dir, path)
		if update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s completes other flags than %s has: go test with -update writes it (%v)", path, p.Name, err)
		}
	}
}

// Asks has real shells complete command lines; what they offer is compared in any order.
func Asks(t *testing.T, p Program, lines map[string]string) {
	t.Helper()
	t.Setenv("HOME", t.TempDir()) // shells read and write there; zsh is quick from its second start on
	for line, want := range lines {
		want = sorted(strings.Fields(want))
		if got := askBash(t, Bash(p), p.Name, line); got != want {
			t.Errorf("bash completes %q to %q, want %q", line, got, want)
		}
		if got := askZsh(t, Bash(p), p.Name, line); got != want {
			t.Errorf("zsh completes %q to %q, want %q", line, got, want)
		}
		if got := askFish(t, Fish(p), line); got != want {
			t.Errorf("fish completes %q to %q, want %q", line, got, want)
		}
	}
}

// askBash has bash complete a command line by a script, cut into words as bash cuts it, and returns what it offers.
func askBash(t testing.TB, script, program, line string) string {
	return ask(t, line, "", "bash", "--norc", "-c", `eval "$1"
line=${3//=/ = }
COMP_WORDS=($line); [[ $line == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]}-1))
COMPREPLY=()
_$2
echo "${COMPREPLY[*]}"`, "bash", script, program, line)
}

// askZsh has zsh do the same, which does not cut words at "=", in the modes that its bashcompinit calls bash's functions in.
func askZsh(t testing.TB, script, program, line string) string {
	return ask(t, line, glueOf(line), "zsh", "-f", "-c", `eval "$1"
emulate sh
setopt ksharrays kshglob braceexpand shwordsplit
COMP_WORDS=($3); [[ $3 == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]}-1))
COMPREPLY=()
_$2
for word in "${COMPREPLY[@]}"; do
  [[ $word == "${COMP_WORDS[COMP_CWORD]}"* ]] && print -r -- "$word" # zsh itself leaves out what does not fit
done
true`, "zsh", script, program, line)
}

// askFish has fish do the same, without what it says words are for.
func askFish(t testing.TB, script, line string) string {
	file := filepath.Join(t.TempDir(), "script.fish")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	return ask(t, line, glueOf(line), "fish", "--no-config", "-c", "source $argv[1]; complete -C $argv[2] | string replace -r '\\t.*' ''; true", file, line)
}

// glueOf is what a line's last word has in front of the value: --flag= of --flag=value. Shells that do not cut there want it repeated.
func glueOf(line string) string {
	return regexp.MustCompile(`(--[a-z-]+=)?[^= ]*$`).FindStringSubmatch(line)[1]
}

// ask returns what a shell offers, in order and without the glue, which each word must have.
func ask(t testing.TB, line, glue string, command ...string) string {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s, %q: %v\n%s", command[0], line, err, out)
	}
	words := strings.Fields(string(out))
	for i := range words {
		word, ok := strings.CutPrefix(words[i], glue)
		if words[i] = word; !ok {
			t.Errorf("%s completes %q to %q, without %q", command[0], line, word, glue)
		}
	}
	return sorted(words)
}

func sorted(words []string) string {
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(words))), " ")
}
