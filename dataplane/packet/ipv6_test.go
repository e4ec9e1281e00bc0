package packet_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"weir/dataplane/packet"
	"weir/dataplane/reason"
	"weir/internal/testpkt"
	"weir/lb"
)

var (
	client6  = netip.MustParseAddrPort("[2001:db8:1::7]:40000")
	virtual6 = netip.MustParseAddrPort("[2001:db8:9::10]:80")
)

// Kinds of extension headers.
const hopByHop, routing, fragment, options = 0, 43, 44, 60

func TestParseIPv6(t *testing.T) {
	tcp := testpkt.TCP(client6, virtual6, testpkt.SYN).Text("hello")
	udp := testpkt.UDP(client6, virtual6).Text("hello")
	six := udp
	for range 6 {
		six = six.Extension(options)
	}
	from := func(s string) []byte {
		frame := udp.Bytes()
		a := netip.MustParseAddr(s).As16()
		copy(frame[14+8:], a[:])
		return frame
	}
	to := func(s string) []byte {
		frame := udp.Bytes()
		a := netip.MustParseAddr(s).As16()
		copy(frame[14+24:], a[:])
		return frame
	}
	for name, c := range map[string]struct {
		frame []byte
		want  reason.Reason
		l4    int // where layer 4 begins behind the fixed header
	}{
		"TCP":                               {tcp.Bytes(), reason.None, 0},
		"UDP":                               {udp.Bytes(), reason.None, 0},
		"UDP under two tags":                {udp.VLAN(7, 8).Bytes(), reason.None, 0},
		"padding is not the packet's":       {udp.Pad(80).Bytes(), reason.None, 0},
		"hop-by-hop options":                {udp.Extension(hopByHop, 5, 2, 0, 0).Bytes(), reason.None, 8},
		"all three, options twice":          {tcp.Extension(hopByHop).Extension(options, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0).Extension(routing, 2).Extension(options).Bytes(), reason.None, 8 + 16 + 8 + 8},
		"an atomic fragment is whole":       {udp.Extension(fragment).Bytes(), reason.None, 8},
		"six headers":                       {six.Bytes(), reason.NotL4, 0},
		"hop-by-hop options, not first":     {udp.Extension(options).Extension(hopByHop).Bytes(), reason.NotL4, 0},
		"a route that is not at its end":    {udp.Extension(routing, 2, 1).Bytes(), reason.NotL4, 0},
		"no next header":                    {testpkt.Raw(client6.Addr(), virtual6.Addr(), 59).Bytes(), reason.NotL4, 0},
		"an authentication header":          {testpkt.Raw(client6.Addr(), virtual6.Addr(), 51).Payload(make([]byte, 40)).Bytes(), reason.IPsec, 0},
		"echo":                              {testpkt.Echo(client6.Addr(), virtual6.Addr()).Bytes(), reason.NotL4, 0},
		"the first fragment":                {udp.Fragment(0, true).Bytes(), reason.Fragment, 0},
		"the last fragment":                 {udp.Fragment(64, false).Bytes(), reason.Fragment, 0},
		"half an IP header":                 {udp.Bytes()[:14+39], reason.Truncated, 0},
		"half a TCP header":                 {edited(tcp.Bytes()[:14+40+19], 18, 0, 19), reason.Truncated, 0},
		"half a UDP header":                 {edited(udp.Bytes()[:14+40+7], 18, 0, 7), reason.Truncated, 0},
		"payload beyond the frame":          {edited(udp.Bytes(), 18, 0, 14), reason.Truncated, 0},
		"an extension beyond the payload":   {edited(udp.Extension(options).Bytes(), 14+40+1, 2), reason.Truncated, 0},
		"half an extension":                 {edited(udp.Extension(options).Bytes()[:14+40+7], 18, 0, 7), reason.Truncated, 0},
		"half a fragment header":            {edited(udp.Fragment(0, true).Bytes()[:14+40+7], 18, 0, 7), reason.Truncated, 0},
		"version 4 in an IPv6 frame":        {edited(udp.Bytes(), 14, 0x45), reason.BadIPHeader, 0},
		"a jumbogram":                       {edited(udp.Extension(hopByHop, 194, 4, 0, 1, 0, 0).Bytes(), 18, 0, 0), reason.BadIPHeader, 0},
		"an IPv4-mapped source":             {from("::ffff:192.0.2.1"), reason.BadIPHeader, 0},
		"an IPv4-mapped destination":        {to("::ffff:192.0.2.10"), reason.BadIPHeader, 0},
		"the unspecified source":            {from("::"), reason.BadIPHeader, 0},
		"UDP without a checksum":            {udp.NoChecksum().Bytes(), reason.BadL4Header, 0},
		"UDP length 7":                      {edited(udp.Bytes(), 14+40+4, 0, 7), reason.BadL4Header, 0},
		"UDP length beyond the datagram":    {edited(udp.Bytes(), 14+40+4, 0, 14), reason.BadL4Header, 0},
		"data offset beyond the segment":    {edited(tcp.Bytes(), 14+40+12, 0xf0), reason.BadL4Header, 0},
		"a UDP header behind the last byte": {edited(udp.Bytes()[:14+40], 18, 0, 0), reason.Truncated, 0},
	} {
		var p packet.Packet
		buf := append(make([]byte, 256), c.frame...)
		got := p.Parse(buf, 256, len(buf))
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
			continue
		}
		if got != reason.None {
			continue
		}
		want := lb.Flow{Src: lb.AddrFrom(client6.Addr()), Dst: lb.AddrFrom(virtual6.Addr()), SrcPort: 40000, DstPort: 80, Proto: p.Flow.Proto}
		if p.Flow != want || !p.Is6() || p.L4-p.L3 != 40+c.l4 || p.End > len(buf) || p.Len() != 40+p.IP6().PayloadLen() {
			t.Errorf("%s: flow %s, layer 4 at %d, %d bytes", name, p.Flow, p.L4-p.L3, p.Len())
		}
	}
}

func TestIPv6View(t *testing.T) {
	frame := testpkt.UDP(client6, virtual6).TTL(9).TOS(0xb9).Text("x").Bytes()
	binary.BigEndian.PutUint32(frame[14:], binary.BigEndian.Uint32(frame[14:])|0xabcde) // the flow label
	var p packet.Packet
	p.Parse(frame, 0, len(frame))
	ip := p.IP6()
	if ip.TrafficClass() != 0xb9 || ip.FlowLabel() != 0xabcde || ip.PayloadLen() != 9 || ip.NextHeader() != 17 || ip.HopLimit() != 9 ||
		ip.Src() != lb.AddrFrom(client6.Addr()) || ip.Dst() != lb.AddrFrom(virtual6.Addr()) || p.TTL() != 9 {
		t.Errorf("%+v", ip)
	}
}

// TestTranslateIPv6 is TestTranslate for the other family.
func TestTranslateIPv6(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	end := func() netip.AddrPort {
		b := [16]byte{0x20, 1}
		for i := 2; i < 16; i++ {
			b[i] = byte(rng.Uint32() | rng.Uint32()) // many ones: carries
		}
		return netip.AddrPortFrom(netip.AddrFrom16(b), uint16(1+rng.IntN(65535)))
	}
	for range 10_000 {
		src, dst := end(), end()
		b := testpkt.TCP(src, dst, testpkt.ACK)
		if rng.IntN(2) == 0 {
			b = testpkt.UDP(src, dst)
		}
		if rng.IntN(2) == 0 {
			b = b.Extension(options)
		}
		frame := b.Payload(testpkt.Pattern(rng.IntN(64))).Bytes()
		var to packet.Endpoints
		if rng.IntN(2) == 0 {
			src = end()
			to.Src, to.SrcPort = lb.AddrFrom(src.Addr()), src.Port()
		}
		if rng.IntN(2) == 0 {
			dst = end()
			to.Dst, to.DstPort = lb.AddrFrom(dst.Addr()), dst.Port()
		}
		var p packet.Packet
		if r := p.Parse(frame, 0, len(frame)); r != reason.None {
			t.Fatal(r)
		}
		p.Translate(&to)
		p.DecrementTTL()
		v := testpkt.Decode(t, frame).MustHold(t) // a UDP checksum of zero does not hold
		if v.Src != src || v.Dst != dst || v.TTL != 63 {
			t.Fatalf("%s -> %s hop limit %d, want %s -> %s hop limit 63", v.Src, v.Dst, v.TTL, src, dst)
		}
	}
}

func TestTranslateNeverRepairsAChecksumOfIPv6(t *testing.T) {
	frame := testpkt.TCP(client6, virtual6, testpkt.ACK).Text("payload").Bytes()
	frame[14+40+16] ^= 0x40
	var p packet.Packet
	p.Parse(frame, 0, len(frame))
	p.Translate(&packet.Endpoints{Dst: lb.MustParseAddr("fd00::2"), DstPort: 8080})
	if v := testpkt.Decode(t, frame); v.Checksums == nil {
		t.Error("a wrong checksum came out right")
	}
}

// TestDecrementTTL counts every TTL down under every checksum that a header can have.
func TestDecrementTTL(t *testing.T) {
	frame := testpkt.UDP(client, virtual).Bytes()
	for id := range 1 << 16 {
		binary.BigEndian.PutUint16(frame[18:], uint16(id))
		frame[22] = byte(1 + id%255)
		clear(frame[24:26])
		binary.BigEndian.PutUint16(frame[24:], packet.Checksum(frame[14:34]))
		var p packet.Packet
		p.Parse(frame, 0, len(frame))
		p.DecrementTTL()
		got := p.IP().Checksum()
		clear(frame[24:26])
		if want := packet.Checksum(frame[14:34]); got != want || frame[22] != byte(id%255) {
			t.Fatalf("identification %#x: TTL %d, checksum %#x, want %#x", id, frame[22], got, want)
		}
	}
}

func TestPseudo(t *testing.T) {
	for _, b := range []testpkt.Packet{testpkt.UDP(client, virtual), testpkt.UDP(client6, virtual6)} {
		for n := range 200 {
			frame := b.Payload(testpkt.Pattern(n)).Bytes()
			var p packet.Packet
			p.Parse(frame, 0, len(frame))
			l4 := p.L4Bytes()
			carried := binary.BigEndian.Uint16(l4[6:8])
			clear(l4[6:8])
			if got := packet.Pseudo(p.Flow.Src, p.Flow.Dst, 17, l4); got != carried {
				t.Fatalf("%d bytes: %#x, want %#x", n, got, carried)
			}
		}
	}
}

func BenchmarkParseIPv6(b *testing.B) {
	frame := testpkt.UDP(client6, virtual6).Size(62).Bytes()
	var p packet.Packet
	for b.Loop() {
		p.Parse(frame, 0, len(frame))
	}
}

func BenchmarkTranslateIPv6(b *testing.B) {
	frame := testpkt.UDP(client6, virtual6).Size(62).Bytes()
	var p packet.Packet
	p.Parse(frame, 0, len(frame))
	to := packet.Endpoints{Dst: lb.MustParseAddr("fd00::2"), DstPort: 8080}
	for b.Loop() {
		p.Translate(&to)
	}
}
