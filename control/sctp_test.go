package control_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"weir/conntrack"
	"weir/control"
	"weir/dataplane/reason"
	"weir/internal/testpkt"
	"weir/lb"
)

// sctpRules returns rules for SCTP at a VIP, with servers by a mode.
func sctpRules(at netip.AddrPort, mode string, servers ...string) []string {
	rules := []string{fmt.Sprintf("-A --sctp-service %s -s rr", at)}
	for _, s := range servers {
		rules = append(rules, fmt.Sprintf("-a --sctp-service %s -r %s %s", at, s, mode))
	}
	return rules
}

// lookup returns the connection of a client's SCTP packets.
func (d *director) lookup(client, virtual netip.AddrPort) (c conntrack.Conn, found bool) {
	f := lb.Flow{Src: lb.AddrFrom(client.Addr()), SrcPort: client.Port(), Dst: lb.AddrFrom(virtual.Addr()), DstPort: virtual.Port(), Proto: lb.SCTP}
	ref, dir := d.conns.Lookup(&f, d.conns.Hash(&f), &c)
	return c, dir == conntrack.Forward && d.conns.Load(ref, &c)
}

func (d *director) wantSCTPState(when, state string, client, virtual netip.AddrPort) {
	d.t.Helper()
	if c, found := d.lookup(client, virtual); !found || c.State.String() != state {
		d.t.Errorf("%s: %s (found %t), want %s", when, c.State, found, state)
	}
}

// TestSCTPVectors sends each packet of an association through each mode and asks for the exact frame that must leave, and the state it leaves.
func TestSCTPVectors(t *testing.T) {
	type families struct {
		client, virtual, server netip.AddrPort
		local, tunnel           netip.Addr // FULLNAT's, and the outer source of TUN
	}
	four := families{cip, vip, netip.MustParseAddrPort("10.0.0.2:8080"), both.Locals[0].Netip(), serverSide.Addr.Netip()}
	six := families{cip6, vip6, netip.MustParseAddrPort("[2001:db8:20::2]:8080"), lip6.Netip(), serverSide.Addr6.Netip()}
	chunks := func(p testpkt.Packet, types ...uint8) testpkt.Packet {
		for i, typ := range types {
			p = p.Chunk(typ, testpkt.Pattern(5+4*i)) // a length that needs padding
		}
		return p
	}
	for _, c := range []struct {
		mode    string
		packets []string // by whom, and the state it leaves
	}{
		{"-g", []string{"c INIT1", "", "c ESTABLISHED", "", "c ESTABLISHED", "", "c S-RECEIVED", "", "c CLOSED"}},
		{"-i", []string{"c INIT1", "", "c ESTABLISHED", "", "c ESTABLISHED", "", "c S-RECEIVED", "", "c CLOSED"}},
		{"-m", []string{"c INIT1", "s C-SENT", "c C-REPLIED", "s ESTABLISHED", "c ESTABLISHED", "s ESTABLISHED", "c S-RECEIVED", "s S-ACK-SENT", "c CLOSED"}},
		{"-F", []string{"c INIT1", "s C-SENT", "c C-REPLIED", "s ESTABLISHED", "c ESTABLISHED", "s ESTABLISHED", "c S-RECEIVED", "s S-ACK-SENT", "c CLOSED"}},
	} {
		for _, f := range []families{four, six} {
			t.Run(c.mode+f.virtual.Addr().String(), func(t *testing.T) {
				d := newDirector6(t, 2, sctpRules(f.virtual, c.mode, f.server.String())...)
				mac := macOf(lb.AddrFrom(f.server.Addr()))
				var local netip.AddrPort
				for i, types := range [][]uint8{
					{testpkt.ChunkInit}, {testpkt.ChunkInitAck}, {testpkt.ChunkCookieEcho, testpkt.ChunkData}, {testpkt.ChunkCookieAck, testpkt.ChunkSack},
					{testpkt.ChunkData, testpkt.ChunkData}, {testpkt.ChunkSack, testpkt.ChunkData},
					{testpkt.ChunkShutdown}, {testpkt.ChunkShutdownAck}, {testpkt.ChunkShutdownComplete},
				} {
					if c.packets[i] == "" {
						continue // it does not pass the director
					}
					var out *testpkt.View
					var want testpkt.Packet
					if c.packets[i][0] == 'c' {
						in := chunks(testpkt.SCTP(f.client, f.virtual), types...)
						out = d.client(in)
						want = in
						switch c.mode {
						case "-m":
							want = chunks(testpkt.SCTP(f.client, f.server), types...)
						case "-F":
							local = out.Src
							if local.Addr() != f.local || local.Port() < 1024 {
								t.Fatalf("from %s, want a port of %s", local, f.local)
							}
							want = chunks(testpkt.SCTP(local, f.server), types...)
						case "-i":
							if out.IP.Src.Addr() != f.tunnel || out.IP.Dst.Addr() != f.server.Addr() || out.Inner.TTL != 63 {
								t.Fatalf("outer %s -> %s, inner TTL %d", out.IP.Src, out.IP.Dst, out.Inner.TTL)
							}
							inner := in.TTL(63).Bytes()[14:]
							if got := out.Frame[14+len(out.IP.Header):]; !bytes.Equal(got, inner) {
								t.Fatalf("chunks %v: inside\n%x, want\n%x", types, got, inner)
							}
						}
						want = want.From(serverSide.MAC[:]).To(mac[:])
					} else {
						to := f.client
						if c.mode == "-F" {
							to = local
						}
						out = d.server(1, chunks(testpkt.SCTP(f.server, to), types...))
						want = chunks(testpkt.SCTP(f.virtual, f.client), types...).From(clientSide.MAC[:]).To(testpkt.ClientMAC)
					}
					if c.mode != "-i" {
						if frame := want.TTL(63).Bytes(); !bytes.Equal(out.Frame, frame) {
							t.Fatalf("chunks %v:\n%x, want\n%x", types, out.Frame, frame)
						}
					}
					d.wantSCTPState(fmt.Sprint(types), c.packets[i][2:], f.client, f.virtual)
				}
			})
		}
	}
}

func TestSCTPCrossesFamiliesByFULLNAT(t *testing.T) {
	for _, c := range []struct{ client, virtual, server netip.AddrPort }{
		{cip6, vip6, netip.MustParseAddrPort("10.0.0.2:8080")}, {cip, vip, netip.MustParseAddrPort("[2001:db8:20::2]:8080")},
	} {
		d := newDirector6(t, 1, sctpRules(c.virtual, "-F", c.server.String())...)
		asked := d.client(testpkt.SCTP(c.client, c.virtual, testpkt.ChunkInit))
		if asked.Dst != c.server {
			t.Fatalf("to %s", asked.Dst)
		}
		answer := d.server(0, testpkt.SCTP(asked.Dst, asked.Src).Chunk(testpkt.ChunkInitAck, []byte("cookie")))
		if answer.Src != c.virtual || answer.Dst != c.client || string(answer.Chunks[0].Body) != "cookie" {
			t.Errorf("%s -> %s: %v", answer.Src, answer.Dst, answer.Chunks)
		}
		// An error on the servers' side about the answer's other direction crosses, too.
		out := d.send(0, 1, testpkt.ICMPError(c.server.Addr(), asked.Src.Addr(), unreachable(c.server.Addr()), noPort(c.server.Addr()), 0, testpkt.SCTP(asked.Src, asked.Dst, testpkt.ChunkInit)))
		if len(out.toClients) != 1 {
			t.Fatalf("%d errors to clients; stops %v", len(out.toClients), stops(d))
		}
		src, dst, proto, err := out.toClients[0].Quoted()
		if err != nil || src != c.client || dst != c.virtual || proto != 132 {
			t.Errorf("quotes %s -> %s of protocol %d, %v", src, dst, proto, err)
		}
	}
}

func unreachable(a netip.Addr) uint8 {
	if a.Is4() {
		return 3
	}
	return 1
}

func noPort(a netip.Addr) uint8 {
	if a.Is4() {
		return 3
	}
	return 4
}

func TestWhatOpensAnSCTPConnection(t *testing.T) {
	rules := sctpRules(vip, "-m", "10.0.0.2:80")
	d := newDirector(t, 1, rules...)
	for _, chunk := range []uint8{testpkt.ChunkData, testpkt.ChunkCookieEcho, testpkt.ChunkHeartbeat, testpkt.ChunkAbort, testpkt.ChunkShutdownAck, 0x80} {
		d.stopped(testpkt.SCTP(cip, vip, chunk), reason.NoConnection) // the kernel's, as in IPVS
	}
	d.stopped(testpkt.SCTP(cip, netip.AddrPortFrom(vip.Addr(), 81), testpkt.ChunkInit), reason.NoService)
	d.stopped(testpkt.TCP(cip, vip, testpkt.SYN), reason.NoService)
	d.stopped(testpkt.SCTP(cip, vip), reason.Truncated)
	d.client(testpkt.SCTP(cip, vip, testpkt.ChunkInit))

	sloppy := lb.DefaultSysctls()
	sloppy.SloppySCTP = true
	d = newDirectorWith(t, 1, conntrack.Options{Capacity: 64}, control.Options{Sysctls: sloppy}, rules...)
	d.stopped(testpkt.SCTP(cip, vip, testpkt.ChunkAbort), reason.NoConnection)
	d.client(testpkt.SCTP(cip, vip, testpkt.ChunkData))
	d.wantSCTPState("DATA with sloppy_sctp", "ESTABLISHED", cip, vip)
}

func TestAnSCTPConnectionEndsWhenIPVSsWould(t *testing.T) {
	d := newDirector(t, 1, sctpRules(vip, "-m", "10.0.0.2:80")...)
	server := netip.MustParseAddrPort("10.0.0.2:80")
	for _, c := range []struct {
		packets string
		after   uint32
	}{{"1", 4}, {"1 1", 61}, {"1 s2", 61}, {"1 s2 10 s11", 900}, {"1 s6", 4}, {"1 s2 10 s11 7 s8 14", 61}} {
		for _, p := range bytes.Fields([]byte(c.packets)) {
			var chunk uint8
			if p[0] == 's' {
				fmt.Sscan(string(p[1:]), &chunk)
				d.server(0, testpkt.SCTP(server, cip, chunk))
			} else {
				fmt.Sscan(string(p), &chunk)
				d.client(testpkt.SCTP(cip, vip, chunk))
			}
		}
		d.sleep(c.after - 1)
		if _, found := d.lookup(cip, vip); !found {
			t.Errorf("%s: gone a second too early", c.packets)
		}
		d.sleep(2)
		if _, found := d.lookup(cip, vip); found {
			t.Errorf("%s: still there a second too late", c.packets)
		}
	}
}

func TestAnINITOnAClosedAssociationIsScheduledAnew(t *testing.T) {
	d := newDirector(t, 1, sctpRules(vip, "-m", "10.0.0.2:80", "10.0.0.3:80")...)
	first := d.client(testpkt.SCTP(cip, vip, testpkt.ChunkInit)).Dst
	d.server(0, testpkt.SCTP(first, cip, testpkt.ChunkInitAck))
	if again := d.client(testpkt.SCTP(cip, vip, testpkt.ChunkInit)).Dst; again != first {
		t.Errorf("an INIT sent again went to %s, the first to %s", again, first)
	}
	d.client(testpkt.SCTP(cip, vip, testpkt.ChunkAbort))
	if second := d.client(testpkt.SCTP(cip, vip, testpkt.ChunkInit)).Dst; second == first {
		t.Errorf("after an ABORT the same ports went to %s again: rr has another server now", second)
	}
}

func TestAPersistentSCTPServiceKeepsItsClients(t *testing.T) {
	rules := sctpRules(vip, "-m", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80")
	rules[0] += " -p 300"
	d := newDirector(t, 1, rules...)
	first := d.client(testpkt.SCTP(cip, vip, testpkt.ChunkInit)).Dst
	for port := uint16(1); port < 10; port++ {
		if v := d.client(testpkt.SCTP(from(port), vip, testpkt.ChunkInit)); v.Dst != first {
			t.Fatalf("to %s, the client's first went to %s", v.Dst, first)
		}
	}
}

func TestSCTPByAFirewallMark(t *testing.T) {
	var marks []lb.MarkRule
	for _, s := range []string{"1 sctp 192.0.2.0/24:80-90"} {
		rule, err := lb.ParseMarkRule(s)
		if err != nil || rule.String() != s {
			t.Fatal(rule, err)
		}
		marks = append(marks, rule)
	}
	d := newDirectorWith(t, 1, conntrack.Options{Capacity: 64}, control.Options{Marks: marks}, "-A -f 1 -s rr", "-a -f 1 -r 10.0.0.2 -m")
	for _, k := range []string{"TCP 10.0.0.2:0", "UDP 10.0.0.2:0", "SCTP 10.0.0.2:0"} {
		if !slices.Contains(d.steer.servers, k) {
			t.Errorf("answers are taken from %v, not %s", d.steer.servers, k)
		}
	}
	to := netip.MustParseAddrPort("192.0.2.77:85")
	asked := d.client(testpkt.SCTP(cip, to, testpkt.ChunkInit))
	if asked.Dst != netip.MustParseAddrPort("10.0.0.2:85") {
		t.Errorf("to %s", asked.Dst)
	}
	if v := d.server(0, testpkt.SCTP(asked.Dst, cip, testpkt.ChunkInitAck)); v.Src != to {
		t.Errorf("answered from %s, want %s", v.Src, to)
	}
	d.stopped(testpkt.UDP(cip, to), reason.NoService)
}

func TestICMPErrorsAboutSCTPFindTheirConnection(t *testing.T) {
	server, router := netip.MustParseAddrPort("10.0.0.2:8080"), netip.MustParseAddr("203.0.113.7")
	for _, mode := range []string{"-m", "-F"} {
		d := newDirector(t, 1, sctpRules(vip, mode, server.String())...)
		asked := d.client(testpkt.SCTP(cip, vip, testpkt.ChunkInit))
		out := d.send(0, 1, testpkt.ICMPError(router, asked.Src.Addr(), 3, 4, 1400, testpkt.SCTP(asked.Src, asked.Dst).Chunk(testpkt.ChunkData, testpkt.Pattern(30))))
		if len(out.toClients) != 1 {
			t.Fatalf("%s: %d errors to clients; %v", mode, len(out.toClients), stops(d))
		}
		v := out.toClients[0]
		src, dst, proto, err := v.Quoted()
		if err != nil || src != cip || dst != vip || proto != 132 || v.Dst.Addr() != cip.Addr() || v.ICMPRest != 1400 {
			t.Errorf("%s: to %s, about %s -> %s of protocol %d, %v", mode, v.Dst, src, dst, proto, err)
		}
		// The quoted packet is, byte for byte, what the client sent (but for its TTL).
		sent := testpkt.SCTP(cip, vip).Chunk(testpkt.ChunkData, testpkt.Pattern(30)).Bytes()[14:]
		if !bytes.Equal(v.Payload[12:], sent[12:]) {
			t.Errorf("%s: quotes\n%x, sent was\n%x", mode, v.Payload[12:], sent[12:])
		}
		// And the other way: the client's router about an answer.
		out = d.send(0, 0, testpkt.ICMPError(router, vip.Addr(), 11, 0, 0, testpkt.SCTP(vip, cip, testpkt.ChunkInitAck)))
		if len(out.toServers) != 1 {
			t.Fatalf("%s: %d errors to servers; %v", mode, len(out.toServers), stops(d))
		}
		if src, dst, _, err := out.toServers[0].Quoted(); err != nil || src != asked.Dst || dst != asked.Src {
			t.Errorf("%s: about %s -> %s, want %s -> %s", mode, src, dst, asked.Dst, asked.Src)
		}
		d.wantSCTPState("errors", "INIT1", cip, vip)
	}
}

func TestAStrayAnswerOfSCTPIsTold(t *testing.T) {
	settings := lb.DefaultSysctls()
	settings.NatICMPSend = true
	d := newDirectorWith(t, 1, conntrack.Options{Capacity: 64}, control.Options{Sysctls: settings}, sctpRules(vip, "-m", "10.0.0.2:80")...)
	server := netip.MustParseAddrPort("10.0.0.2:80")
	out := d.send(0, 1, testpkt.SCTP(server, cip, testpkt.ChunkData))
	if len(out.toServers) != 1 || out.toServers[0].ICMPType != 3 || out.toServers[0].ICMPCode != 3 {
		t.Errorf("%+v, want port unreachable", out.toServers)
	}
	if out = d.send(0, 1, testpkt.SCTP(server, cip, testpkt.ChunkAbort)); len(out.toServers) != 0 {
		t.Errorf("%+v in answer to an ABORT", out.toServers)
	}
}

func TestSCTPsCountsAreIPVSs(t *testing.T) {
	d := newDirector(t, 1, sctpRules(vip, "-m", "10.0.0.2:80")...)
	server := netip.MustParseAddrPort("10.0.0.2:80")
	wants := func(when string, active, inactive int32) {
		t.Helper()
		s := d.shared.Table().Service(&lb.Flow{Dst: lb.AddrFrom(vip.Addr()), DstPort: 80, Proto: lb.SCTP})
		load := s.Versions[len(s.Versions)-1].List.Servers[0].Load
		if load.Active.Load() != active || load.Inactive.Load() != inactive {
			t.Errorf("%s: %d active, %d inactive, want %d and %d", when, load.Active.Load(), load.Inactive.Load(), active, inactive)
		}
	}
	d.client(testpkt.SCTP(cip, vip, testpkt.ChunkInit))
	wants("INIT", 0, 1)
	d.server(0, testpkt.SCTP(server, cip, testpkt.ChunkInitAck))
	d.client(testpkt.SCTP(cip, vip, testpkt.ChunkCookieEcho))
	wants("COOKIE ECHO", 0, 1)
	d.server(0, testpkt.SCTP(server, cip, testpkt.ChunkCookieAck))
	wants("COOKIE ACK", 1, 0)
	d.server(0, testpkt.SCTP(server, cip, testpkt.ChunkShutdown))
	wants("SHUTDOWN", 0, 1)
	d.sleep(62)
	wants("its end", 0, 0)
}

func TestATraceOfSCTPForetells(t *testing.T) {
	d := newDirector(t, 1, "-A --sctp-service 192.0.2.10:80 -s sh", "-a --sctp-service 192.0.2.10:80 -r 10.0.0.2:80 -m", "-a --sctp-service 192.0.2.10:80 -r 10.0.0.3:80 -m")
	f := flowOf(cip, vip)
	f.Proto = lb.SCTP
	if tr := d.store.Trace(f, testpkt.ChunkData); tr.Why != reason.NoConnection {
		t.Errorf("DATA without a connection: %s", tr.Why)
	}
	tr := d.store.Trace(f, testpkt.ChunkInit)
	if !tr.Opens || tr.Choice == nil {
		t.Fatalf("an INIT: %+v", tr)
	}
	if went := d.client(testpkt.SCTP(cip, vip, testpkt.ChunkInit)).Dst.Addr(); went != tr.Choice.Addr.Netip() {
		t.Errorf("foretold %s, went to %s", tr.Choice.Addr, went)
	}
	d.client(testpkt.SCTP(cip, vip, testpkt.ChunkAbort))
	if tr = d.store.Trace(f, testpkt.ChunkInit); tr.Dir != conntrack.Forward || !tr.Superseded {
		t.Errorf("an INIT on a closed association: %+v", tr)
	}
}
