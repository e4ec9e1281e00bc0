package complete

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Check compares a committed script with what the program says, and with update writes it.
func Check(t testing.TB, path string, update bool, p Program) {
	t.Helper()
	want := Bash(p)
	if update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s completes other flags than %s has: go test with -update writes it (%v)", path, p.Name, err)
	}
}

// Ask has a real bash complete a command line by a script, cut into words as bash cuts it, and returns what it offers.
func Ask(t testing.TB, script, program, line string) string {
	t.Helper()
	cmd := exec.Command("bash", "--norc", "-c", `eval "$1"
line=${3//=/ = }
COMP_WORDS=($line); [[ $line == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]}-1))
COMPREPLY=()
_$2
echo "${COMPREPLY[*]}"`, "bash", script, program, line)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", line, err, out)
	}
	return strings.TrimSpace(string(out))
}
