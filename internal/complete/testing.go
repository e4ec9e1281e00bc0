package complete

import (
	"maps"
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
	t.Setenv("HOME", t.TempDir()) // shells read and write there
	fish := filepath.Join(t.TempDir(), "script.fish")
	if err := os.WriteFile(fish, []byte(Fish(p)), 0o600); err != nil {
		t.Fatal(err)
	}
	asked := slices.Sorted(maps.Keys(lines))
	for _, shell := range []struct {
		command []string
		whole   bool // it takes --flag=value for one word
	}{
		{[]string{"bash", "--norc", "-c", bashAsks, "bash", Bash(p), p.Name}, false},
		{[]string{"zsh", "-f", "-c", zshAsks, "zsh", Bash(p), p.Name}, true},
		{[]string{"fish", "--no-config", "-c", fishAsks, fish}, true},
	} {
		cmd := exec.Command(shell.command[0], append(shell.command[1:], asked...)...)
		out, err := cmd.CombinedOutput()
		answers := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
		if err != nil || len(answers) != len(asked) {
			t.Fatalf("%s: %v\n%s", shell.command[0], err, out)
		}
		for i, line := range asked {
			words := strings.Fields(answers[i])
			for k := range words {
				if glue := glueOf(line); shell.whole && !strings.HasPrefix(words[k], glue) {
					t.Errorf("%s completes %q to %q, without %q", shell.command[0], line, words[k], glue)
				} else if shell.whole {
					words[k] = words[k][len(glue):]
				}
			}
			if got, want := sorted(words), sorted(strings.Fields(lines[line])); got != want {
				t.Errorf("%s completes %q to %q, want %q", shell.command[0], line, got, want)
			}
		}
	}
}

// Each prints what is offered for each line, on a line of its own. bash cuts words at "=".
const bashAsks = `eval "$1"; program=$2; shift 2
for asked; do
  line=${asked//=/ = }
  COMP_WORDS=($line); [[ $line == *" " ]] && COMP_WORDS+=("")
  COMP_CWORD=$((${#COMP_WORDS[@]}-1))
  COMPREPLY=()
  _$program
  echo "${COMPREPLY[*]}"
done`

// zsh's bashcompinit calls bash's functions in these modes, and zsh leaves out what does not begin as the word does.
const zshAsks = `eval "$1"; program=$2; shift 2
emulate sh
setopt ksharrays kshglob braceexpand shwordsplit
for asked; do
  COMP_WORDS=($asked); [[ $asked == *" " ]] && COMP_WORDS+=("")
  COMP_CWORD=$((${#COMP_WORDS[@]}-1))
  COMPREPLY=()
  _$program
  fits=""
  for word in "${COMPREPLY[@]}"; do [[ $word == "${COMP_WORDS[COMP_CWORD]}"* ]] && fits="$fits $word"; done
  print -r -- "$fits"
done`

// fish says behind a tab what a word is for.
const fishAsks = `source $argv[1]
for asked in $argv[2..]
  echo (complete -C $asked | string replace -r '\t.*' '')
end`

// glueOf is what a line's last word has in front of the value: --flag= of --flag=value.
func glueOf(line string) string {
	return regexp.MustCompile(`(--[a-z-]+=)?[^= ]*$`).FindStringSubmatch(line)[1]
}

func sorted(words []string) string {
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(words))), " ")
}
