package packet_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"weir/dataplane/packet"
	"weir/dataplane/reason"
	"weir/internal/testpkt"
	"weir/lb"
)

// samePlain holds Parse to what it says of any frame the long way, and RelayPlain to Relay.
func samePlain(t *testing.T, buf []byte, off int) {
	t.Helper()
	var p, full packet.Packet
	why, want := p.Parse(buf, off, len(buf)), full.ParseInFull(buf, off, len(buf))
	if why != want {
		t.Fatalf("%x: %s, want %s", buf[off:], why, want)
	}
	if !p.Plain {
		return
	}
	if p.L3 != full.L3 || p.L4 != full.L4 || p.End != full.End || p.Flow != full.Flow || p.TCPFlags != full.TCPFlags || p.Kind != full.Kind {
		t.Fatalf("%x: %+v, want %+v", buf[off:], p, full)
	}
	if p.TTL() == 0 {
		return
	}
	for _, to := range []packet.Endpoints{{Dst: lb.MustParseAddr("10.0.0.2"), DstPort: 8080}, {Dst: lb.MustParseAddr("10.255.0.2")}} {
		one, other := bytes.Clone(buf), bytes.Clone(buf)
		p.Parse(one, off, len(one))
		p.RelayPlain(to.Dst, to.DstPort)
		full.ParseInFull(other, off, len(other))
		full.Relay(&to)
		if !bytes.Equal(one, other) {
			t.Fatalf("%x\nbecomes %x\nwant    %x", buf[off:], one[off:], other[off:])
		}
	}
}

func TestPlain(t *testing.T) {
	udp, tcp := testpkt.UDP(client, virtual), testpkt.TCP(client, virtual, testpkt.ACK)
	random := rand.New(rand.NewPCG(5, 6))
	for _, b := range []testpkt.Packet{udp, tcp, udp.Text("odd"), tcp.Text("odd").Pad(70), udp.NoChecksum(), tcp.MSS(1460), udp.VLAN(4), tcp.Options(1, 1, 1, 1)} {
		frame := b.Bytes()
		var p packet.Packet
		if why := p.Parse(frame, 0, len(frame)); why != reason.None {
			t.Fatal(why)
		}
		for range 5000 {
			f := bytes.Clone(frame)
			for range random.IntN(3) {
				f[random.IntN(len(f))] = byte(random.Uint32())
			}
			samePlain(t, f[:len(f)-random.IntN(2)*random.IntN(len(f))], 0)
		}
	}
}
