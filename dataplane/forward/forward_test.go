package forward_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"weir/dataplane/forward"
	"weir/dataplane/packet"
	"weir/dataplane/reason"
	"weir/internal/testpkt"
	"weir/lb"
)

var (
	client  = netip.MustParseAddrPort("198.51.100.7:40000")
	virtual = netip.MustParseAddrPort("192.0.2.10:80")
	server  = netip.MustParseAddrPort("10.0.0.2:8080")
	local   = netip.MustParseAddrPort("10.0.0.1:2000")
	dip     = netip.MustParseAddr("10.0.0.254")

	client6  = netip.MustParseAddrPort("[2001:db8:1::7]:40000")
	virtual6 = netip.MustParseAddrPort("[2001:db8:9::10]:80")
	server6  = netip.MustParseAddrPort("[fd00:20::2]:8080")
	local6   = netip.MustParseAddrPort("[fd00:20::1]:2000")
	dip6     = netip.MustParseAddr("fd00:20::fe")

	serverMAC, outMAC = testpkt.MAC(0x30), testpkt.MAC(0x21)
)

func path() *forward.Path {
	return &forward.Path{DstMAC: [6]byte(serverMAC), SrcMAC: [6]byte(outMAC), Source: lb.AddrFrom(dip), MTU: 1500}
}

func ends(src, dst netip.AddrPort) packet.Endpoints {
	return packet.Endpoints{
		Src: lb.AddrFrom(src.Addr()), SrcPort: src.Port(), Dst: lb.AddrFrom(dst.Addr()), DstPort: dst.Port(),
	}
}

// parsed returns the frame with headroom in front, parsed.
func parsed(t *testing.T, frame []byte) *packet.Packet {
	t.Helper()
	p := new(packet.Packet)
	buf := append(make([]byte, 256), frame...)
	if r := p.Parse(buf, 256, len(buf)); r != reason.None {
		t.Fatal(r)
	}
	return p
}

func out(p *packet.Packet) []byte { return p.Buf[p.Off:p.End] }

func TestModes(t *testing.T) {
	for _, proto := range []string{"TCP", "UDP"} {
		build := func(src, dst netip.AddrPort) testpkt.Packet {
			b := testpkt.UDP(src, dst)
			if proto == "TCP" {
				b = testpkt.TCP(src, dst, testpkt.PSH, testpkt.ACK)
			}
			return b.TTL(17).TOS(0x29).DF().Text("what the client said")
		}
		for name, c := range map[string]struct {
			mode     lb.Mode
			toClient bool
			in       testpkt.Packet
			hop      forward.Hop
			src, dst netip.AddrPort // of the packet that leaves, the inner one for TUN
		}{
			"DR changes MACs and TTL only":             {lb.DR, false, build(client, virtual), forward.Hop{}, client, virtual},
			"NAT writes the server in":                 {lb.NAT, false, build(client, virtual), forward.Hop{To: ends(netip.AddrPort{}, server)}, client, server},
			"NAT writes the service in":                {lb.NAT, true, build(server, client), forward.Hop{To: ends(virtual, netip.AddrPort{})}, virtual, client},
			"FULLNAT writes local and server":          {lb.FULLNAT, false, build(client, virtual), forward.Hop{To: ends(local, server)}, local, server},
			"FULLNAT writes service and client":        {lb.FULLNAT, true, build(server, local), forward.Hop{To: ends(virtual, client)}, virtual, client},
			"NAT keeps a port that is not mapped":      {lb.NAT, false, build(client, virtual), forward.Hop{To: packet.Endpoints{Dst: lb.AddrFrom(server.Addr())}}, client, netip.AddrPortFrom(server.Addr(), 80)},
			"TUN wraps it for the server":              {lb.TUN, false, build(client, virtual), forward.Hop{Source: lb.AddrFrom(dip), Server: lb.AddrFrom(server.Addr()), ID: 77}, client, virtual},
			"TUN wraps a tagged frame without its tag": {lb.TUN, false, build(client, virtual).VLAN(5), forward.Hop{Source: lb.AddrFrom(dip), Server: lb.AddrFrom(server.Addr()), ID: 77}, client, virtual},
		} {
			t.Run(proto+"/"+name, func(t *testing.T) {
				p := parsed(t, c.in.Bytes())
				c.hop.Path = path()
				mode := forward.Modes[c.mode]
				rewrite := mode.ToServer
				if c.toClient {
					rewrite = mode.ToClient
				}
				if r := rewrite(p, &c.hop); r != reason.None {
					t.Fatal(r)
				}
				v := testpkt.Decode(t, out(p)).MustHold(t)
				if !bytes.Equal(v.DstMAC, serverMAC) || !bytes.Equal(v.SrcMAC, outMAC) {
					t.Errorf("from %s to %s, want %s to %s", v.SrcMAC, v.DstMAC, outMAC, serverMAC)
				}
				ip := &v.IP
				if c.mode == lb.TUN {
					if ip.Proto != 4 || ip.Src.Addr() != dip || ip.Dst.Addr() != server.Addr() || ip.TTL != 16 || ip.TOS != 0x29 || !ip.DF || ip.ID != 77 {
						t.Errorf("outer header: %+v", ip)
					}
					if ip = ip.Inner; ip == nil {
						t.Fatal("nothing inside")
					}
				}
				if ip.Src != c.src || ip.Dst != c.dst || ip.TTL != 16 || ip.TOS != 0x29 || !ip.DF {
					t.Errorf("%s -> %s ttl %d tos %#x, want %s -> %s ttl 16 tos 0x29", ip.Src, ip.Dst, ip.TTL, ip.TOS, c.src, c.dst)
				}
				if string(ip.Payload) != "what the client said" {
					t.Errorf("payload %q", ip.Payload)
				}
			})
		}
	}
}

func TestWhatMayNotGoOnStaysAsItWas(t *testing.T) {
	for _, mode := range []lb.Mode{lb.DR, lb.NAT, lb.FULLNAT, lb.TUN} {
		overhead := 0
		if mode == lb.TUN {
			overhead = 20
		}
		for name, c := range map[string]struct {
			in   testpkt.Packet
			want reason.Reason
		}{
			"TTL 1":                  {testpkt.UDP(client, virtual).TTL(1), reason.TTLExceeded},
			"TTL 0":                  {testpkt.UDP(client, virtual).TTL(0), reason.TTLExceeded},
			"TTL 2":                  {testpkt.UDP(client, virtual).TTL(2), reason.None},
			"one byte over the MTU":  {testpkt.UDP(client, virtual).DF().Size(14 + 1501 - overhead), reason.TooBig},
			"the same without DF":    {testpkt.UDP(client, virtual).Size(14 + 1501 - overhead), reason.None},
			"the MTU to the byte":    {testpkt.UDP(client, virtual).Size(14 + 1500 - overhead), reason.None},
			"padding is not counted": {testpkt.UDP(client, virtual).Pad(14 + 1501), reason.None},
		} {
			p := parsed(t, c.in.Bytes())
			before := bytes.Clone(p.Buf)
			hop := forward.Hop{Path: path(), To: ends(local, server)}
			if mode == lb.TUN {
				hop.Source, hop.Server = lb.AddrFrom(dip), lb.AddrFrom(server.Addr())
			}
			got := forward.Modes[mode].ToServer(p, &hop)
			if got != c.want {
				t.Errorf("%s, %s: %s, want %s", mode, name, got, c.want)
			}
			if cut := name == "the same without DF"; cut && p.Cut != 1500 || !cut && p.Cut != 0 {
				t.Errorf("%s, %s: to be cut to %d bytes", mode, name, p.Cut)
			}
			if got != reason.None && !bytes.Equal(p.Buf, before) {
				t.Errorf("%s, %s: the packet was changed", mode, name)
			}
		}
	}
}

func TestAnswer(t *testing.T) {
	for _, size := range []int{60, 61, 548 + 14, 549 + 14, 1514} {
		for _, vlans := range [][]uint16{nil, {9}, {9, 10}} {
			t.Run(fmt.Sprintf("%d bytes, tags %v", size, vlans), func(t *testing.T) {
				frame := testpkt.UDP(client, virtual).Size(size).VLAN(vlans...).Bytes()
				p := parsed(t, frame)
				original := bytes.Clone(p.IP())
				if !forward.Answer(p, forward.FragNeeded, lb.AddrFrom(virtual.Addr()), 1480) {
					t.Fatal("no answer")
				}
				v := testpkt.Decode(t, out(p)).MustHold(t)
				if v.Src.Addr() != virtual.Addr() || v.Dst.Addr() != client.Addr() || v.ICMPType != 3 || v.ICMPCode != 4 || v.ICMPRest != 1480 {
					t.Errorf("%s -> %s ICMP %d/%d %d", v.Src, v.Dst, v.ICMPType, v.ICMPCode, v.ICMPRest)
				}
				if !bytes.Equal(v.DstMAC, testpkt.ClientMAC) || !bytes.Equal(v.SrcMAC, testpkt.DirectorMAC) || len(v.VLANs) != len(vlans) {
					t.Errorf("from %s to %s, tags %v", v.SrcMAC, v.DstMAC, v.VLANs)
				}
				if want := original[:min(len(original), 548)]; !bytes.Equal(v.Payload, want) {
					t.Errorf("quotes %d bytes, want %d, or other ones", len(v.Payload), len(want))
				}
			})
		}
	}
}

func TestNoAnswerGoesToManyHosts(t *testing.T) {
	for name, in := range map[string]testpkt.Packet{
		"a multicast source":   testpkt.UDP(netip.MustParseAddrPort("224.0.0.1:1"), virtual),
		"a broadcast source":   testpkt.UDP(netip.MustParseAddrPort("255.255.255.255:1"), virtual),
		"no source":            testpkt.UDP(netip.MustParseAddrPort("0.0.0.0:1"), virtual),
		"a loopback source":    testpkt.UDP(netip.MustParseAddrPort("127.0.0.1:1"), virtual),
		"a reserved (class E)": testpkt.UDP(netip.MustParseAddrPort("240.0.0.1:1"), virtual),
	} {
		p := parsed(t, in.Bytes())
		before := bytes.Clone(p.Buf)
		if forward.Answer(p, forward.PortUnreachable, lb.AddrFrom(virtual.Addr()), 0) {
			t.Errorf("%s was answered", name)
		}
		if !bytes.Equal(p.Buf, before) {
			t.Errorf("%s: the packet was changed", name)
		}
	}
}

func TestModesDoNotAllocate(t *testing.T) {
	frame := testpkt.UDP(client, virtual).Size(60).Bytes()
	buf := append(make([]byte, 256), frame...)
	hop := forward.Hop{Path: path(), To: ends(local, server)}
	var p packet.Packet
	for _, mode := range []lb.Mode{lb.DR, lb.NAT, lb.FULLNAT, lb.TUN} {
		if mode == lb.TUN {
			hop.Source, hop.Server = lb.AddrFrom(dip), lb.AddrFrom(server.Addr())
		}
		if n := testing.AllocsPerRun(100, func() {
			copy(buf[256:], frame)
			p.Parse(buf, 256, len(buf))
			forward.Modes[mode].ToServer(&p, &hop)
		}); n != 0 {
			t.Errorf("%s: %v allocations", mode, n)
		}
	}
}

func BenchmarkModes(b *testing.B) {
	frame := testpkt.UDP(client, virtual).Size(60).Bytes()
	buf := append(make([]byte, 256), frame...)
	hop := forward.Hop{Path: path(), To: ends(local, server)}
	var p packet.Packet
	for _, mode := range []lb.Mode{lb.DR, lb.NAT, lb.FULLNAT, lb.TUN} {
		if mode == lb.TUN {
			hop.Source, hop.Server = lb.AddrFrom(dip), lb.AddrFrom(server.Addr())
		}
		b.Run(mode.String(), func(b *testing.B) {
			for b.Loop() {
				copy(buf[256:], frame)
				p.Parse(buf, 256, len(buf))
				forward.Modes[mode].ToServer(&p, &hop)
			}
		})
	}
}
