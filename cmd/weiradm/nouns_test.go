package main

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"weir/control/api"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares with a file under testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s (go test ./cmd/weiradm -update writes it):\n%s\nwant\n%s", name, got, want)
	}
}

func TestHelp(t *testing.T) {
	r := newRig(t)
	all := r.must("-h")
	for _, n := range nouns() {
		all += "\n$ weiradm " + n.name + " --help\n" + r.must(n.name+" --help")
		if !strings.Contains(r.must("--help"), "\n  "+n.name) {
			t.Errorf("-h does not know %s", n.name)
		}
	}
	golden(t, "help", all)
	for _, line := range []string{"-V", "-v", "--version"} {
		if out := r.must(line); !strings.HasPrefix(out, "weiradm ") || strings.Count(out, "\n") != 1 {
			t.Errorf("%s: %q", line, out)
		}
	}
}

// A director with much to complain about.
var troubled = api.Status{
	Version: "1.0", Uptime: 90061, Services: 12, Servers: 120,
	Interfaces: []api.Interface{
		{Name: "eth0", MAC: "02:00:00:00:00:01", MTU: 1500, Queues: 4, XDP: "native", ZeroCopy: true, RxRingFull: 123456, LinkDown: 7},
		{Name: "eth1", MAC: "02:00:00:00:00:02", MTU: 1500, Queues: 4, XDP: "generic", XDPWhy: "operation not supported", ZeroCopyWhy: "the driver has none"},
	},
	Workers: []api.Worker{{Number: 0, CPU: 0.934, Received: 1_234_567_890, PerSecond: 1_400_000, Batch: 31.25, PinnedTo: new(int)}, {Number: 1, CPU: 0.002, Received: 12}},
	Table:   api.Table{Capacity: 1 << 20, Used: 1 << 19, Opened: 9_000_000, Evicted: 3},
	Unreachable: []api.Unreachable{{Service: "TCP 192.0.2.1:80", Server: "10.0.0.1:80"}, {Service: "TCP 192.0.2.1:80", Server: "10.0.0.2:80"},
		{Service: "TCP 192.0.2.1:80", Server: "10.0.0.3:80"}, {Service: "TCP 192.0.2.1:80", Server: "10.0.0.4:80"},
		{Service: "TCP 192.0.2.1:80", Server: "10.0.0.5:80"}, {Service: "TCP 192.0.2.1:80", Server: "10.0.0.6:80"}},
	Packets:   api.Packets{ToServer: 1_200_000_000, ToClient: 34_000_000, ToHost: 12, BytesIn: 1 << 50, BytesOut: 99_999},
	PerSecond: api.Packets{ToServer: 1_350_000, BytesIn: 100_000, Connections: 250},
	Stops: []api.Stop{{Reason: "server-unreachable", Packets: 5_000, PerSecond: 40, Help: "Look at the link."}, {Reason: "a", Help: "A."}, {Reason: "b", Help: "B."},
		{Reason: "c", Help: "C."}, {Reason: "d", Help: "D."}, {Reason: "e", Help: "E."}, {Reason: "f", Help: "F."}},
	SaveError: "save rules: no space left on device",
}

func TestStatus(t *testing.T) {
	golden(t, "status", screen(&troubled, false))
	if all := screen(&troubled, true); strings.Contains(all, "more:") || !strings.Contains(all, "10.0.0.6:80") || !strings.Contains(all, "F.") {
		t.Errorf("--all:\n%s", all)
	}
	for line := range strings.Lines(screen(&troubled, false)) {
		if len(line) > 140 {
			t.Errorf("too long for a screen: %s", line)
		}
	}
	r := newRig(t)
	r.must("-A -t 10.9.0.1:80", "-a -t 10.9.0.1:80 -r 10.20.0.1:80 -m", "-a -t 10.9.0.1:80 -r 10.20.0.2:80 -m")
	r.paths.lost = r.paths.strange
	if out := r.must("status"); !strings.Contains(out, "1 services, 2 servers") || strings.Contains(out, "UNREACHABLE") {
		t.Errorf("%s", out)
	}
	if out := r.must("status --json"); !strings.Contains(out, `"servers": 2`) {
		t.Errorf("%s", out)
	}
}

func TestAmountsFit(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 99_999: "99999", 100_000: "100k", 99_999_999: "99999k", 100_000_000: "100M", 1<<64 - 1: "18446P"} {
		if got := amount(n); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
}

// The shell itself completes with what is printed.
func TestBashCompletes(t *testing.T) {
	r := newRig(t)
	script := filepath.Join(t.TempDir(), "weiradm")
	if err := os.WriteFile(script, []byte(r.must("completion bash")), 0o644); err != nil {
		t.Fatal(err)
	}
	for words, want := range map[string]string{"weiradm st": "status", "weiradm connections --cl": "--client", "weiradm trace --j": "--json", "weiradm completion b": "bash", "weiradm -L ": ""} {
		cmd := exec.Command("bash", "-c", `. "$1"; COMP_WORDS=($2); [[ $2 == *" " ]] && COMP_WORDS+=(""); COMP_CWORD=$((${#COMP_WORDS[@]}-1)); _weiradm; echo "${COMPREPLY[*]}"`, "bash", script, words)
		out, err := cmd.CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("%q completes to %q, %v; want %q", words, out, err, want)
		}
	}
}
