package packet_test

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"weir/dataplane/packet"
	"weir/dataplane/reason"
	"weir/internal/testpkt"
	"weir/lb"
)

// FuzzParts parses frames of any bytes that are no whole packets to weir, and rewrites them: nothing outside the IP packet is read or
// written, whatever is quoted and however it is cut short.
func FuzzParts(f *testing.F) {
	router := netip.MustParseAddr("203.0.113.9")
	client6, virtual6 := netip.MustParseAddrPort("[2001:db8::7]:40000"), netip.MustParseAddrPort("[2001:db8::10]:80")
	for _, about := range []testpkt.Packet{
		testpkt.TCP(virtual, client, testpkt.ACK).Text("hello"), testpkt.UDP(virtual, client).Text("hello"),
		testpkt.UDP(virtual, client).Options(7, 7, 4, 0, 0, 0, 0), testpkt.UDP(virtual, client).Via(virtual.Addr(), client.Addr()),
	} {
		f.Add(testpkt.ICMPError(router, virtual.Addr(), 3, 4, 0, about).Bytes())
	}
	for _, about := range []testpkt.Packet{testpkt.TCP(virtual6, client6, testpkt.ACK), testpkt.UDP(virtual6, client6).Fragment(0, true)} {
		f.Add(testpkt.ICMPError(client6.Addr(), virtual6.Addr(), 2, 0, 1280, about).Bytes())
		f.Add(about.Fragment(8, true).Bytes())
	}
	f.Add(testpkt.UDP(client, virtual).Fragment(0, true).Bytes())
	f.Add(testpkt.ICMPError(router, virtual.Addr(), 3, 1, 32<<16, testpkt.UDP(virtual, client).Payload(make([]byte, 150))).Bytes()) // RFC 4884
	f.Add(testpkt.ICMPError(client6.Addr(), virtual6.Addr(), 1, 3, 16<<24, testpkt.UDP(virtual6, client6).Payload(make([]byte, 150))).Bytes())
	f.Fuzz(func(t *testing.T, frame []byte) {
		const around = 64
		buf := slices.Concat(bytes.Repeat([]byte{0xa5}, around), frame, bytes.Repeat([]byte{0xa5}, around))
		before := slices.Clone(buf)
		var p, q packet.Packet
		switch p.Parse(buf[:len(buf)-around], around, len(buf)-around) {
		case reason.ICMPError:
			p.SoundError()
			if p.Quote(&q) {
				p.NextHopMTU(&q)
				var inner packet.Packet
				for at := q.L4; at <= q.End; at++ {
					q.Inner(&inner, at, at%2 == 0)
				}
			}
		case reason.Fragment:
			piece, why := p.Fragment()
			if why == reason.None && piece.Start == 0 {
				p.ParseFirst()
			}
			p.Kind = packet.Later
			p.SetFragmentID(7)
		default:
			return
		}
		to := packet.Endpoints{Src: lb.AddrFrom4(1), Dst: lb.AddrFrom4(2), SrcPort: 3, DstPort: 4}
		if p.Is6() {
			to.Src, to.Dst = lb.Addr{Hi: 1}, lb.Addr{Hi: 2}
		}
		p.TranslatePart(&to)
		if !bytes.Equal(buf[:p.L3], before[:p.L3]) || !bytes.Equal(buf[p.End:], before[p.End:]) {
			t.Fatal("something outside the packet was written")
		}
	})
}

func TestPartsDoNotAllocate(t *testing.T) {
	frame := testpkt.ICMPError(client.Addr(), virtual.Addr(), 3, 4, 1400, testpkt.TCP(virtual, client, testpkt.ACK)).Bytes()
	var p, q packet.Packet
	to := packet.Endpoints{Dst: lb.MustParseAddr("10.0.0.2"), DstPort: 8080}
	if n := testing.AllocsPerRun(100, func() {
		p.Parse(frame, 0, len(frame))
		p.Quote(&q)
		p.TranslatePart(&to)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
