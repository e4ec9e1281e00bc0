package main

import (
	"bytes"
	"flag"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/lb"
)

var update = flag.Bool("update", false, "write the help text into README.md")

// good is a command line without a fault, to which a test adds one. Its interface is none that a host has, so that a fault which weir does
// not find ends the test and begins no balancing.
var good = []string{"--interface", "nosuchiface0", "--rule", "-A -t 192.0.2.10:80 -s wrr"}

func with(more ...string) []string { return append(append([]string(nil), good...), more...) }

// refuse runs weir with a bad command line: exit status 2, nothing on standard output, and these lines on standard error.
func refuse(t *testing.T, args ...string) []string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if status := run(args, &stdout, &stderr); status != exitUsage {
		t.Fatalf("%q: exit status %d, want %d", args, status, exitUsage)
	}
	if stdout.Len() > 0 {
		t.Errorf("%q: standard output: %s", args, &stdout)
	}
	return strings.Split(strings.TrimSuffix(stderr.String(), "\n"), "\n")
}

type badLine struct {
	args []string
	want string
}

// bad is what a command line can have wrong, each by itself, and the line that says so.
var bad = []badLine{
	{good[2:], `--interface: missing: name at least one interface`},
	{[]string{"-i", "nosuchiface0", "--admin-socket", ""}, `--rule, --rules: neither given, and no --admin-socket to get rules from: there is nothing to balance`},
	{with("--admin-socket", "/run/"+strings.Repeat("s", 92)), `--admin-socket "/run/` + strings.Repeat("s", 92) + `": longer than 96 bytes`},
	{with("--metrics-address", "localhost:9100"), `--metrics-address "localhost:9100": want ADDRESS:PORT, as 127.0.0.1:9100 or [::]:9100`},
	{with("--web-address", "localhost:8080"), `--web-address "localhost:8080": want ADDRESS:PORT, as 127.0.0.1:8080 or [::]:8080`},
	{with("--web-address", "::1:8080"), `--web-address "::1:8080": want ADDRESS:PORT, as 127.0.0.1:8080 or [::]:8080`},
	{with("--web-address", "127.0.0.1:65536"), `--web-address "127.0.0.1:65536": want ADDRESS:PORT, as 127.0.0.1:8080 or [::]:8080`},
	{with("--web-address", "[::1]:9100", "--metrics-address", "[::1]:9100"), `--web-address "[::1]:9100": is --metrics-address: choose another port`},
	{with("--save", "/nowhere/rules"), `--save "/nowhere/rules": its directory does not exist`},
	{with("--save", "/tmp"), `--save "/tmp": is not a regular file`},
	{with("--rules", "/dev/null", "--save", "/dev/../dev/null"), `--save "/dev/../dev/null": is the file of --rules: weir would write over it; choose another one`},
	{with("-i", "nosuchiface0"), `--interface "nosuchiface0": given twice`},
	{with("nosuchiface1"), `"nosuchiface1": weir takes flags only`},

	{with("-l", "10.0.0.256"), `--local-address "10.0.0.256": not an address that servers could answer to`},
	{with("-l", "fe80::1%nosuchiface0"), `--local-address "fe80::1%nosuchiface0": not an address that servers could answer to`},
	{with("--tunnel-source", "10.0.0.1/24"), `--tunnel-source "10.0.0.1/24": want a block of unicast addresses, PREFIX/LENGTH, without bits behind its length`},
	{with("-l", "10.0.0.1", "-l", "10.0.0.1"), `--local-address "10.0.0.1": given twice`},
	{with("--local-ports", "1024"), `--local-ports "1024": want LOW-HIGH with 1 <= LOW <= HIGH <= 65535`},
	{with("--local-ports", "0-1024"), `--local-ports "0-1024": want LOW-HIGH with 1 <= LOW <= HIGH <= 65535`},
	{with("--local-ports", "2000-1999"), `--local-ports "2000-1999": want LOW-HIGH with 1 <= LOW <= HIGH <= 65535`},
	{with("--local-ports", "1-65536"), `--local-ports "1-65536": want LOW-HIGH with 1 <= LOW <= HIGH <= 65535`},
	{with("--assign-addresses=perhaps"), `--assign-addresses "perhaps": allowed: true, false (see weir --help)`},
	{with("--mss-clamp=1450"), `--mss-clamp "1450": allowed: true, false (see weir --help)`},

	{with("-m", "1 tcp"), `--mark "1 tcp": want MARK PROTO DST[/LEN][:PORT[-PORT]] [SRC[/LEN]]`},
	{with("-m", "0 tcp 192.0.2.1"), `--mark "0 tcp 192.0.2.1": mark "0": want a number from 1 to 4294967295`},
	{with("-m", "1 icmp 192.0.2.1"), `--mark "1 icmp 192.0.2.1": protocol "icmp": allowed: tcp, udp, sctp, any`},
	{with("-m", "1 tcp 192.0.2.1/24"), `--mark "1 tcp 192.0.2.1/24": destination "192.0.2.1/24": has bits behind its length: want 192.0.2.0/24`},
	{with("-m", "1 tcp 192.0.2.1:90-80"), `--mark "1 tcp 192.0.2.1:90-80": destination "192.0.2.1:90-80": ports: want PORT or LOW-HIGH, 0 to 65535`},
	{with("-m", "1 tcp 192.0.2.1 x"), `--mark "1 tcp 192.0.2.1 x": source "x": not an address or prefix`},

	{with("-o", "sloppy_tcp"), `--option "sloppy_tcp": want NAME=VALUE; names: ` + strings.Join(lb.SysctlNames(), ", ")},
	{with("-o", "sync_threshold=3"), `--option "sync_threshold=3": no option "sync_threshold"; allowed: ` + strings.Join(lb.SysctlNames(), ", ")},
	{with("-o", "am_droprate=0"), `--option "am_droprate=0": am_droprate: value "0": allowed: 1 to 1000000`},
	{with("-o", "conn_reuse_mode=4"), `--option "conn_reuse_mode=4": conn_reuse_mode: value "4": allowed: 0 to 3`},
	{with("-o", "drop_entry=-1"), `--option "drop_entry=-1": drop_entry: value "-1": allowed: 0 to 3`},
	{with("-o", "drop_packet=on"), `--option "drop_packet=on": drop_packet: value "on": allowed: 0 to 3`},
	{with("-o", "expire_nodest_conn=tcp"), `--option "expire_nodest_conn=tcp": expire_nodest_conn: value "tcp": allowed: 0, 1, udp`},
	{with("-o", "expire_quiescent_template=2"), `--option "expire_quiescent_template=2": expire_quiescent_template: value "2": allowed: 0, 1`},
	{with("-o", "nat_icmp_send="), `--option "nat_icmp_send=": nat_icmp_send: value "": allowed: 0, 1`},
	{with("-o", "secure_tcp=9"), `--option "secure_tcp=9": secure_tcp: value "9": allowed: 0 to 3`},
	{with("-o", "sloppy_tcp=yes"), `--option "sloppy_tcp=yes": sloppy_tcp: value "yes": allowed: 0, 1`},

	{with("--connections", "many"), `--connections "many": allowed: 1024 to 134217728`},
	{with("--connections", "1023"), `--connections "1023": allowed: 1024 to 134217728`},
	{with("--connections", "134217729"), `--connections "134217729": allowed: 1024 to 134217728`},
	{with("--cpus", "a-b"), `--cpus "a-b": want a list like 0-3,5 of CPUs that weir may use: ` + allCPUs()},
	{with("--cpus", "65535"), `--cpus "65535": CPU 65535 is none that weir may use; allowed: ` + allCPUs()},
	{with("--zero-copy", "yes"), `--zero-copy "yes": allowed: auto, on, off`},
	{with("--xdp-mode", "offload"), `--xdp-mode "offload": allowed: auto, native, generic`},
	{with("--busy-poll", "20"), `--busy-poll "20": allowed: 0 (off) or 1us to 10ms`},
	{with("--busy-poll", "11ms"), `--busy-poll "11ms": allowed: 0 (off) or 1us to 10ms`},
	{with("--busy-poll", "999ns"), `--busy-poll "999ns": allowed: 0 (off) or 1us to 10ms`},
	{with("--busy-poll", "-20us"), `--busy-poll "-20us": allowed: 0 (off) or 1us to 10ms`},
	{with("--host-rate", "0"), `--host-rate "0": allowed: 1 to 1000000000`},
	{with("--host-rate", "1e5"), `--host-rate "1e5": allowed: 1 to 1000000000`},
	{with("--log-level", "trace"), `--log-level "trace": allowed: debug, info, warn, error`},
	{with("--log-format", "xml"), `--log-format "xml": allowed: text, json`},

	{with("--bogus"), `unknown flag: --bogus (see weir --help)`},
	{with("-x"), `unknown shorthand flag: 'x' in -x (see weir --help)`},
	{with("-r", "-A -f 7 -s rr"), `--mark: missing: no rule gives packets the mark of service FWM 7: --mark '7 PROTO DST[/LEN][:PORTS]'`},
	{with("-r", "-A -t 192.0.2.20:80", "-r", "-a -t 192.0.2.20:80 -r 10.0.0.2 -F"),
		`--local-address: missing: FULLNAT (-F) of service TCP 192.0.2.20:80 talks to servers from it`},
	{with("--rules"), `flag needs an argument: --rules (see weir --help)`},

	{with("-r", "-a -t 192.0.2.10:80 -r"), `--rule "-a -t 192.0.2.10:80 -r": "-r": missing argument; ` +
		`-a takes -t|-u|-f|--sctp-service -r -g|-i|-m|-F -w -x -y --tun-type --tun-port --tun-nocsum --tun-csum --tun-remcsum`},
	{with("-r", "-L"), `--rule: -L is no rule; rules are -A -E -D -C -a -e -d --set`},
	{with("-r", "-a -t 192.0.2.11:80 -r 10.0.0.1"), `--rule: -a TCP 192.0.2.11:80 10.0.0.1:80: Service not defined`},
	{with("-r", "-A -u 192.0.2.10:5060 -p 60 --pe sip"), `--rule: -A UDP 192.0.2.10:5060: --pe "sip": ` +
		`persistence engines are not supported; -p without --pe groups clients by address`},
	{with("-r", "-A --sctp-service 192.0.2.10:80 -o"), `--rule "-A --sctp-service 192.0.2.10:80 -o": -o: SCTP 192.0.2.10:80: ` +
		`one-packet scheduling is for UDP services (-u) and firewall marks (-f)`},
	{with("--rules", "/nowhere/rules"), `--rules: open /nowhere/rules: no such file or directory`},
}

// allCPUs are the CPUs that the test may use.
func allCPUs() string {
	set, err := usableCPUs()
	if err != nil {
		panic(err)
	}
	return formatCPUs(set)
}

func TestABadValueIsOneLineThatSaysWhatIsAllowed(t *testing.T) {
	for _, row := range bad {
		lines := refuse(t, row.args...)
		if len(lines) != 1 || lines[0] != "weir: "+row.want {
			t.Errorf("%q:\n%s\nwant\nweir: %s", row.args, strings.Join(lines, "\n"), row.want)
		}
	}
}

// TestEveryFlagRefusesSomething: a new flag needs a row.
func TestEveryFlagRefusesSomething(t *testing.T) {
	_, names := flagTable(t)
	for _, name := range names {
		if name == "version" || name == "help" {
			continue
		}
		if !slices.ContainsFunc(bad, func(row badLine) bool {
			return strings.HasPrefix(row.want, "--"+name+" ") || strings.HasPrefix(row.want, "--"+name+":")
		}) {
			t.Errorf("no row says what --%s refuses", name)
		}
	}
}

func TestAllProblemsAreToldTogether(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rules")
	rules := "-A -t 192.0.2.10:80 -s rr\n# comment\n\n-a -t 192.0.2.10:80 -r 10.0.0.2 -w many\n-A -t 192.0.2.10:80\n-A -t 192.0.2.20:21 -s rr --pe sip -p\n-Q\n"
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	got := refuse(t, "--rules", file, "--connections", "1", "--host-rate", "x", "--zero-copy", "1", "-o", "drop_entry=7", "-l", "here", "-r", "-D -t 1.2.3.4:5")
	want := []string{
		`--interface: missing`,
		`--local-address "here"`,
		`--option "drop_entry=7"`,
		`--connections "1"`,
		`--zero-copy "1"`,
		`--host-rate "x"`,
		file + `:4: -w "many": must be a number from 0 to 2147483647`,
		file + `:7: "-Q": must begin with a command`,
		file + `:5: -A TCP 192.0.2.10:80: Service already exists`,
		file + `:6: -A TCP 192.0.2.20:21: --pe "sip": persistence engines are not supported`,
		`--rule: -D TCP 1.2.3.4:5: No such service`,
	}
	if len(got) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
	for i := range want {
		if !strings.HasPrefix(got[i], "weir: "+want[i]) {
			t.Errorf("line %d is\n%s\nwant\nweir: %s ...", i+1, got[i], want[i])
		}
	}
}

func TestUnknownFlagsDoNotHideTheRest(t *testing.T) {
	got := refuse(t, "--bogus", "--connections", "1", "-Q", "--also=bogus")
	for i, want := range []string{"unknown flag: --bogus", "unknown shorthand flag: 'Q'", "unknown flag: --also", "--interface: missing", `--connections "1"`} {
		if i >= len(got) || !strings.HasPrefix(got[i], "weir: "+want) {
			t.Fatalf("line %d is not %q:\n%s", i+1, want, strings.Join(got, "\n"))
		}
	}
}

func TestAGoodCommandLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rules")
	if err := os.WriteFile(file, []byte("--set 600 0 30\n-A -t 192.0.2.10:80 -s rr\n-A -t 192.0.2.10:21 -s rr # control connections only\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := parse([]string{
		"-i", "nosuchiface0", "--interface=nosuchiface1", "-f", file, "-r", "-a -t 192.0.2.10:80 -r 10.0.0.2:8080 -F -w 3", "-l", "10.0.0.200", "-l10.0.0.201",
		"--local-ports", "2000-2999", "--assign-addresses", "--mss-clamp", "-m", "7 udp 192.0.2.0/24:53", "-o", "sloppy_tcp=1", "-o", "drop_packet=2",
		"--connections", "4096", "--zero-copy", "on", "--xdp-mode", "generic", "--busy-poll", "20us", "--host-rate", "7",
		"--log-level", "warn", "--log-format", "json", "--admin-socket", "/run/other.sock",
	}, os.Stdout)
	if err != nil {
		t.Fatal(err)
	}
	sysctls := lb.DefaultSysctls()
	sysctls.SloppyTCP, sysctls.DropPacket = true, lb.DefenceActive
	want := config{
		interfaces: []string{"nosuchiface0", "nosuchiface1"}, rulesFile: file, rules: c.rules,
		locals:     []netip.Addr{netip.MustParseAddr("10.0.0.200"), netip.MustParseAddr("10.0.0.201")},
		localPorts: portRange{2000, 2999}, assign: true, clampMSS: true,
		marks:   []lb.MarkRule{{Mark: 7, Proto: lb.UDP, Dst: lb.Prefix{Addr: lb.MustParseAddr("192.0.2.0"), Bits: 24}, Low: 53, High: 53}},
		sysctls: sysctls, connections: 4096, zeroCopy: "on", xdpMode: "generic", busyPoll: 20 * time.Microsecond, hostRate: 7,
		logLevel: slog.LevelWarn, logFormat: "json", initial: c.initial, socket: "/run/other.sock",
	}
	if !reflect.DeepEqual(*c, want) {
		t.Errorf("%+v\nwant\n%+v", *c, want)
	}
	services := c.initial.Services()
	if len(services) != 2 || len(services[0].Servers) != 1 || services[0].Servers[0].Mode != lb.FULLNAT || services[1].Key.Port != 21 {
		t.Errorf("services %+v", services)
	}
	if v := c.initial.Timeouts(); v.TCP != 600 || v.TCPFin != 120 || v.UDP != 30 {
		t.Errorf("timeouts %+v", v)
	}
}

// What was saved in an earlier life takes the place of the rules on the command line, which a first start begins with.
func TestSavedRulesComeFirst(t *testing.T) {
	file := filepath.Join(t.TempDir(), "saved")
	for _, want := range []string{"TCP 192.0.2.10:80", "UDP 192.0.2.99:53"} {
		c, err := parse(with("--save", file, "--rules", "/dev/null"), os.Stdout)
		if err != nil {
			t.Fatal(err)
		}
		if s := c.initial.Services(); len(s) != 1 || s[0].Key.String() != want || c.saved != (want != "TCP 192.0.2.10:80") {
			t.Errorf("%+v, saved %t, want %s", s, c.saved, want)
		}
		if err := os.WriteFile(file, []byte("# saved\n-A -u 192.0.2.99:53 -s rr\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(file, []byte("-A -u 192.0.2.99:53 -s rr\n-A -u nowhere\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if lines := refuse(t, with("--save", file)...); len(lines) != 1 || !strings.HasPrefix(lines[0], "weir: --save: "+file+":2: ") {
		t.Errorf("a broken file: %q", lines)
	}
}

func TestDefaults(t *testing.T) {
	c, err := parse(good, os.Stdout)
	if err != nil {
		t.Fatal(err)
	}
	want := config{
		interfaces: []string{"nosuchiface0"}, rules: c.rules, localPorts: portRange{1024, 65535}, sysctls: lb.DefaultSysctls(), connections: 1 << 20,
		zeroCopy: "auto", xdpMode: "auto", hostRate: 100_000, logFormat: "text", initial: c.initial, socket: "/run/weir.sock",
	}
	if !reflect.DeepEqual(*c, want) {
		t.Errorf("%+v\nwant\n%+v", *c, want)
	}
	if got := strings.Join(c.sysctls.All(), " "); got != "am_droprate=10 conn_reuse_mode=1 drop_entry=1 drop_packet=0 expire_nodest_conn=udp "+
		"expire_quiescent_template=0 nat_icmp_send=0 secure_tcp=0 sloppy_sctp=0 sloppy_tcp=0" {
		t.Errorf("settings %s", got)
	}
}

func TestVersion(t *testing.T) {
	for _, flag := range []string{"--version", "-V"} {
		var stdout, stderr bytes.Buffer
		if status := run([]string{flag}, &stdout, &stderr); status != exitDone || stdout.String() != "weir "+buildVersion()+"\n" || stderr.Len() > 0 {
			t.Errorf("%s: status %d, %q, %q", flag, status, &stdout, &stderr)
		}
	}
}

// flagTable returns what --help says behind "Flags:", and the flags' names.
func flagTable(t *testing.T) (table string, names []string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if status := run([]string{"--help"}, &stdout, &stderr); status != exitDone || stderr.Len() > 0 {
		t.Fatalf("status %d, %s", status, &stderr)
	}
	intro, table, found := strings.Cut(stdout.String(), "\nFlags:\n")
	if !found || !strings.HasPrefix(intro, "weir is a layer-4 load balancer") || !strings.Contains(intro, "Usage: weir ") {
		t.Fatalf("help begins with\n%s", intro)
	}
	for _, line := range strings.Split(table, "\n") {
		if _, rest, ok := strings.Cut(line, "--"); ok && strings.Index(line, "--") == 6 {
			name, _, _ := strings.Cut(rest, " ")
			names = append(names, name)
		}
	}
	return table, names
}

// TestREADMEShowsTheHelp: the block under "## Flags" is the help text, indented by four spaces. go test ./cmd/weir -update writes it.
func TestREADMEShowsTheHelp(t *testing.T) {
	const path = "../../README.md"
	table, names := flagTable(t)
	if len(names) < 15 {
		t.Fatalf("flags found in the help: %v", names)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, after, found := strings.Cut(string(file), "\n## Flags\n\n")
	if !found {
		t.Fatal(`README.md has no section "## Flags"`)
	}
	shown := ""
	for strings.HasPrefix(after, "    ") {
		line, rest, _ := strings.Cut(after, "\n")
		shown, after = shown+strings.TrimPrefix(line, "    ")+"\n", rest
	}
	if shown == table {
		return
	}
	if !*update {
		t.Fatalf("README.md shows other flags than --help (go test ./cmd/weir -update writes it):\n%s\nwant\n%s", shown, table)
	}
	block := "    " + strings.ReplaceAll(strings.TrimSuffix(table, "\n"), "\n", "\n    ") + "\n"
	if err := os.WriteFile(path, []byte(before+"\n## Flags\n\n"+block+"\n"+strings.TrimLeft(after, "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
}
