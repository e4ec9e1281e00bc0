package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The systemd unit starts weir with flags that it has, and reloads it by the signal that it reads rules at.
func TestTheUnitStartsWhatThereIs(t *testing.T) {
	file, err := os.ReadFile("../../contrib/systemd/weir.service")
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]string{}
	example := ""
	for line := range strings.Lines(string(file)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(name, "#") {
			set[name] = value
		} else if options, ok := strings.CutPrefix(name, "#   WEIR_OPTIONS"); ok && options == "" {
			example = strings.Trim(value, `"`)
		}
	}
	args := strings.Fields(strings.ReplaceAll(set["ExecStart"], "$WEIR_OPTIONS", example))
	if len(args) < 6 || args[0] != "/usr/local/sbin/weir" {
		t.Fatalf("it starts %q", args)
	}
	if _, problems, err := readFlags(new(config), args[1:]); err != nil || len(problems) > 0 {
		t.Errorf("%q: %v %v", args, problems, err)
	}
	for name, want := range map[string]string{"ExecReload": "/bin/kill -HUP $MAINPID", "Restart": "on-failure", "RestartPreventExitStatus": "2"} {
		if set[name] != want {
			t.Errorf("%s=%s, want %s", name, set[name], want)
		}
	}
}

// make install puts each program's manual page and completions where the system looks for them, and the unit with the programs' place.
func TestMakeInstallsWhatGoesWithThePrograms(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("make", "-C", "../..", "install-files", "DESTDIR="+dir, "PREFIX=/usr")
	cmd.Env = slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "MAKE") })
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := []string{"/usr/lib/systemd/system/weir.service"}
	for _, name := range []string{"weir", "weiradm", "weirlab"} {
		want = append(want, "/usr/share/man/man8/"+name+".8", "/usr/share/bash-completion/completions/"+name, "/usr/share/fish/vendor_completions.d/"+name+".fish")
	}
	var got []string
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		got = append(got, strings.TrimPrefix(path, dir))
		info, err := d.Info()
		if err == nil && info.Mode().Perm() != 0o644 {
			t.Errorf("%s: %s", path, info.Mode())
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("installed:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if unit, err := os.ReadFile(filepath.Join(dir, want[0])); err != nil || !strings.Contains(string(unit), "ExecStart=/usr/sbin/weir ") {
		t.Errorf("%v: %s", err, unit)
	}
}
