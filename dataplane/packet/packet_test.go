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
	client  = netip.MustParseAddrPort("198.51.100.7:40000")
	virtual = netip.MustParseAddrPort("192.0.2.10:80")
)

func edited(frame []byte, at int, b ...byte) []byte {
	frame = append([]byte(nil), frame...)
	copy(frame[at:], b)
	return frame
}

func TestParse(t *testing.T) {
	tcp := testpkt.TCP(client, virtual, testpkt.SYN).Text("hello").Bytes()
	udp := testpkt.UDP(client, virtual).Text("hello").Bytes()
	ports := lb.Flow{Src: lb.AddrFrom(client.Addr()), Dst: lb.AddrFrom(virtual.Addr()), SrcPort: 40000, DstPort: 80}
	of := func(proto lb.Proto) lb.Flow { f := ports; f.Proto = proto; return f }
	for name, c := range map[string]struct {
		frame []byte
		want  reason.Reason
		flow  lb.Flow
	}{
		"TCP":                                    {tcp, reason.None, of(lb.TCP)},
		"UDP":                                    {udp, reason.None, of(lb.UDP)},
		"TCP under one tag":                      {testpkt.TCP(client, virtual, testpkt.ACK).VLAN(7).Bytes(), reason.None, of(lb.TCP)},
		"TCP under a service and a customer tag": {testpkt.TCP(client, virtual, testpkt.ACK).VLAN(7, 8).ServiceTag().Bytes(), reason.None, of(lb.TCP)},
		"three tags are not looked through":      {testpkt.TCP(client, virtual, testpkt.ACK).VLAN(7, 8, 9).Bytes(), reason.NotIP, lb.Flow{}},
		"IP options are skipped":                 {testpkt.UDP(client, virtual).Options(7, 7, 4, 0, 0, 0, 0).Bytes(), reason.None, of(lb.UDP)},
		"padding is not the packet's":            {testpkt.UDP(client, virtual).Pad(60).Bytes(), reason.None, of(lb.UDP)},
		"nothing":                                {nil, reason.Truncated, lb.Flow{}},
		"half an Ethernet header":                {tcp[:13], reason.Truncated, lb.Flow{}},
		"half a tag":                             {testpkt.TCP(client, virtual).VLAN(7).Bytes()[:17], reason.Truncated, lb.Flow{}},
		"half an IP header":                      {tcp[:33], reason.Truncated, lb.Flow{}},
		"half a TCP header":                      {edited(tcp[:14+20+19], 16, 0, 39), reason.Truncated, lb.Flow{}},
		"half a UDP header":                      {edited(udp[:14+20+7], 16, 0, 27), reason.Truncated, lb.Flow{}},
		"version 5":                              {edited(tcp, 14, 0x55), reason.BadIPHeader, lb.Flow{}},
		"header length 16":                       {edited(tcp, 14, 0x44), reason.BadIPHeader, lb.Flow{}},
		"header longer than the packet":          {edited(udp, 14, 0x4f), reason.BadIPHeader, lb.Flow{}},
		"total length below the header":          {edited(tcp, 16, 0, 19), reason.BadIPHeader, lb.Flow{}},
		"total length beyond the frame":          {edited(tcp, 16, 0, 46), reason.Truncated, lb.Flow{}},
		"data offset 4":                          {edited(tcp, 14+20+12, 0x40), reason.BadL4Header, lb.Flow{}},
		"data offset beyond the segment":         {edited(tcp, 14+20+12, 0xf0), reason.BadL4Header, lb.Flow{}},
		"UDP length 7":                           {edited(udp, 14+20+4, 0, 7), reason.BadL4Header, lb.Flow{}},
		"UDP length beyond the datagram":         {edited(udp, 14+20+4, 0, 14), reason.BadL4Header, lb.Flow{}},
		"ARP":                                    {testpkt.ARP(client.Addr(), virtual.Addr()).Bytes(), reason.NotIP, lb.Flow{}},
		"ICMP":                                   {testpkt.Echo(client.Addr(), virtual.Addr()).Bytes(), reason.NotL4, lb.Flow{}},
		"ESP":                                    {testpkt.Raw(client.Addr(), virtual.Addr(), 50).Text("sealed").Bytes(), reason.IPsec, lb.Flow{}},
		"AH":                                     {testpkt.Raw(client.Addr(), virtual.Addr(), 51).Bytes(), reason.IPsec, lb.Flow{}},
		"between AH and ESP, and others":         {testpkt.Raw(client.Addr(), virtual.Addr(), 52).Bytes(), reason.NotL4, lb.Flow{}},
		"the first fragment":                     {testpkt.UDP(client, virtual).Fragment(0, true).Bytes(), reason.Fragment, lb.Flow{}},
		"the last fragment":                      {testpkt.UDP(client, virtual).Fragment(64, false).Bytes(), reason.Fragment, lb.Flow{}},
	} {
		var p packet.Packet
		buf := append(make([]byte, 256), c.frame...)
		if got := p.Parse(buf, 256, len(buf)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		} else if got == reason.None && p.Flow != c.flow {
			t.Errorf("%s: flow %s, want %s", name, p.Flow, c.flow)
		}
	}
}

func TestPaddingIsBehindTheEnd(t *testing.T) {
	frame := testpkt.UDP(client, virtual).Text("x").Pad(60).Bytes()
	var p packet.Packet
	if r := p.Parse(frame, 0, len(frame)); r != reason.None {
		t.Fatal(r)
	}
	if len(frame) != 60 || p.End != 14+20+8+1 {
		t.Errorf("a datagram of one byte in a frame of %d ends at %d", len(frame), p.End)
	}
}

// TestTranslate rewrites random packets every way a mode does and lets the judge add up every checksum anew.
func TestTranslate(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	addr := func() netip.Addr {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], rng.Uint32())
		return netip.AddrFrom4(b)
	}
	port := func() uint16 { return uint16(1 + rng.IntN(65535)) }
	for range 20_000 {
		src, dst := netip.AddrPortFrom(addr(), port()), netip.AddrPortFrom(addr(), port())
		b := testpkt.TCP(src, dst, testpkt.ACK)
		udp := rng.IntN(2) == 0
		if udp {
			b = testpkt.UDP(src, dst)
		}
		frame := b.Payload(testpkt.Pattern(rng.IntN(64))).Bytes()
		var to packet.Endpoints
		if rng.IntN(2) == 0 {
			src = netip.AddrPortFrom(addr(), port())
			to.Src, to.SrcPort = lb.AddrFrom(src.Addr()), src.Port()
		}
		if rng.IntN(2) == 0 {
			dst = netip.AddrPortFrom(addr(), port())
			to.Dst, to.DstPort = lb.AddrFrom(dst.Addr()), dst.Port()
		}
		var p packet.Packet
		if r := p.Parse(frame, 0, len(frame)); r != reason.None {
			t.Fatal(r)
		}
		p.Translate(&to)
		p.DecrementTTL()
		v := testpkt.Decode(t, frame).MustHold(t)
		if v.Src != src || v.Dst != dst || v.TTL != 63 {
			t.Fatalf("%s -> %s ttl %d, want %s -> %s ttl 63", v.Src, v.Dst, v.TTL, src, dst)
		}
		if udp && v.ZeroUDP {
			t.Fatal("a computed UDP checksum was sent as zero, which says there is none")
		}
	}
}

func TestTranslateKeepsAZeroUDPChecksum(t *testing.T) {
	frame := testpkt.UDP(client, virtual).Text("x").NoChecksum().Bytes()
	var p packet.Packet
	p.Parse(frame, 0, len(frame))
	p.Translate(&packet.Endpoints{Dst: lb.MustParseAddr("10.0.0.2"), DstPort: 8080})
	if v := testpkt.Decode(t, frame); !v.ZeroUDP {
		t.Errorf("checksum %#x, want none", v.L4Checksum)
	}
}

func TestTranslateNeverRepairsAChecksum(t *testing.T) {
	for _, at := range []int{14 + 10, 14 + 20 + 16} { // of IP, of TCP
		frame := testpkt.TCP(client, virtual, testpkt.ACK).Text("payload").Bytes()
		frame[at] ^= 0x40
		var p packet.Packet
		p.Parse(frame, 0, len(frame))
		p.Translate(&packet.Endpoints{Dst: lb.MustParseAddr("10.0.0.2"), DstPort: 8080})
		p.DecrementTTL()
		if v := testpkt.Decode(t, frame); v.Checksums == nil {
			t.Errorf("a wrong checksum at byte %d came out right", at)
		}
	}
}

func TestChecksumAgreesWithTheObviousOne(t *testing.T) {
	slow := func(b []byte) uint16 {
		var s uint64
		for i, c := range b {
			s += uint64(c) << (8 * (1 - i%2))
		}
		for s > 0xffff {
			s = s>>16 + s&0xffff
		}
		return ^uint16(s)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for n := range 2000 {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32() | rng.Uint32()) // many ones: carries
		}
		if got, want := packet.Checksum(b), slow(b); got != want {
			t.Fatalf("%d bytes: %#x, want %#x", n, got, want)
		}
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	frame := testpkt.TCP(client, virtual, testpkt.ACK).Bytes()
	var p packet.Packet
	to := packet.Endpoints{Dst: lb.MustParseAddr("10.0.0.2"), DstPort: 8080}
	if n := testing.AllocsPerRun(100, func() {
		p.Parse(frame, 0, len(frame))
		p.Translate(&to)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzParse holds the parser to its promise: whatever the bytes, what it accepts lies inside the frame.
func FuzzParse(f *testing.F) {
	for _, b := range []testpkt.Packet{
		testpkt.TCP(client, virtual, testpkt.SYN), testpkt.UDP(client, virtual).VLAN(1, 2), testpkt.Echo(client.Addr(), virtual.Addr()),
		testpkt.UDP(client, virtual).Options(7, 7, 4, 0, 0, 0, 0), testpkt.UDP(client, virtual).Fragment(8, true),
		testpkt.TCP(client6, virtual6, testpkt.SYN).MSS(1440), testpkt.UDP(client6, virtual6).VLAN(1), testpkt.Echo(client6.Addr(), virtual6.Addr()),
		testpkt.UDP(client6, virtual6).Extension(hopByHop, 5, 2, 0, 0).Extension(routing, 2).Extension(options),
		testpkt.UDP(client6, virtual6).Extension(fragment), testpkt.UDP(client6, virtual6).Fragment(0, true),
	} {
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		var p packet.Packet
		buf := append(make([]byte, 64), frame...)
		why := p.Parse(buf, 64, len(buf))
		samePlain(t, buf, 64)
		if why != reason.None {
			return
		}
		if p.L3 < 64+14 || p.L4 < p.L3+20 || p.End < p.L4+8 || p.End > len(buf) {
			t.Fatalf("headers at %d and %d, end at %d of %d", p.L3, p.L4, p.End, len(buf))
		}
		to := packet.Endpoints{Src: lb.AddrFrom4(1), Dst: lb.AddrFrom4(2), SrcPort: 3, DstPort: 4}
		if p.Is6() {
			to.Src, to.Dst = lb.MustParseAddr("fd00::1"), lb.MustParseAddr("fd00::2")
		}
		p.Translate(&to)
		if at := p.L4 - p.L3; p.Is6() && at < 40 || p.Len() < at+8 {
			t.Fatalf("layer 4 at %d of %d bytes", at, p.Len())
		}
	})
}

func BenchmarkParse(b *testing.B) {
	frame := testpkt.UDP(client, virtual).Size(60).Bytes()
	var p packet.Packet
	for b.Loop() {
		p.Parse(frame, 0, len(frame))
	}
}

func BenchmarkTranslate(b *testing.B) {
	frame := testpkt.UDP(client, virtual).Size(60).Bytes()
	var p packet.Packet
	p.Parse(frame, 0, len(frame))
	to := packet.Endpoints{Dst: lb.MustParseAddr("10.0.0.2"), DstPort: 8080}
	for b.Loop() {
		p.Translate(&to)
	}
}
