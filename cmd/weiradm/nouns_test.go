package main

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"weir/control/api"
	"weir/internal/complete"
	"weir/internal/man"
	"weir/ipvsadm"
	"weir/sched"
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

// The shells themselves complete with what is printed.
func TestShellsComplete(t *testing.T) {
	r := newRig(t)
	complete.Check(t, "../../contrib/completion", *update, completable())
	for shell, script := range map[string]string{"bash": complete.Bash(completable()), "zsh": complete.Bash(completable()), "fish": complete.Fish(completable())} {
		if out := r.must("completion " + shell); out != script {
			t.Errorf("%s is given another script", shell)
		}
	}
	complete.Asks(t, completable(), map[string]string{
		"weiradm st":                       "status",
		"weiradm -":                        first(t, "-"),
		"weiradm --socket=/run/x.sock sta": "status",
		"weiradm --socket /run/x.sock connections --cl":  "--client",
		"weiradm connections --mode=f":                   "fullnat",
		"weiradm connections --state es":                 "established",
		"weiradm trace --j":                              "--json",
		"weiradm completion b":                           "bash",
		"weiradm -A -t 192.0.2.1:80 -s w":                "wlc wrr",
		"weiradm --add-service --sch":                    "--scheduler --sched-flags",
		"weiradm -A -u 192.0.2.1:53 --o":                 "--ops",
		"weiradm -a -t 192.0.2.1:80 -r 10.0.0.1 --tun-t": "--tun-type",
		"weiradm -a --tun-type g":                        "gue gre",
		"weiradm -a --fu":                                "--fullnat",
		"weiradm -D --s":                                 "--sctp-service",
		"weiradm -Z --weig":                              "",
		"weiradm -L --st":                                "--stats",
		"weiradm -R --":                                  "--atomic",
		"weiradm -A -t ":                                 "",
		"weiradm capture -w nouns_t":                     "nouns_test.go",
		"weiradm drain 10.0.0.1 --t":                     "--timeout",
	})
}

// first are the words that a command line may begin with.
func first(t *testing.T, prefix string) string {
	t.Helper()
	var words []string
	for _, u := range ipvsadm.Usages() {
		words = append(words, u.Command.Names()...)
		if u.Op == ipvsadm.OpVersion {
			words = append(words, "-V")
		}
	}
	words = append(words, "--socket")
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return !strings.HasPrefix(w, prefix) }), " ")
}

// The manual page has the commands and flags that there are, and speaks of every word of ipvsadm's grammar.
func TestTheManualPageHasAllOfTheGrammar(t *testing.T) {
	const path = "../../docs/man/weiradm.8"
	var b strings.Builder
	for _, n := range nouns() {
		fs, _, _ := n.flagSet()
		b.WriteString(".SS " + strings.TrimSpace("weiradm "+man.Escape(n.name+" "+n.args)) + "\n" + man.Text(n.about+"\n\n"+n.long) + man.Flags(fs))
	}
	man.Check(t, path, *update, map[string]string{"nouns": b.String(), "schedulers": strings.Join(sched.Names(), ", ") + ".\n"})
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`\\f[BIR]`).ReplaceAllString(strings.ReplaceAll(string(page), `\-`, "-"), "")
	for _, u := range ipvsadm.Usages() {
		for _, s := range append(u.Options, u.Command) {
			for _, name := range s.Names() {
				if !regexp.MustCompile(`(^|[^-\w])` + name + `($|[^-\w])`).MatchString(text) {
					t.Errorf("the page has no word on %s", name)
				}
			}
		}
	}
}
