package forward_test

import (
	"bytes"
	"net/netip"
	"testing"

	"weir/dataplane/forward"
	"weir/dataplane/packet"
	"weir/dataplane/reason"
	"weir/internal/testpkt"
	"weir/lb"
)

func TestFULLNATBetweenFamilies(t *testing.T) {
	for name, c := range map[string]struct {
		toClient       bool
		from, to       netip.AddrPort // as it comes
		newFrom, newTo netip.AddrPort // as it leaves
		fits, maxLen   int            // the longest IP packet that comes in
	}{
		"an IPv6 client's packet to an IPv4 server": {false, client6, virtual6, local, server, 1520, 1520},
		"its answer": {true, server, local, virtual6, client6, 1480, 1480},
		"an IPv4 client's packet to an IPv6 server": {false, client, virtual, local6, server6, 1480, 1480},
		"its answer over IPv6":                      {true, server6, local6, virtual, client, 1520, 1520},
	} {
		t.Run(name, func(t *testing.T) {
			hop := forward.Hop{Path: path(), To: ends(c.newFrom, c.newTo), ID: 77}
			rewrite := forward.Modes[lb.FULLNAT].ToServer
			if c.toClient {
				rewrite = forward.Modes[lb.FULLNAT].ToClient
			}
			in := testpkt.TCP(c.from, c.to, testpkt.ACK).TTL(17).DF().Text("what they said")
			p := parsed(t, in.Bytes())
			if n := hop.MaxLen(p); n != c.maxLen {
				t.Errorf("the longest is %d, want %d", n, c.maxLen)
			}
			if r := rewrite(p, &hop); r != reason.None {
				t.Fatal(r)
			}
			v := testpkt.Decode(t, out(p)).MustHold(t)
			if v.Src != c.newFrom || v.Dst != c.newTo || v.TTL != 16 || string(v.Payload) != "what they said" || !bytes.Equal(v.DstMAC, serverMAC) {
				t.Errorf("%s -> %s ttl %d %q to %s", v.Src, v.Dst, v.TTL, v.Payload, v.DstMAC)
			}
			for _, row := range []struct {
				what string
				in   testpkt.Packet
				want reason.Reason
			}{
				{"as long as fits", in.Size(14 + c.fits), reason.None},
				{"a byte longer", in.Size(14 + c.fits + 1), reason.TooBig},
				{"TTL 1", in.TTL(1), reason.TTLExceeded},
				{"a first fragment", in.Fragment(0, true), reason.None},
				{"a later fragment", in.Payload(make([]byte, 64)).Fragment(64, false), reason.None},
			} {
				frame := row.in.Bytes()
				p := new(packet.Packet)
				buf := append(make([]byte, 256), frame...)
				if r := p.Parse(buf, 256, len(buf)); r != reason.None && r != reason.Fragment {
					t.Fatal(r)
				}
				if row.what == "a later fragment" {
					p.Kind = packet.Later
				}
				before := bytes.Clone(p.Buf)
				got := rewrite(p, &hop)
				if got != row.want || got != reason.None && !bytes.Equal(p.Buf, before) {
					t.Errorf("%s: %s, want %s", row.what, got, row.want)
				}
			}
		})
	}
}
