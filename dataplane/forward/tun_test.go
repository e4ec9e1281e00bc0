package forward_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"testing"

	"weir/dataplane/forward"
	"weir/dataplane/packet"
	"weir/dataplane/reason"
	"weir/internal/testpkt"
	"weir/lb"
)

// tunnels are all there are, with what stands in front of an inner packet of either family.
var tunnels = map[string]struct {
	tunnel         lb.Tunnel
	proto          uint8 // 0: the inner packet's own
	inside4        string
	inside6        string
	carriesACheck  bool
	overheadBeyond int // the outer IP header
}{
	"IPIP":                       {tunnel: lb.Tunnel{}},
	"GUE":                        {lb.Tunnel{Type: lb.GUE, Port: testpkt.GUEPort}, 17, "00040000", "00290000", false, 12},
	"GUE with a checksum":        {lb.Tunnel{Type: lb.GUE, Port: testpkt.GUEPort, Csum: true}, 17, "00040000", "00290000", true, 12},
	"GUE with a remote checksum": {lb.Tunnel{Type: lb.GUE, Port: testpkt.GUEPort, Remcs: true}, 17, "00040000", "00290000", true, 12},
	"GRE":                        {lb.Tunnel{Type: lb.GRE}, 47, "00000800", "000086dd", false, 4},
	"GRE with a checksum":        {lb.Tunnel{Type: lb.GRE, Csum: true}, 47, "80000800", "800086dd", true, 8},
}

// families are the ends of a tunnel and of what travels in it.
var families = map[string]struct {
	inner    testpkt.Packet
	src, dst netip.Addr
	proto    uint8
	outer    int // length of the outer IP header
	df       bool
}{
	"IPv4 in IPv4": {testpkt.UDP(client, virtual).DF(), dip, server.Addr(), 4, 20, true},
	"IPv6 in IPv4": {testpkt.UDP(client6, virtual6), dip, server.Addr(), 41, 20, false},
	"IPv4 in IPv6": {testpkt.UDP(client, virtual).DF(), dip6, server6.Addr(), 4, 40, false},
	"IPv6 in IPv6": {testpkt.UDP(client6, virtual6), dip6, server6.Addr(), 41, 40, false},
}

func TestTunnels(t *testing.T) {
	for how, c := range tunnels {
		for what, f := range families {
			for _, size := range []int{0, 1, 17, 1000} {
				t.Run(fmt.Sprintf("%s/%s/%d bytes", how, what, size), func(t *testing.T) {
					in := f.inner.TTL(17).TOS(0x2b).Payload(testpkt.Pattern(size)).VLAN(5)
					want := bytes.Clone(in.TTL(16).Bytes()[18:])
					p := parsed(t, in.Bytes())
					hop := forward.Hop{Path: path(), Source: lb.AddrFrom(f.src), Server: lb.AddrFrom(f.dst), Tunnel: c.tunnel, ID: 77, Entropy: 0xabcdef12}
					if r := forward.Modes[lb.TUN].ToServer(p, &hop); r != reason.None {
						t.Fatal(r)
					}
					if n := hop.Overhead(); n != f.outer+c.overheadBeyond || p.Len() != len(want)+n {
						t.Errorf("overhead %d, want %d; %d bytes of %d", n, f.outer+c.overheadBeyond, p.Len(), len(want))
					}
					frame := out(p)
					v := testpkt.Decode(t, frame)
					proto := c.proto
					if proto == 0 {
						proto = f.proto
					}
					if v.Src.Addr() != f.src || v.Dst.Addr() != f.dst || v.Proto != proto || v.TTL != 16 || v.TOS != 0x2b || v.DF != f.df || v.Length != p.Len() {
						t.Errorf("outer header: %+v", v.IP)
					}
					if v.Src.Addr().Is4() && v.ID != 77 {
						t.Errorf("identification %d", v.ID)
					}
					if !bytes.Equal(v.DstMAC, serverMAC) || len(v.VLANs) != 0 { // the client's tag stays on the client's side
						t.Errorf("to %s, tags %v", v.DstMAC, v.VLANs)
					}
					inside := map[uint8]string{4: c.inside4, 41: c.inside6}[f.proto]
					if len(v.Tunnel) > 4 { // GRE's checksum, judged below
						v.Tunnel = v.Tunnel[:4]
					}
					if got := hex.EncodeToString(v.Tunnel); got != inside {
						t.Errorf("tunnel header %s, want %s", got, inside)
					}
					if v.Inner == nil || !bytes.Equal(frame[len(frame)-len(want):], want) {
						t.Fatalf("inside is\n%x, want\n%x", frame[len(frame)-len(want):], want)
					}
					switch {
					case c.tunnel.Type != lb.GUE:
						v.MustHold(t)
					case c.carriesACheck == v.ZeroUDP:
						t.Errorf("checksum %#x", v.L4Checksum)
					case c.carriesACheck:
						v.MustHold(t)
					}
					if c.tunnel.Type == lb.GUE && (v.Src.Port() != 0xc000|0x2f12 || v.Dst.Port() != testpkt.GUEPort) {
						t.Errorf("ports %d -> %d", v.Src.Port(), v.Dst.Port())
					}
				})
			}
		}
	}
}

func TestATunnelTakesWhatFitsWithItsHeaders(t *testing.T) {
	for how, c := range tunnels {
		for what, f := range families {
			hop := forward.Hop{Path: path(), Source: lb.AddrFrom(f.src), Server: lb.AddrFrom(f.dst), Tunnel: c.tunnel}
			fits := 14 + 1500 - hop.Overhead()
			for size, want := range map[int]reason.Reason{fits: reason.None, fits + 1: reason.TooBig} {
				p := parsed(t, f.inner.Size(size).Bytes())
				before := bytes.Clone(p.Buf)
				got := forward.Modes[lb.TUN].ToServer(p, &hop)
				if got != want || got != reason.None && !bytes.Equal(p.Buf, before) || got == reason.None && p.Len() != 1500 {
					t.Errorf("%s, %s, frame of %d bytes: %s, want %s; %d bytes then", how, what, size, got, want, p.Len())
				}
			}
		}
	}
}

func TestModesIPv6(t *testing.T) {
	for _, proto := range []string{"TCP", "UDP"} {
		build := func(src, dst netip.AddrPort) testpkt.Packet {
			b := testpkt.UDP(src, dst)
			if proto == "TCP" {
				b = testpkt.TCP(src, dst, testpkt.PSH, testpkt.ACK)
			}
			return b.TTL(17).TOS(0x29).Extension(60).Text("what the client said")
		}
		for name, c := range map[string]struct {
			mode     lb.Mode
			toClient bool
			in       testpkt.Packet
			hop      forward.Hop
			src, dst netip.AddrPort
		}{
			"DR changes MACs and hop limit only":  {lb.DR, false, build(client6, virtual6), forward.Hop{}, client6, virtual6},
			"NAT writes the server in":            {lb.NAT, false, build(client6, virtual6), forward.Hop{To: ends(netip.AddrPort{}, server6)}, client6, server6},
			"NAT writes the service in":           {lb.NAT, true, build(server6, client6), forward.Hop{To: ends(virtual6, netip.AddrPort{})}, virtual6, client6},
			"FULLNAT writes local and server":     {lb.FULLNAT, false, build(client6, virtual6), forward.Hop{To: ends(local6, server6)}, local6, server6},
			"FULLNAT writes service and client":   {lb.FULLNAT, true, build(server6, local6), forward.Hop{To: ends(virtual6, client6)}, virtual6, client6},
			"NAT keeps a port that is not mapped": {lb.NAT, false, build(client6, virtual6), forward.Hop{To: packet.Endpoints{Dst: lb.AddrFrom(server6.Addr())}}, client6, netip.AddrPortFrom(server6.Addr(), 80)},
		} {
			t.Run(proto+"/"+name, func(t *testing.T) {
				p := parsed(t, c.in.Bytes())
				c.hop.Path = path()
				rewrite := forward.Modes[c.mode].ToServer
				if c.toClient {
					rewrite = forward.Modes[c.mode].ToClient
				}
				if r := rewrite(p, &c.hop); r != reason.None {
					t.Fatal(r)
				}
				v := testpkt.Decode(t, out(p)).MustHold(t)
				if !bytes.Equal(v.DstMAC, serverMAC) || !bytes.Equal(v.SrcMAC, outMAC) {
					t.Errorf("from %s to %s, want %s to %s", v.SrcMAC, v.DstMAC, outMAC, serverMAC)
				}
				if v.Src != c.src || v.Dst != c.dst || v.TTL != 16 || v.TOS != 0x29 || len(v.Header) != 48 || string(v.Payload) != "what the client said" {
					t.Errorf("%s -> %s hop limit %d class %#x, want %s -> %s hop limit 16 class 0x29; %q", v.Src, v.Dst, v.TTL, v.TOS, c.src, c.dst, v.Payload)
				}
			})
		}
	}
	for _, mode := range []lb.Mode{lb.DR, lb.NAT} {
		for _, in := range []struct {
			what string
			ttl  uint8
			size int
			want reason.Reason
		}{
			{"hop limit 1", 1, 100, reason.TTLExceeded}, {"hop limit 2", 2, 1514, reason.None}, {"too big", 64, 1515, reason.TooBig},
		} {
			p := parsed(t, testpkt.UDP(client6, virtual6).TTL(in.ttl).Size(in.size).Bytes())
			before := bytes.Clone(p.Buf)
			got := forward.Modes[mode].ToServer(p, &forward.Hop{Path: path(), To: ends(netip.AddrPort{}, server6)})
			if got != in.want || got != reason.None && !bytes.Equal(p.Buf, before) {
				t.Errorf("%s, %s: %s, want %s", mode, in.what, got, in.want)
			}
		}
	}
}

func TestAnswerIPv6(t *testing.T) {
	for _, size := range []int{66, 1232 + 18, 1233 + 18, 1518} {
		for m, want := range map[forward.ICMP][3]uint32{forward.PortUnreachable: {1, 4, 0}, forward.FragNeeded: {2, 0, 1440}, forward.TimeExceeded: {3, 0, 0}} {
			p := parsed(t, testpkt.UDP(client6, virtual6).Size(size).VLAN(9).Bytes())
			original := bytes.Clone(p.IP6())
			if !forward.Answer(p, m, lb.AddrFrom(virtual6.Addr()), int(want[2])) {
				t.Fatal("no answer")
			}
			v := testpkt.Decode(t, out(p)).MustHold(t)
			if v.Src.Addr() != virtual6.Addr() || v.Dst.Addr() != client6.Addr() || v.Proto != 58 ||
				[3]uint32{uint32(v.ICMPType), uint32(v.ICMPCode), v.ICMPRest} != want {
				t.Errorf("%s -> %s ICMPv6 %d/%d %d, want %d", v.Src, v.Dst, v.ICMPType, v.ICMPCode, v.ICMPRest, want)
			}
			if !bytes.Equal(v.DstMAC, testpkt.ClientMAC) || !bytes.Equal(v.SrcMAC, testpkt.DirectorMAC) || len(v.VLANs) != 1 {
				t.Errorf("from %s to %s, tags %v", v.SrcMAC, v.DstMAC, v.VLANs)
			}
			if quoted := original[:min(len(original), 1232)]; !bytes.Equal(v.Payload, quoted) || v.Length > 1280 {
				t.Errorf("quotes %d bytes, want %d, or other ones", len(v.Payload), len(quoted))
			}
		}
	}
}

func TestNoAnswerGoesToManyHostsOfIPv6(t *testing.T) {
	for name, c := range map[string]struct {
		in     testpkt.Packet
		source netip.Addr
	}{
		"a multicast source":         {testpkt.UDP(netip.MustParseAddrPort("[ff02::1]:1"), virtual6), virtual6.Addr()},
		"a loopback source":          {testpkt.UDP(netip.MustParseAddrPort("[::1]:1"), virtual6), virtual6.Addr()},
		"a sender of the other kind": {testpkt.UDP(client6, virtual6), virtual.Addr()},
		"no sender":                  {testpkt.UDP(client6, virtual6), netip.Addr{}},
		"no sender, IPv4":            {testpkt.UDP(client, virtual), netip.Addr{}},
	} {
		p := parsed(t, c.in.Bytes())
		before := bytes.Clone(p.Buf)
		if forward.Answer(p, forward.PortUnreachable, lb.AddrFrom(c.source), 0) {
			t.Errorf("%s was answered", name)
		}
		if !bytes.Equal(p.Buf, before) {
			t.Errorf("%s: the packet was changed", name)
		}
	}
}

func TestTunnelsAndIPv6DoNotAllocate(t *testing.T) {
	for how, c := range tunnels {
		for what, f := range families {
			frame := f.inner.Size(100).Bytes()
			buf := make([]byte, 256+len(frame))
			hop := forward.Hop{Path: path(), Source: lb.AddrFrom(f.src), Server: lb.AddrFrom(f.dst), Tunnel: c.tunnel}
			var p packet.Packet
			if n := testing.AllocsPerRun(100, func() {
				copy(buf[256:], frame)
				p.Parse(buf, 256, len(buf))
				forward.Modes[lb.TUN].ToServer(&p, &hop)
			}); n != 0 {
				t.Errorf("%s, %s: %v allocations", how, what, n)
			}
		}
	}
}

func BenchmarkTunnels(b *testing.B) {
	for _, how := range []string{"IPIP", "GUE", "GUE with a checksum", "GRE", "GRE with a checksum"} {
		for _, what := range []string{"IPv4 in IPv4", "IPv6 in IPv6"} {
			f := families[what]
			frame := f.inner.Size(62).Bytes()
			buf := make([]byte, 256+len(frame))
			hop := forward.Hop{Path: path(), Source: lb.AddrFrom(f.src), Server: lb.AddrFrom(f.dst), Tunnel: tunnels[how].tunnel}
			var p packet.Packet
			b.Run(how+"/"+what, func(b *testing.B) {
				for b.Loop() {
					copy(buf[256:], frame)
					p.Parse(buf, 256, len(buf))
					forward.Modes[lb.TUN].ToServer(&p, &hop)
				}
			})
		}
	}
}
