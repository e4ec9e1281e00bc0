package packet_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"weir/dataplane/packet"
	"weir/dataplane/reason"
	"weir/internal/testpkt"
	"weir/lb"
)

// samePlain holds Glance to what Parse says of a frame, and Age and Relay to what Packet does. It reports whether the frame is plain.
func samePlain(t *testing.T, buf []byte, off int) bool {
	t.Helper()
	var p packet.Plain
	if !p.Glance(buf, off, len(buf)) {
		return false
	}
	var full packet.Packet
	if why := full.Parse(buf, off, len(buf)); why != reason.None {
		t.Fatalf("%x is plain, and %s", buf[off:], why)
	}
	if p.Flow() != full.Flow || int(p.Len) != full.Len() || p.TCPFlags != full.TCPFlags || p.Is6 != full.Is6() ||
		full.Kind != packet.Whole || full.VLANs() != 0 || full.TTL() < 2 {
		t.Fatalf("%x: %+v, want %+v", buf[off:], p, full)
	}
	if packet.SourceBits(buf[off:]) != full.SrcMACBits() {
		t.Fatalf("%x: comes from %x, want %x", buf[off:], packet.SourceBits(buf[off:]), full.SrcMACBits())
	}
	same := func(plain func(b []byte), whole func()) {
		one, other := bytes.Clone(buf), bytes.Clone(buf)
		plain(one[off:])
		full.Parse(other, off, len(other))
		whole()
		if !bytes.Equal(one, other) {
			t.Fatalf("%x\nbecomes %x\nwant    %x", buf[off:], one[off:], other[off:])
		}
	}
	same(p.Age, full.DecrementTTL)
	a, b := lb.MustParseAddr("10.0.0.2"), lb.MustParseAddr("10.255.0.2")
	if p.Is6 {
		a, b = lb.MustParseAddr("2001:db8::2"), lb.MustParseAddr("2001:db8:ffff::2")
	}
	for _, to := range []packet.Endpoints{
		{Dst: a, DstPort: 8080}, {Dst: b}, {Src: a, SrcPort: 1}, {Src: b}, {Src: a, Dst: b}, {Src: b, SrcPort: 40000, Dst: a, DstPort: 80},
	} {
		src, dst, ports := to.Src, to.Dst, uint32(to.SrcPort)<<16|uint32(to.DstPort)
		if !src.IsValid() {
			src = p.Src
		}
		if !dst.IsValid() {
			dst = p.Dst
		}
		if src == p.Src && dst == p.Dst {
			continue
		}
		if to.SrcPort == 0 {
			ports |= p.Ports & 0xffff0000
		}
		if to.DstPort == 0 {
			ports |= p.Ports & 0xffff
		}
		same(func(b []byte) { p.Relay(b, src, dst, ports) }, func() { full.Relay(&to) })
	}
	return true
}

func TestPlain(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for name, p := range map[string][2]testpkt.Packet{
		"IPv4": {testpkt.UDP(client, virtual), testpkt.TCP(client, virtual, testpkt.ACK)},
		"IPv6": {testpkt.UDP(client6, virtual6), testpkt.TCP(client6, virtual6, testpkt.ACK)},
	} {
		udp, tcp := p[0], p[1]
		plain := 0
		for _, b := range []testpkt.Packet{udp, tcp, udp.Text("odd"), tcp.Text("odd").Pad(90), udp.NoChecksum(), tcp.MSS(1460), udp.VLAN(4), udp.Size(1514)} {
			frame := b.Bytes()
			for range 5000 {
				f := bytes.Clone(frame)
				for range random.IntN(3) {
					f[random.IntN(min(len(f), 80))] = byte(random.Uint32())
				}
				if samePlain(t, f[:len(f)-random.IntN(2)*random.IntN(len(f))], 0) {
					plain++
				}
			}
		}
		if plain < 10_000 {
			t.Errorf("%s: only %d of 40000 frames were plain", name, plain)
		}
	}
}

// TestPlainChecksums: with every checksum there is, also with those that become zero, or are.
func TestPlainChecksums(t *testing.T) {
	for sum := range 1 << 16 {
		for _, f := range [][]byte{testFrames.udp, testFrames.tcp} {
			at := 34 + 6
			if f[23] == byte(lb.TCP) {
				at = 34 + 16
			}
			binary.BigEndian.PutUint16(f[at:], uint16(sum))
			binary.BigEndian.PutUint16(f[24:], uint16(sum))
			if !samePlain(t, f, 0) {
				t.Fatalf("%x: not plain", f)
			}
		}
	}
}

var testFrames = struct{ udp, tcp []byte }{testpkt.UDP(client, virtual).Bytes(), testpkt.TCP(client, virtual, testpkt.ACK).Bytes()}

// TestNotPlain: what needs more than a glance does not pass for plain.
func TestNotPlain(t *testing.T) {
	for name, b := range map[string]testpkt.Packet{
		"a tag":                     testpkt.UDP(client, virtual).VLAN(4),
		"IPv4 options":              testpkt.UDP(client, virtual).Options(7, 7, 4, 0, 0, 0, 0),
		"a fragment":                testpkt.UDP(client, virtual).Fragment(8, true),
		"the last hop":              testpkt.UDP(client, virtual).TTL(1),
		"the last hop, IPv6":        testpkt.TCP(client6, virtual6, testpkt.ACK).TTL(1),
		"SYN":                       testpkt.TCP(client, virtual, testpkt.SYN),
		"SYN, IPv6":                 testpkt.TCP(client6, virtual6, testpkt.SYN, testpkt.ACK),
		"an extension":              testpkt.UDP(client6, virtual6).Extension(options),
		"an atomic fragment":        testpkt.UDP(client6, virtual6).Extension(fragment),
		"no UDP checksum over IPv6": testpkt.UDP(client6, virtual6).NoChecksum(),
		"ICMP":                      testpkt.Echo(client.Addr(), virtual.Addr()),
	} {
		var p packet.Plain
		if f := b.Bytes(); p.Glance(f, 0, len(f)) {
			t.Errorf("%s: plain", name)
		}
	}
}

func BenchmarkGlance(b *testing.B) {
	for name, p := range map[string]testpkt.Packet{"IPv4": testpkt.UDP(client, virtual), "IPv6": testpkt.UDP(client6, virtual6)} {
		b.Run(name, func(b *testing.B) {
			var plain packet.Plain
			f := p.Size(64).Bytes()
			for b.Loop() {
				if !plain.Glance(f, 0, len(f)) {
					b.Fatal("not plain")
				}
			}
		})
	}
}
