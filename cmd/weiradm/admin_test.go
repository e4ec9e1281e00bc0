package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"weir/control/api"
	"weir/internal/testpkt"
	"weir/ipvsadm"
	"weir/lb"
)

// refused runs a command line that must fail, and returns what it wrote to standard error, line by line.
func (r *rig) refused(line, stdin string, exit int) []string {
	r.t.Helper()
	got, stdout, stderr := r.weiradm(line, stdin)
	if got != exit || stdout != "" || stderr == "" {
		r.t.Fatalf("weiradm %s: exit %d, %q, %q, want exit %d and a reason", line, got, stdout, stderr, exit)
	}
	return strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
}

// What is typed wrong or cannot be done is answered in ipvsadm's words first, and then with what is allowed.
func TestRefusalsSayWhatIsAllowed(t *testing.T) {
	r := newRig(t)
	r.must("-A -t 10.9.0.1:80 -s rr", "-a -t 10.9.0.1:80 -r 10.20.0.1:80 -m")
	before := r.must("-Sn")
	for _, row := range []struct {
		line string
		exit int
		want []string
	}{
		{"-a -t 10.9.0.1:80 -r 10.20.0.2:80 -w many", 2, []string{"illegal weight specified", `weiradm: -w "many": must be a number from 0 to 2147483647`}},
		{"-X", 255, []string{"Try `weiradm -h' or 'weiradm --help' for more information.", `weiradm: "-X": must begin with a command`}},
		{"-D -t 10.9.0.2:80", 255, []string{"No such service", "weiradm: -D TCP 10.9.0.2:80: No such service"}},
		{"-A --sctp-service 10.9.0.1:80 -o", 2, []string{"One-Packet Scheduling is only for UDP virtual services", "weiradm: -o: SCTP 10.9.0.1:80"}},
		{"--start-daemon master", 255, []string{"--start-daemon master: weir has no IPVS sync daemon"}},
		{"-a -t 10.9.0.1:80 -r 203.0.113.66:80 -m", 255, []string{
			"service TCP 10.9.0.1:80: server 203.0.113.66: is reached through eth7, which weir was not given: add --interface eth7"}},
		{"-A -f 99", 255, []string{"service FWM 99: no rule gives packets of its IP version this mark: --mark '99 PROTO DST[/LEN][:PORTS]'"}},
		{"-Ln --atomic", 255, []string{"--atomic: unknown option", `weiradm: "--atomic": unknown option`}},
		{"-L -t 10.9.0.2:80", 1, []string{"No such service", "weiradm: -L TCP 10.9.0.2:80: No such service"}},
		{"nonsense", 255, []string{"Try `weiradm -h'", `weiradm: "nonsense": no such command: it is one of status, `}},
		{"status now", 2, []string{`weiradm: status: "now": takes flags only (see weiradm status --help)`}},
		{"status --color", 2, []string{`weiradm: status: unknown flag: --color (see`}},
		{"connections --client here", 2, []string{`weiradm: connections: --client "here": want ADDRESS, ADDRESS/LENGTH, ADDRESS:PORT or :PORT`}},
		{"connections --protocol icmp", 2, []string{`weiradm: connections: --protocol "icmp": allowed: tcp, udp, sctp`}},
		{"trace tcp 1.2.3.4:5", 2, []string{`weiradm: trace: want PROTOCOL SOURCE DESTINATION, got 2 words`}},
		{"trace icmp 1.2.3.4:5 1.2.3.4:6", 2, []string{`weiradm: trace: protocol "icmp": allowed: tcp, udp, sctp`}},
		{"trace tcp 1.2.3.4 1.2.3.4:6", 2, []string{`weiradm: trace: "1.2.3.4": want ADDRESS:PORT`}},
		{"drain", 2, []string{`weiradm: drain: want one SERVER, got 0 words`}},
		{"drain 10.0.0.0/8", 2, []string{`weiradm: drain: "10.0.0.0/8": want ADDRESS or ADDRESS:PORT`}},
		{"drain 10.20.0.9", 1, []string{`weiradm: no service has a server 10.20.0.9`}},
		{"completion ksh", 2, []string{`weiradm: completion: allowed: bash, zsh, fish`}},
		{"--socket", 2, []string{"weiradm: --socket: missing its path"}},
	} {
		lines := r.refused(row.line, "", row.exit)
		if len(lines) > 2 || !slices.EqualFunc(lines, row.want, strings.HasPrefix) {
			t.Errorf("weiradm %s:\n%s\nwant\n%s", row.line, strings.Join(lines, "\n"), strings.Join(row.want, "\n"))
		}
	}
	if after := r.must("-Sn"); after != before {
		t.Errorf("refusals changed the rules:\n%s", after)
	}
	if lines := r.refused("--socket /nowhere/weir.sock -Ln", "", 255); !strings.Contains(lines[0], "/nowhere/weir.sock: no weir is listening there") {
		t.Errorf("%q", lines)
	}
}

func TestRestoreGoesLineByLine(t *testing.T) {
	r := newRig(t)
	exit, stdout, stderr := r.weiradm("-R", "# moved from the old host\n\n-A -t 10.9.0.1:80 -s rr\nipvsadm -a -t 10.9.0.1:http -r 10.20.0.1 -m\n"+
		"-a -t 10.9.0.9:80 -r 10.20.0.1:80 -m\n-a -t 10.9.0.1:80 -r 10.20.0.2:80 -m\n")
	if exit != 0 || stdout != "" || stderr != "Service not defined\nweiradm: line 5: -a TCP 10.9.0.9:80 10.20.0.1:80: Service not defined\n" {
		t.Errorf("exit %d: %q, %q: it goes on after a line that is refused", exit, stdout, stderr)
	}
	saved := r.must("-Sn")
	if strings.Count(saved, "\n") != 3 {
		t.Errorf("-Sn:\n%s", saved)
	}
	exit, _, stderr = r.weiradm("-R", "-A -t 10.9.0.2:80\n-w 5\n-A -t 10.9.0.3:80\n")
	if exit != 255 || !strings.Contains(stderr, "weiradm: line 2: ") {
		t.Errorf("exit %d: %q: it stops at a line that it cannot read", exit, stderr)
	}
	if out := r.must("-Sn"); !strings.Contains(out, "10.9.0.2") || strings.Contains(out, "10.9.0.3") {
		t.Errorf("the lines before are done, those behind are not:\n%s", out)
	}
	exit, _, stderr = r.weiradm("-R", "-A -t 10.9.0.5:80 --pe sip\n")
	if exit != 0 || stderr != `weiradm: line 1: -A TCP 10.9.0.5:80: --pe "sip": persistence engines are not supported; -p without --pe groups clients by address`+"\n" {
		t.Errorf("exit %d: %q: one line about what weir does not have", exit, stderr)
	}
	for input, want := range map[string]string{
		"-A -t 10.9.0.4:80\n" + strings.Repeat("x", 5000) + "\n": "weiradm: line 2: longer than 4095 bytes\n",
		strings.Repeat("x", 4000) + "\n":                         `weiradm: line 1: "` + strings.Repeat("x", 60) + `": must begin with a command, `,
	} {
		if exit, _, stderr = r.weiradm("-R", input); exit == 0 || !strings.Contains(stderr, want) || len(stderr) > 400 {
			t.Errorf("exit %d: %q: want %q", exit, stderr, want)
		}
	}
}

// How far a long -R has come is for people at a terminal only.
func TestRestoreSaysHowFarItHasCome(t *testing.T) {
	const rules = progressFrom + 100
	var input strings.Builder
	for i := range rules {
		fmt.Fprintf(&input, "-A -t 10.9.%d.%d:80\n", i>>8, i&255)
	}
	for _, terminal := range []bool{false, true} {
		r := newRig(t)
		var out, err bytes.Buffer
		p := program{ctx: t.Context(), env: environment(r.socket, ""), stdin: strings.NewReader(input.String()), stdout: &out, stderr: &err, progress: terminal}
		if exit := p.run([]string{"-R"}); exit != 0 || out.Len() > 0 || len(r.admin.Rules().Services()) != rules {
			t.Errorf("exit %d: %s%s", exit, &out, &err)
		}
		if said := err.String(); !terminal && said != "" || terminal && !strings.HasSuffix(said, fmt.Sprintf("\r%d rules\n", rules)) {
			t.Errorf("at a terminal %t: %q", terminal, said)
		}
	}
}

func TestRestoreCanBeMadeWhole(t *testing.T) {
	r := newRig(t)
	r.must("-A -t 10.9.0.1:80 -s rr")
	exit, _, stderr := r.weiradm("-R --atomic", "-C\n-A -t 10.9.0.2:80\n-a -t 10.9.0.3:80 -r 10.20.0.1 -m\n-a -t 10.9.0.2:80 -r 203.0.113.66 -m\n")
	if exit != 255 || strings.Count(stderr, "weiradm: line ") != 2 || !strings.Contains(stderr, "line 3: ") || !strings.Contains(stderr, "line 4: ") {
		t.Errorf("exit %d: %s", exit, stderr)
	}
	if out := r.must("-Sn"); out != "-A -t 10.9.0.1:80 -s rr\n" {
		t.Errorf("after a refusal:\n%s", out)
	}
	if exit, _, stderr = r.weiradm("-R --atomic", "-C\n-A -t 10.9.0.2:80\n-w\n"); exit != 255 || !strings.Contains(stderr, "line 3") {
		t.Errorf("exit %d: %s", exit, stderr)
	}
	if exit, _, stderr = r.weiradm("-R --atomic", "-C\n-A -t 10.9.0.2:80 -s wlc\n-a -t 10.9.0.2:80 -r 10.20.0.1:80 -m\n"); exit != 0 || stderr != "" {
		t.Errorf("exit %d: %s", exit, stderr)
	}
	if out := r.must("-Sn"); out != "-A -t 10.9.0.2:80 -s wlc\n-a -t 10.9.0.2:80 -r 10.20.0.1:80 -m -w 1\n" {
		t.Errorf("after it was accepted:\n%s", out)
	}
}

// A random sequence of commands leaves the rules, what is served and the addresses on the host in agreement, whether the commands come
// one by one, many together, or as one.
func TestRulesStoreAndAddressesAgree(t *testing.T) {
	r := newRig(t)
	var lines [][]string
	vips := []string{"-t 10.9.0.1:80", "-t 10.9.0.1:81", "-u 10.9.0.2:53", "-f 7"}
	next := 0
	random := func(n int) int { next = (next*1103515245 + 12345) & 0x7fffffff; return next >> 8 % n }
	for range 600 {
		vip, server := vips[random(len(vips))], fmt.Sprintf("-r 10.20.0.%d:80", 1+random(3))
		switch random(9) {
		case 0, 1:
			lines = append(lines, strings.Fields("-A "+vip+" -s rr"))
		case 2, 3, 4:
			lines = append(lines, strings.Fields("-a "+vip+" "+server+" -m"))
		case 5:
			lines = append(lines, strings.Fields(fmt.Sprintf("-e %s %s -m -w %d", vip, server, random(5))))
		case 6:
			lines = append(lines, strings.Fields("-d "+vip+" "+server))
		case 7:
			lines = append(lines, strings.Fields("-D "+vip))
		case 8:
			lines = append(lines, strings.Fields("-E "+vip+" -s wlc"))
		}
	}
	lines = append(lines, []string{"-C"}, strings.Fields("-A -t 10.9.0.1:80"), strings.Fields("-D -t 10.9.0.1:80"), strings.Fields("-A -u 10.9.0.2:53"))
	c := api.NewClient(r.socket)
	defer c.Close()
	var model ipvsadm.Rules
	for len(lines) > 0 {
		n := min(len(lines), 1+random(20))
		batch := lines[:n]
		lines = lines[n:]
		want := 0
		for _, words := range batch {
			cmd, err := ipvsadm.ParseWords(words)
			if err != nil {
				t.Fatal(err)
			}
			if model.Apply(cmd) == nil {
				want++
			}
		}
		done, err := c.Change(t.Context(), api.Change{Commands: batch})
		if done.Applied != want || done.Applied+len(done.Refused) != n || (err == nil) != (want == n) {
			t.Fatalf("%v: %+v, %v; want %d done", batch, done, err, want)
		}
		r.agrees(&model)
	}
}

// agrees compares rules with the Store's services, and with the addresses that were put on the host.
func (r *rig) agrees(model *ipvsadm.Rules) {
	r.t.Helper()
	byKey := map[lb.ServiceKey]lb.Service{}
	for _, s := range r.store.Services() {
		byKey[s.Key] = s
	}
	addresses := map[lb.Addr]bool{}
	for _, s := range model.Services() {
		if got, want := fmt.Sprintf("%+v", byKey[s.Key]), fmt.Sprintf("%+v", s); got != want {
			r.t.Fatalf("served\n%s\nwant\n%s", got, want)
		}
		delete(byKey, s.Key)
		if s.Key.Addr.IsValid() {
			addresses[s.Key.Addr] = true
		}
	}
	if len(byKey) > 0 || !reflect.DeepEqual(addresses, r.addresses) {
		r.t.Fatalf("served besides: %v; addresses on the host: %v, want %v", byKey, r.addresses, addresses)
	}
}

// Two edits that change nothing but the service's parts leave its connections, its counters and the others alone; a reload too.
func TestAReloadAppliesTheDifference(t *testing.T) {
	r := newRig(t)
	r.must("-A -t 10.9.0.1:80 -s rr", "-a -t 10.9.0.1:80 -r 10.20.0.1:80 -m", "-A -u 10.9.0.2:53 -s rr")
	r.client(testpkt.TCP(from(1), vip, testpkt.SYN))
	var rules ipvsadm.Rules
	for _, line := range []string{"--set 100 0 0", "-A -t 10.9.0.1:80 -s rr", "-a -t 10.9.0.1:80 -r 10.20.0.1:80 -m", "-A -t 10.9.0.3:80 -s rr"} {
		c, err := ipvsadm.ParseLine(line)
		if err == nil {
			err = rules.Apply(c)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if done, err := r.admin.Replace(t.Context(), rules.Clone()); err != nil || !done {
		t.Fatal(err)
	}
	r.agrees(&rules)
	if out := r.must("-Ln --stats -t 10.9.0.1:80"); !strings.Contains(out, "TCP  10.9.0.1:80                         1        1 ") {
		t.Errorf("the counters:\n%s", out)
	}
	if out := r.must("-L --timeout"); out != "Timeout (tcp tcpfin udp): 100 120 300\n" || r.conns.Timeouts().TCP[1] != 100 {
		t.Errorf("%s, %v", out, r.conns.Timeouts())
	}
	bad := rules.Clone()
	c, _ := ipvsadm.ParseLine("-a -t 10.9.0.3:80 -r 203.0.113.66:80 -m")
	if err := bad.Apply(c); err != nil {
		t.Fatal(err)
	}
	if done, err := r.admin.Replace(t.Context(), bad); err == nil || done {
		t.Error("a server that cannot be reached was accepted")
	}
	r.agrees(&rules)
}

func TestZeroAndLocal(t *testing.T) {
	r := newRig(t)
	r.paths.local = lb.MustParseAddr("10.20.0.2")
	r.must("-A -t 10.9.0.1:80 -s rr", "-a -t 10.9.0.1:80 -r 10.20.0.1:80 -m", "-a -t 10.9.0.1:80 -r 10.20.0.2:80 -m")
	for port := uint16(1); port <= 4; port++ {
		r.client(testpkt.TCP(from(port), vip, testpkt.SYN))
	}
	out := r.must("-Ln")
	if !strings.Contains(out, "-> 10.20.0.1:80                 Masq    1      2          0") || !strings.Contains(out, "-> 10.20.0.2:80                 Local   1      2          0") {
		t.Errorf("-Ln:\n%s", out)
	}
	if out = r.must("-Z -t 10.9.0.1:80", "-Ln --stats"); !strings.Contains(out, "TCP  10.9.0.1:80                         0        0        0        0        0") {
		t.Errorf("after -Z:\n%s", out)
	}
}

func TestConnections(t *testing.T) {
	r := newRig(t)
	r.must("-A -t 10.9.0.1:80 -s rr -p 600", "-a -t 10.9.0.1:80 -r 10.20.0.1:8080 -F", "-A -u 10.9.0.1:53 -s rr", "-a -u 10.9.0.1:53 -r 10.20.0.2:53 -m")
	for port := uint16(1); port <= 3; port++ {
		r.client(testpkt.TCP(from(port), vip, testpkt.SYN))
		r.client(testpkt.UDP(from(port), netip.MustParseAddrPort("10.9.0.1:53")).Text("x"))
	}
	r.client(testpkt.TCP(from(2), vip, testpkt.ACK))
	for filter, want := range map[string]int{
		"": 7, "--protocol tcp": 4, "--protocol udp": 3, "--templates no": 6, "--templates only": 1, "--state established": 1, "--mode fullnat": 4,
		"--client 198.51.100.7:2": 2, "--client :2 --protocol udp": 1, "--virtual :80": 4, "--server 10.20.0.2": 3, "--local 10.20.0.200": 3, "--server 10.20.0.9": 0,
	} {
		if out := r.must("connections -c " + filter); strings.TrimSpace(out) != fmt.Sprint(want) {
			t.Errorf("connections -c %s: %s, want %d", filter, out, want)
		}
		if out := r.must("connections " + filter); strings.Count(out, "\n") != want+1 {
			t.Errorf("connections %s:\n%s\nwant %d", filter, out, want)
		}
	}
	r.sleep(5)
	if out := r.must("connections --state established"); out[:strings.LastIndex(out, ":")] != ""+ // the local port is drawn
		"PROT STATE         LEFT  MODE    CLIENT                 VIRTUAL                SERVER                 LOCAL\n"+
		"TCP  ESTABLISHED  14:55  fullnat 198.51.100.7:2         10.9.0.1:80            10.20.0.1:8080         10.20.0.200" {
		t.Errorf("connections:\n%s", out)
	}
	var c api.Connection
	if out := r.must("connections --json --limit 1 --templates only"); json.Unmarshal([]byte(out), &c) != nil || !c.Template || c.Client != from(0) || c.State != "ASSURED" {
		t.Errorf("%s", out)
	}
}

// The table is paged through whole, whatever a page holds.
func TestConnectionsComeInPages(t *testing.T) {
	r := newRig(t)
	r.must("-A -u 10.9.0.1:53 -s rr", "-a -u 10.9.0.1:53 -r 10.20.0.2:53 -m")
	for port := uint16(1); port <= 300; port++ {
		r.client(testpkt.UDP(from(port), netip.MustParseAddrPort("10.9.0.1:53")).Text("x"))
	}
	c := api.NewClient(r.socket)
	defer c.Close()
	for _, size := range []int{1, 7, 300, 10_000} {
		seen := map[netip.AddrPort]int{}
		for at := uint32(0); ; {
			page, err := c.Page(t.Context(), api.Filter{}, at, size, false)
			if err != nil || len(page.Connections) > size {
				t.Fatalf("%d connections, %v", len(page.Connections), err)
			}
			for _, conn := range page.Connections {
				seen[conn.Client]++
			}
			if at = page.Next; at == 0 {
				break
			}
		}
		for client, n := range seen {
			if n != 1 {
				t.Errorf("pages of %d: %s came %d times", size, client, n)
			}
		}
		if len(seen) != 300 {
			t.Errorf("pages of %d: %d connections", size, len(seen))
		}
	}
}

func TestTrace(t *testing.T) {
	r := newRig(t)
	r.must("-A -t 10.9.0.1:80 -s sh", "-a -t 10.9.0.1:80 -r 10.20.0.1:8080 -m", "-A -t 10.9.0.1:81 -s rr", "-a -t 10.9.0.1:81 -r 10.20.0.2:81 -m -x 1", "-A -t 10.9.0.1:82 -s wlc")
	r.client(testpkt.TCP(from(9), netip.MustParseAddrPort("10.9.0.1:81"), testpkt.SYN))
	r.client(testpkt.TCP(from(9), netip.MustParseAddrPort("10.9.0.1:81"), testpkt.ACK))
	r.paths.lost, r.paths.local = lb.MustParseAddr("10.20.0.4"), lb.MustParseAddr("10.20.0.3")
	r.must("-a -t 10.9.0.1:81 -r 10.20.0.1:81 -g -w 3", "-a -t 10.9.0.1:81 -r 10.20.0.4 -m", "-a -t 10.9.0.1:81 -r 10.20.0.3 -m")
	if out := r.must("trace tcp 198.51.100.7:1 10.9.0.1:80"); out != `TCP 198.51.100.7:1 -> 10.9.0.1:80
  no connection has this flow
  service TCP 10.9.0.1:80
  sh hashes the flow to 10.20.0.1:8080
  server   10.20.0.1:8080
  rewrite  NAT: destination 10.9.0.1:80 -> 10.20.0.1:8080
  path     server0 to 02:00:00:00:00:31, MTU 1500
` {
		t.Errorf("a hash:\n%s", out)
	}
	if out := r.must("trace TCP 198.51.100.7:1 -> 10.9.0.1:81"); out != `TCP 198.51.100.7:1 -> 10.9.0.1:81
  no connection has this flow
  service TCP 10.9.0.1:81
  rr chooses among 4 servers; which one is next depends on state that only asking it would reveal, and move on
    SERVER                 WEIGHT   ACTIVE INACTIVE  WAY
    10.20.0.3:81                1        0        0  local
    10.20.0.4:81                1        0        0  nat: unreachable
    10.20.0.1:81                3        0        0  dr by server0 to 02:00:00:00:00:31
    10.20.0.2:81                1        1        0  nat by server0 to 02:00:00:00:00:31; over its threshold
` {
		t.Errorf("a turn:\n%s", out)
	}
	if out := r.must("trace tcp 198.51.100.7:1 10.9.0.1:82"); !strings.Contains(out, "  stopped  no-server: ") {
		t.Errorf("no server:\n%s", out)
	}
	if out := r.must("trace udp 198.51.100.7:1 10.9.0.1:80"); !strings.Contains(out, "no service is for UDP 10.9.0.1:80") || !strings.Contains(out, "  stopped  no-service: ") {
		t.Errorf("no service:\n%s", out)
	}
	r.client(testpkt.TCP(from(1), vip, testpkt.SYN))
	if out := r.must("trace tcp 198.51.100.7:1 10.9.0.1:80 --flags A"); !strings.Contains(out, "it belongs to a connection: SYN_RECV, 60 s left") {
		t.Errorf("a connection:\n%s", out)
	}
	if out := r.must("trace tcp 10.20.0.1:8080 198.51.100.7:1 --flags SA"); !strings.Contains(out, "it is an answer of a connection") || !strings.Contains(out, "source 10.20.0.1:8080 -> 10.9.0.1:80") ||
		!strings.Contains(out, "path     client0 to ") {
		t.Errorf("an answer:\n%s", out)
	}
	var tr api.Trace
	if out := r.must("trace --json tcp 198.51.100.7:2 10.9.0.1:80"); json.Unmarshal([]byte(out), &tr) != nil || tr.Foresight != "hash" || tr.Server != "10.20.0.1:8080" {
		t.Errorf("%s", out)
	}
	if n := r.conns.Stats().Opened; n != 2 {
		t.Errorf("%d connections, want the two that packets opened", n)
	}
}

func TestDrain(t *testing.T) {
	r := newRig(t)
	r.must("-A -t 10.9.0.1:80 -s rr", "-a -t 10.9.0.1:80 -r 10.20.0.1:80 -m -w 5 -x 9", "-a -t 10.9.0.1:80 -r 10.20.0.2:80 -m", "-A -u 10.9.0.1:53", "-a -u 10.9.0.1:53 -r 10.20.0.1:53 -m")
	r.client(testpkt.TCP(from(1), vip, testpkt.SYN))
	r.client(testpkt.TCP(from(2), vip, testpkt.SYN))
	exit, stdout, stderr := r.weiradm("drain 10.20.0.1 --timeout 1ms", "")
	if exit != 1 || stdout != "10.20.0.1 has weight 0 in TCP 10.9.0.1:80, UDP 10.9.0.1:53\n1 active, 0 inactive connections left\n" ||
		stderr != "weiradm: the time is over, and 10.20.0.1 still has connections\n" {
		t.Errorf("exit %d\n%s%s", exit, stdout, stderr)
	}
	if out := r.must("-Ln --thresholds", "-Ln"); !strings.Contains(out, "10.20.0.1:80                 9 ") || !strings.Contains(out, "10.20.0.1:80                 Masq    0 ") {
		t.Errorf("everything else of the server stays:\n%s", out)
	}
	for port := uint16(3); port < 8; port++ {
		if v := r.client(testpkt.TCP(from(port), vip, testpkt.SYN)); v.Dst.Addr() != netip.MustParseAddr("10.20.0.2") {
			t.Errorf("a new connection went to %s", v.Dst)
		}
	}
	r.sleep(61)
	if out := r.must("drain 10.20.0.1"); !strings.HasSuffix(out, "\nno connections left\n") {
		t.Errorf("%s", out)
	}
	var d drained
	if out := r.must("drain 10.20.0.2:80 --json"); json.Unmarshal([]byte(out), &d) != nil || d.Server != "10.20.0.2:80" || len(d.Services) != 1 {
		t.Errorf("%s", out)
	}
	if out := r.must("drain 10.20.0.2:80 --remove"); !strings.Contains(out, "\nremoved from TCP ") || strings.Contains(r.must("-Sn"), "10.20.0.2:80") {
		t.Errorf("drain --remove printed\n%s\nand left\n%s", out, r.must("-Sn"))
	}
	// A server that can no longer be reached can still be drained.
	r.must("-A -t 10.9.0.1:90", "-a -t 10.9.0.1:90 -r 10.20.0.9:90 -m")
	r.paths.strange = lb.MustParseAddr("10.20.0.9")
	r.must("drain 10.20.0.9")
}

// A server is taken out of services of every kind.
func TestDrainRemovesFromEveryKindOfService(t *testing.T) {
	r := newRig(t)
	for _, service := range []string{"-t 10.9.0.1:80", "-u 10.9.0.1:53", "--sctp-service 10.9.0.1:2905", "-f 7"} {
		r.must("-A "+service, "-a "+service+" -r 10.20.0.1 -m", "-a "+service+" -r 10.20.0.2 -m")
	}
	for _, service := range []string{"-t [2001:db8:9::1]:80", "-f 8 -6"} {
		r.must("-A "+service, "-a "+service+" -r 2001:db8:20::1 -m")
	}
	r.must("drain 10.20.0.1 --remove", "drain 2001:db8:20::1 --remove")
	rules := r.must("-Sn")
	if strings.Contains(rules, "10.20.0.1:") || strings.Contains(rules, "2001:db8:20::1") || strings.Count(rules, "10.20.0.2:") != 4 {
		t.Errorf("what is left:\n%s", rules)
	}
}
