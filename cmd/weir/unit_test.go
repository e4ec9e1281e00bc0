package main

import (
	"os"
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
