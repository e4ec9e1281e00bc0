package packet_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"weir/dataplane/packet"
	"weir/dataplane/reason"
	"weir/internal/testpkt"
	"weir/lb"
)

// TestTranslateAcross sends random packets over to the other family and lets the judge add up every checksum anew.
func TestTranslateAcross(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	end := func(six bool) netip.AddrPort {
		b := [16]byte{0x20, 1}
		for i := 2; i < 16; i++ {
			b[i] = byte(rng.Uint32() | rng.Uint32())
		}
		a := netip.AddrFrom16(b)
		if !six {
			a = netip.AddrFrom4([4]byte(b[:4]))
		}
		return netip.AddrPortFrom(a, uint16(1+rng.IntN(65535)))
	}
	for i := range 10_000 {
		six := i%2 == 0
		src, dst := end(six), end(six)
		payload := testpkt.Pattern(rng.IntN(1400))
		in := testpkt.TCP(src, dst, testpkt.ACK)
		if rng.IntN(2) == 0 {
			in = testpkt.UDP(src, dst)
			if !six && rng.IntN(2) == 0 {
				in = in.NoChecksum()
			}
		}
		switch rng.IntN(3) {
		case 0:
			in = in.Extension(options).Options(1, 1, 1, 1)
		case 1:
			in = in.VLAN(5, 6)
		}
		frame := append(make([]byte, 64), in.TTL(9).TOS(0x2e).Payload(payload).Bytes()...)
		var p packet.Packet
		if r := p.Parse(frame, 64, len(frame)); r != reason.None || !p.CanCross() {
			t.Fatalf("%s, can cross: %t", r, p.CanCross())
		}
		toSrc, toDst := end(!six), end(!six)
		to := packet.Endpoints{Src: lb.AddrFrom(toSrc.Addr()), SrcPort: toSrc.Port(), Dst: lb.AddrFrom(toDst.Addr()), DstPort: toDst.Port()}
		if rng.IntN(4) == 0 {
			to.DstPort, toDst = 0, netip.AddrPortFrom(toDst.Addr(), dst.Port())
		}
		p.TranslateAcross(&to, 77)
		p.DecrementTTL()
		v := testpkt.Decode(t, p.Buf[p.Off:p.End]).MustHold(t)
		if v.Src != toSrc || v.Dst != toDst || v.TTL != 8 || v.TOS != 0x2e || !bytes.Equal(v.Payload, payload) || v.Length != p.Len() {
			t.Fatalf("%s -> %s ttl %d tos %#x, %d bytes, want %s -> %s ttl 8 tos 0x2e", v.Src, v.Dst, v.TTL, v.TOS, len(v.Payload), toSrc, toDst)
		}
		if six && (v.DF != (v.Length > 1260) || v.ID != 77 || len(v.Header) != 20) || !six && len(v.Header) != 40 {
			t.Fatalf("%d bytes, DF %t, identification %d, header of %d", v.Length, v.DF, v.ID, len(v.Header))
		}
		if p.Is6() == six {
			t.Fatal("the packet is still seen as what it was")
		}
	}
}

func TestWhatDoesNotCross(t *testing.T) {
	piece := testpkt.UDP(client, virtual).Payload(make([]byte, 64))
	for name, c := range map[string]struct {
		frame []byte
		kind  packet.Kind
		want  bool
	}{
		"an IPv4 packet":                    {testpkt.UDP(client, virtual).Bytes(), packet.Whole, true},
		"an IPv4 packet without a checksum": {testpkt.UDP(client, virtual).NoChecksum().Bytes(), packet.Whole, true},
		"an IPv6 packet":                    {testpkt.UDP(client6, virtual6).Bytes(), packet.Whole, true},
		"an IPv6 packet with options":       {testpkt.UDP(client6, virtual6).Extension(options).Bytes(), packet.Whole, true},
		"an atomic fragment":                {testpkt.UDP(client6, virtual6).Extension(fragment).Bytes(), packet.Whole, true},
		"a first fragment":                  {piece.Fragment(0, true).Bytes(), packet.Whole, true},
		// Its checksum would be over what only the receiver has whole: RFC 7915 section 4.5.
		"a first fragment without a checksum": {piece.NoChecksum().Fragment(0, true).Bytes(), packet.Whole, false},
		"a later fragment of zeros":           {piece.Fragment(64, true).Bytes(), packet.Later, true},
		"a first fragment of TCP":             {testpkt.TCP(client, virtual).Payload(make([]byte, 64)).Fragment(0, true).Bytes(), packet.Whole, true},
		"a first fragment of IPv6":            {testpkt.UDP(client6, virtual6).Fragment(0, true).Bytes(), packet.Whole, true},
		"an ICMP error":                       {testpkt.UDP(client, virtual).Bytes(), packet.Error, false},
	} {
		var p packet.Packet
		if r := p.Parse(c.frame, 0, len(c.frame)); r != reason.None && r != reason.Fragment {
			t.Fatal(r)
		}
		p.Kind = c.kind
		if got := p.CanCross(); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}

// TestFragmentsCross sends every fragment of datagrams over to the other family, and lets the judge put them together there.
func TestFragmentsCross(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	for round := range 500 {
		six := round%2 == 0
		src, dst, toSrc, toDst := client, virtual, client6, virtual6
		if six {
			src, dst, toSrc, toDst = client6, virtual6, client, virtual
		}
		payload := testpkt.Pattern(1 + rng.IntN(4000))
		in := testpkt.UDP(src, dst)
		if rng.IntN(2) == 0 {
			in = testpkt.TCP(src, dst, testpkt.ACK)
		}
		to := packet.Endpoints{Src: lb.AddrFrom(toSrc.Addr()), SrcPort: 7, Dst: lb.AddrFrom(toDst.Addr()), DstPort: 8}
		whole := append(make([]byte, 64), in.TTL(9).TOS(0x2e).Payload(payload).Bytes()...)
		var cut packet.Packet
		if r := cut.Parse(whole, 64, len(whole)); r != reason.None {
			t.Fatal(r)
		}
		var frames [][]byte
		for pieces := cut.Pieces(600+rng.IntN(900), 0x12345678); pieces.Left(); {
			b := make([]byte, 2048)
			n := pieces.Next(b[64:])
			var p packet.Packet
			r := p.Parse(b, 64, 64+n)
			if r == reason.None { // it was no longer than that
				frames = nil
				break
			}
			if piece, _ := p.Fragment(); piece.Start != 0 {
				p.Kind = packet.Later
			} else if r := p.ParseFirst(); r != reason.None {
				t.Fatal(r)
			}
			if !p.CanCross() {
				t.Fatal("cannot cross")
			}
			size := p.Len() + p.Across() - (p.L4 - p.L3)
			p.TranslateAcross(&to, 77)
			if p.Len() != size {
				t.Fatalf("%d bytes, %d were foreseen", p.Len(), size)
			}
			frames = append(frames, bytes.Clone(p.Buf[p.Off:p.End]))
		}
		if len(frames) < 2 {
			continue
		}
		frame, err := testpkt.Reassemble(frames)
		if err != nil {
			t.Fatal(err)
		}
		v := testpkt.Decode(t, frame).MustHold(t)
		if v.Src != netip.AddrPortFrom(toSrc.Addr(), 7) || v.Dst != netip.AddrPortFrom(toDst.Addr(), 8) || v.TTL != 9 || v.TOS != 0x2e || v.DF ||
			!bytes.Equal(v.Payload, payload) || v.Src.Addr().Is4() && v.ID != map[bool]uint16{true: 0x5678, false: 0x1234}[six] {
			t.Fatalf("%s -> %s, ttl %d, tos %#x, DF %t, identification %#x, %d bytes", v.Src, v.Dst, v.TTL, v.TOS, v.DF, v.ID, len(v.Payload))
		}
	}
}

func TestCrossingNeverRepairsAChecksum(t *testing.T) {
	for _, frame := range [][]byte{testpkt.TCP(client6, virtual6, testpkt.ACK).Text("payload").Bytes(), testpkt.UDP(client6, virtual6).Text("payload").Bytes()} {
		frame[len(frame)-1] ^= 0x40
		var p packet.Packet
		p.Parse(frame, 0, len(frame))
		p.TranslateAcross(&packet.Endpoints{Src: lb.AddrFrom4(1), Dst: lb.AddrFrom4(2)}, 1)
		if v := testpkt.Decode(t, p.Buf[p.Off:p.End]); v.Checksums == nil {
			t.Error("a wrong checksum came out right")
		}
	}
}

func BenchmarkTranslateAcross(b *testing.B) {
	six := testpkt.UDP(client6, virtual6).Size(80).Bytes()
	frame := append(make([]byte, 64), six...)
	var p packet.Packet
	to := packet.Endpoints{Src: lb.AddrFrom4(1), Dst: lb.AddrFrom4(2), SrcPort: 3, DstPort: 4}
	for b.Loop() {
		copy(frame[64:], six)
		p.Parse(frame, 64, len(frame))
		p.TranslateAcross(&to, 1)
	}
	if binary.BigEndian.Uint16(p.Ethernet()[12:]) != packet.EtherIPv4 {
		b.Fatal("did not cross")
	}
}
