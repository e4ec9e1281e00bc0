package control_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"weir/conntrack"
	"weir/control"
	"weir/dataplane/packet"
	"weir/dataplane/reason"
	"weir/internal/testpkt"
	"weir/lb"
)

// vpn is a service for ISAKMP, of either family, and its only server.
type vpn struct{ client, virtual, server netip.AddrPort }

var vpns = []vpn{
	{netip.MustParseAddrPort("198.51.100.7:500"), netip.MustParseAddrPort("192.0.2.10:500"), netip.MustParseAddrPort("10.0.0.2:500")},
	{netip.MustParseAddrPort("[2001:db8:1::7]:500"), netip.MustParseAddrPort("[2001:db8:9::10]:500"), netip.MustParseAddrPort("[2001:db8:20::2]:500")},
}

func (v *vpn) rules(mode string) []string {
	return []string{fmt.Sprintf("-A -u %s -s rr", v.virtual), fmt.Sprintf("-a -u %s -r %s %s", v.virtual, v.server, mode)}
}

func (v *vpn) isakmp() testpkt.Packet { return testpkt.UDP(v.client, v.virtual).Text("keys") }

// sealed is a packet of AH or ESP with bytes that must arrive as they are.
func sealed(src, dst netip.Addr, proto lb.Proto, n int) testpkt.Packet {
	return testpkt.Raw(src, dst, uint8(proto)).Payload(testpkt.Pattern(n))
}

// TestIPsecVectors asks for the exact frames that AH and ESP leave as, in both directions.
func TestIPsecVectors(t *testing.T) {
	for _, v := range vpns {
		for _, proto := range []lb.Proto{packet.ESP, packet.AH} {
			for _, mode := range []string{"-g", "-i", "-m"} {
				t.Run(fmt.Sprintf("%s%d%s", v.virtual.Addr(), proto, mode), func(t *testing.T) {
					d := newDirector6(t, 2, v.rules(mode)...)
					in := sealed(v.client.Addr(), v.virtual.Addr(), proto, 100)
					d.stopped(in, reason.IPsec) // nobody has agreed on keys yet
					d.client(v.isakmp())
					mac := macOf(lb.AddrFrom(v.server.Addr()))
					out := d.client(in)
					if mode == "-i" {
						inner := in.TTL(63).Bytes()[14:]
						if got := out.Frame[14+len(out.IP.Header):]; !bytes.Equal(got, inner) || out.IP.Dst.Addr() != v.server.Addr() {
							t.Fatalf("to %s\n%x, want\n%x", out.IP.Dst, got, inner)
						}
						return
					}
					want := in
					if mode == "-m" {
						want = sealed(v.client.Addr(), v.server.Addr(), proto, 100)
					}
					if want := want.From(serverSide.MAC[:]).To(mac[:]).TTL(63).Bytes(); !bytes.Equal(out.Frame, want) {
						t.Fatalf("to the server\n%x, want\n%x", out.Frame, want)
					}
					if mode != "-m" {
						return
					}
					back := d.server(1, sealed(v.server.Addr(), v.client.Addr(), proto, 60))
					if want := sealed(v.virtual.Addr(), v.client.Addr(), proto, 60).From(clientSide.MAC[:]).To(testpkt.ClientMAC).TTL(63).Bytes(); !bytes.Equal(back.Frame, want) {
						t.Errorf("to the client\n%x, want\n%x", back.Frame, want)
					}
				})
			}
		}
	}
}

func TestIPsecFollowsItsOwnISAKMPExchangeOnly(t *testing.T) {
	v := vpns[0]
	d := newDirector(t, 1, "-A -u 192.0.2.10:500 -s rr", "-a -u 192.0.2.10:500 -r 10.0.0.2 -g", "-a -u 192.0.2.10:500 -r 10.0.0.3 -g",
		"-A -u 192.0.2.10:4500 -s rr", "-a -u 192.0.2.10:4500 -r 10.0.0.2 -g")
	other := netip.MustParseAddr("198.51.100.8")
	first := d.client(v.isakmp()).DstMAC.String()
	second := d.client(testpkt.UDP(netip.AddrPortFrom(other, 500), v.virtual)).DstMAC.String()
	if first == second {
		t.Fatal("rr sent both to one server")
	}
	for range 3 {
		if got := d.client(sealed(v.client.Addr(), v.virtual.Addr(), packet.ESP, 50)).DstMAC.String(); got != first {
			t.Errorf("ESP to %s, its exchange to %s", got, first)
		}
		if got := d.client(sealed(other, v.virtual.Addr(), packet.AH, 50)).DstMAC.String(); got != second {
			t.Errorf("AH to %s, its exchange to %s", got, second)
		}
	}
	third := netip.MustParseAddr("198.51.100.9")
	d.client(testpkt.UDP(netip.AddrPortFrom(third, 501), v.virtual)) // from another port
	d.client(testpkt.UDP(netip.AddrPortFrom(third, 500), netip.MustParseAddrPort("192.0.2.10:4500")))
	d.stopped(sealed(third, v.virtual.Addr(), packet.ESP, 50), reason.IPsec)
	d.stopped(sealed(v.virtual.Addr(), v.client.Addr(), packet.ESP, 50), reason.IPsec)
	d.stopped(testpkt.Raw(v.client.Addr(), v.virtual.Addr(), 47).Text("GRE"), reason.NotL4)
}

func TestIPsecKeepsItsExchangeAlive(t *testing.T) {
	v := vpns[0]
	d := newDirector(t, 1, v.rules("-g")...)
	d.client(v.isakmp())
	for range 3 {
		d.sleep(299)
		d.client(sealed(v.client.Addr(), v.virtual.Addr(), packet.ESP, 50))
	}
	d.sleep(301)
	d.stopped(sealed(v.client.Addr(), v.virtual.Addr(), packet.ESP, 50), reason.IPsec)
	if n := d.counters().Connections; n != 1 {
		t.Errorf("%d connections, want ISAKMP's only", n)
	}
}

func TestIPsecIsNotFULLNATs(t *testing.T) {
	for _, v := range vpns {
		d := newDirector6(t, 1, v.rules("-F")...)
		d.client(v.isakmp())
		d.stopped(sealed(v.client.Addr(), v.virtual.Addr(), packet.ESP, 50), reason.IPsec)
		if len(d.host.frames) != 1 {
			t.Errorf("the kernel got %d frames", len(d.host.frames))
		}
	}
}

func TestEveryFragmentOfIPsecFollows(t *testing.T) {
	for _, v := range vpns {
		for _, mode := range []string{"-g", "-i", "-m"} {
			d := newDirector6(t, 1, v.rules(mode)...)
			d.client(v.isakmp())
			whole := testpkt.Pattern(3000)
			for _, at := range []int{2800, 0, 1400} { // none waits for the first
				end := min(at+1400, len(whole))
				out := d.client(testpkt.Raw(v.client.Addr(), v.virtual.Addr(), 50).Fragment(uint16(at), end < len(whole)).Payload(whole[at:end]))
				ip := &out.IP
				if ip.Inner != nil {
					ip = ip.Inner
				}
				if ip.Offset != at || !bytes.Equal(ip.Payload, whole[at:end]) {
					t.Errorf("%s: %d bytes at %d, sent %d at %d", mode, len(ip.Payload), ip.Offset, end-at, at)
				}
			}
		}
	}
}

func TestIPsecIsToldWhatItsSenderIsOwed(t *testing.T) {
	v := vpns[0]
	d := newDirector(t, 1, v.rules("-i")...)
	d.client(v.isakmp())
	out := d.stopped(sealed(v.client.Addr(), v.virtual.Addr(), packet.ESP, 1461).DF(), reason.TooBig)
	if len(out.toClients) != 1 || out.toClients[0].ICMPType != 3 || out.toClients[0].ICMPCode != 4 || out.toClients[0].ICMPRest != 1480 {
		t.Errorf("%+v, want fragmentation needed, MTU 1480", out.toClients)
	}
	out = d.stopped(sealed(v.client.Addr(), v.virtual.Addr(), packet.ESP, 50).TTL(1), reason.TTLExceeded)
	if len(out.toClients) != 1 || out.toClients[0].ICMPType != 11 {
		t.Errorf("%+v, want time exceeded", out.toClients)
	}
	// A router on the way to the server about the outer packet: the client is told about its own.
	sent := d.client(sealed(v.client.Addr(), v.virtual.Addr(), packet.ESP, 1400).DF())
	tunnelled := testpkt.Raw(sent.IP.Src.Addr(), sent.IP.Dst.Addr(), 4).DF().Payload(sent.Frame[14+20:])
	back := d.send(0, 1, testpkt.ICMPError(netip.MustParseAddr("10.9.9.9"), sent.IP.Src.Addr(), 3, 4, 1300, tunnelled))
	if len(back.toClients) != 1 || back.toClients[0].Dst.Addr() != v.client.Addr() || back.toClients[0].ICMPRest != 1280 {
		t.Errorf("%+v, want fragmentation needed, MTU 1280; %v", back.toClients, stops(d))
	}
}

func TestICMPErrorsAboutIPsecFindTheirExchange(t *testing.T) {
	for _, v := range vpns {
		d := newDirector6(t, 1, v.rules("-m")...)
		d.client(v.isakmp())
		lost := sealed(v.client.Addr(), v.server.Addr(), packet.ESP, 100)
		out := d.send(0, 1, testpkt.ICMPError(v.server.Addr(), v.client.Addr(), unreachable(v.server.Addr()), 0, 0, lost))
		if len(out.toClients) != 1 {
			t.Fatalf("%d errors to clients; %v", len(out.toClients), stops(d))
		}
		got := out.toClients[0]
		src, dst, proto, err := got.Quoted()
		// What stands where ports would are ESP's own numbers, untouched.
		spi := testpkt.Pattern(4)
		if err != nil || proto != 50 || src.Addr() != v.client.Addr() || dst.Addr() != v.virtual.Addr() || got.Src.Addr() != v.virtual.Addr() ||
			src.Port() != uint16(spi[0])<<8|uint16(spi[1]) || dst.Port() != uint16(spi[2])<<8|uint16(spi[3]) {
			t.Errorf("from %s about %s -> %s of protocol %d, %v", got.Src, src, dst, proto, err)
		}
		out = d.send(0, 0, testpkt.ICMPError(v.client.Addr(), v.virtual.Addr(), unreachable(v.server.Addr()), 0, 0, sealed(v.virtual.Addr(), v.client.Addr(), packet.ESP, 100)))
		if len(out.toServers) != 1 || out.toServers[0].Dst.Addr() != v.server.Addr() {
			t.Errorf("%d errors to servers; %v", len(out.toServers), stops(d))
		}
		d.stopped(testpkt.ICMPError(v.client.Addr(), v.virtual.Addr(), unreachable(v.server.Addr()), 0, 0,
			sealed(v.virtual.Addr(), netip.MustParseAddr(map[bool]string{true: "198.51.100.77", false: "2001:db8:1::77"}[v.client.Addr().Is4()]), packet.ESP, 100)), reason.ICMPError)
	}
}

func TestIPsecOfARemovedServerIsDropped(t *testing.T) {
	v := vpns[0]
	settings := lb.DefaultSysctls()
	settings.ExpireNodestConn = lb.NodestNone
	d := newDirectorWith(t, 1, conntrack.Options{Capacity: 64}, control.Options{Sysctls: settings}, v.rules("-g")...)
	d.client(v.isakmp())
	d.apply(v.rules("-g")[:1]...)
	d.stopped(sealed(v.client.Addr(), v.virtual.Addr(), packet.ESP, 50), reason.ServerRemoved)
}

// FuzzIPsec: whatever AH or ESP carry, whole or in pieces, goes on as it came where its mode takes it along, and else to the kernel; errors about
// it, and all else, are accounted for exactly once. The mode, whose packet it is and where it stands in its datagram are the input's.
func FuzzIPsec(f *testing.F) {
	for what := range uint8(64) {
		f.Add(what, uint8(64), uint16(what)*64, testpkt.Pattern(100))
	}
	f.Add(uint8(2), uint8(1), uint16(0), []byte(nil))
	f.Fuzz(func(t *testing.T, what, ttl uint8, place uint16, body []byte) {
		if len(body) > 1400 {
			return
		}
		v, proto := vpns[what&1], []lb.Proto{packet.ESP, packet.AH}[what>>1&1]
		mode, fromServer, about := []string{"-g", "-i", "-m", "-F"}[what>>2&3], what>>4&1 == 1, what>>5&1 == 1
		d := newDirector6(t, 1, v.rules(mode)...)
		d.client(v.isakmp())
		before := d.counters()
		src, dst, iface := v.client.Addr(), v.virtual.Addr(), 0
		if fromServer {
			src, dst, iface = v.server.Addr(), v.client.Addr(), 1
		}
		from := func(src, dst netip.Addr) testpkt.Packet {
			return testpkt.Raw(src, dst, uint8(proto)).TTL(ttl).Payload(body).Fragment(place&^7, place&1 == 1)
		}
		p := from(src, dst)
		if about { // one that went the other way
			p = testpkt.ICMPError(src, dst, unreachable(dst), noPort(dst), 1400, from(dst, src))
		}
		d.queues[0][iface].Inject(p.Bytes())
		d.workers[0].Turn()
		var sent [][]byte
		for i, q := range d.queues[0] {
			sent = append(sent, q.Sent()...)
			if n := q.Outstanding(); n != 0 {
				t.Fatalf("%d frames of interface %d are lost", n, i)
			}
		}
		c := d.counters()
		c.Sub(before)
		var stopped uint64
		for _, s := range c.Stops() {
			stopped += s.Count
		}
		if c.Received != 1 || c.ToServer+c.ToClient+stopped != 1 {
			t.Fatalf("received %d, to servers %d, to clients %d, stopped %d: %v", c.Received, c.ToServer, c.ToClient, stopped, c.Stops())
		}
		if about {
			return
		}
		switch forwarded := mode == "-m" || mode != "-F" && !fromServer; {
		case !forwarded:
			if c.Reasons[reason.IPsec] != 1 || len(sent) != 0 || !bytes.Equal(d.host.frames[0], p.Bytes()) {
				t.Errorf("%d frames went on, stops %v; want it to go to the kernel as it came", len(sent), c.Stops())
			}
		case ttl <= 1:
			if c.Reasons[reason.TTLExceeded] != 1 {
				t.Errorf("stops %v, want its time to be over", c.Stops())
			}
		case len(sent) != 1 || !bytes.HasSuffix(sent[0], body):
			t.Errorf("%d frames went on, or with something else inside: %v", len(sent), c.Stops())
		}
	})
}
