package packet_test

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"net/netip"
	"testing"

	"weir/dataplane/packet"
	"weir/dataplane/reason"
	"weir/internal/testpkt"
	"weir/lb"
)

func sctpPacket(src, dst netip.AddrPort) testpkt.Packet {
	return testpkt.SCTP(src, dst).Chunk(testpkt.ChunkData, testpkt.Pattern(21))
}

func TestParseSCTP(t *testing.T) {
	whole := testpkt.SCTP(client, virtual, testpkt.ChunkInit).Bytes()
	// Behind the IP header: 12 bytes of SCTP's own, then chunks, a cookie's length in its third and fourth byte.
	const cookie = 14 + 20 + 12
	echoAbort := testpkt.SCTP(client, virtual).Chunk(testpkt.ChunkCookieEcho, []byte("odd")).Chunk(testpkt.ChunkAbort, nil)
	for name, c := range map[string]struct {
		frame []byte
		want  reason.Reason
		chunk uint8
	}{
		"an INIT":                             {whole, reason.None, 1},
		"over IPv6":                           {testpkt.SCTP(client6, virtual6, testpkt.ChunkInit).Bytes(), reason.None, 1},
		"behind extension headers":            {testpkt.SCTP(client6, virtual6, testpkt.ChunkShutdown).Extension(options).Bytes(), reason.None, 7},
		"padding is no second chunk":          {testpkt.SCTP(client, virtual, testpkt.ChunkCookieEcho).Pad(60).Bytes(), reason.None, 10},
		"the first of two chunks counts":      {testpkt.SCTP(client, virtual, testpkt.ChunkSack, testpkt.ChunkShutdown).Bytes(), reason.None, 3},
		"an unknown chunk":                    {testpkt.SCTP(client, virtual, 0xc1).Bytes(), reason.None, 0xc1},
		"an ABORT behind a COOKIE ECHO":       {echoAbort.Bytes(), reason.None, 6},
		"an ABORT behind a COOKIE ACK":        {testpkt.SCTP(client, virtual, testpkt.ChunkCookieAck, testpkt.ChunkAbort).Bytes(), reason.None, 6},
		"an ABORT behind a SACK":              {testpkt.SCTP(client, virtual, testpkt.ChunkSack, testpkt.ChunkAbort).Bytes(), reason.None, 3},
		"DATA behind a COOKIE ECHO":           {testpkt.SCTP(client, virtual, testpkt.ChunkCookieEcho, testpkt.ChunkData).Bytes(), reason.None, 10},
		"an ABORT as a COOKIE ECHO's third":   {testpkt.SCTP(client, virtual, testpkt.ChunkCookieEcho, testpkt.ChunkData, testpkt.ChunkAbort).Bytes(), reason.None, 10},
		"a cookie of length 3":                {edited(testpkt.SCTP(client, virtual, 10, 6).Bytes(), cookie+2, 0, 3), reason.None, 10},
		"a cookie longer than the packet":     {edited(testpkt.SCTP(client, virtual, 10, 6).Bytes(), cookie+2, 0xff, 0xff), reason.None, 10},
		"half a chunk header behind a cookie": {edited(echoAbort.Bytes()[:cookie+8+3], 16, 0, 20+12+8+3), reason.None, 10},
		"no chunk":                            {testpkt.SCTP(client, virtual).Bytes(), reason.Truncated, 0},
		"half a chunk header":                 {edited(whole[:14+20+15], 16, 0, 35), reason.Truncated, 0},
		"half a header":                       {edited(whole[:14+20+11], 16, 0, 31), reason.Truncated, 0},
		"a first fragment":                    {sctpPacket(client, virtual).Fragment(0, true).Bytes(), reason.Fragment, 0},
	} {
		var p packet.Packet
		buf := append(make([]byte, 256), c.frame...)
		got := p.Parse(buf, 256, len(buf))
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		} else if got == reason.None && (p.TCPFlags != c.chunk || p.Flow.Proto != lb.SCTP || p.Flow.SrcPort != 40000 || p.Flow.DstPort != 80) {
			t.Errorf("%s: %s, chunk %d, want %d", name, p.Flow, p.TCPFlags, c.chunk)
		}
	}
}

// TestTranslateSCTP rewrites random packets every way a mode does, within a family and across, and lets the judge compute every CRC anew.
func TestTranslateSCTP(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	end := func(six bool) netip.AddrPort {
		b := [16]byte{0x20, 1}
		for i := 2; i < 16; i++ {
			b[i] = byte(rng.Uint32())
		}
		a := netip.AddrFrom16(b)
		if !six {
			a = netip.AddrFrom4([4]byte(b[:4]))
		}
		return netip.AddrPortFrom(a, uint16(1+rng.IntN(65535)))
	}
	for i := range 4_000 {
		six, across := i%2 == 0, i%4 < 2
		src, dst := end(six), end(six)
		payload := testpkt.Pattern(rng.IntN(1400))
		in := testpkt.SCTP(src, dst).Chunk(testpkt.ChunkData, payload)
		if rng.IntN(2) == 0 {
			in = in.Extension(options).Options(1, 1, 1, 1)
		}
		frame := append(make([]byte, 64), in.Bytes()...)
		var p packet.Packet
		if r := p.Parse(frame, 64, len(frame)); r != reason.None {
			t.Fatal(r)
		}
		toSrc, toDst := end(six != across), end(six != across)
		to := packet.Endpoints{Src: lb.AddrFrom(toSrc.Addr()), SrcPort: toSrc.Port(), Dst: lb.AddrFrom(toDst.Addr()), DstPort: toDst.Port()}
		if rng.IntN(4) == 0 {
			to.SrcPort, toSrc = 0, netip.AddrPortFrom(toSrc.Addr(), src.Port())
		}
		if across {
			p.TranslateAcross(&to, 7)
		} else {
			p.Translate(&to)
		}
		v := testpkt.Decode(t, p.Buf[p.Off:p.End]).MustHold(t)
		if v.Src != toSrc || v.Dst != toDst || len(v.Chunks) != 1 || string(v.Chunks[0].Body) != string(payload) {
			t.Fatalf("%s -> %s, want %s -> %s", v.Src, v.Dst, toSrc, toDst)
		}
	}
}

func TestAWrongCRCStaysWrong(t *testing.T) {
	for _, at := range []int{14 + 20 + 8, 14 + 20 + 16} { // of the checksum, of the data
		frame := sctpPacket(client, virtual).Bytes()
		frame[at] ^= 0x40
		var p packet.Packet
		p.Parse(frame, 0, len(frame))
		p.Translate(&packet.Endpoints{Dst: lb.MustParseAddr("10.0.0.2"), DstPort: 8080})
		if v := testpkt.Decode(t, frame); v.Checksums == nil {
			t.Errorf("a packet with byte %d wrong came out right", at)
		}
	}
}

// TestAQuotedCRCIsBroughtAlong cuts what an ICMP error quotes at every length.
func TestAQuotedCRCIsBroughtAlong(t *testing.T) {
	sent := sctpPacket(client, virtual)
	for quoted := 20 + 8; quoted <= len(sent.Bytes())-14; quoted++ {
		frame := testpkt.ICMPError(virtual.Addr(), client.Addr(), 3, 3, 0, sent).Bytes()
		frame = frame[:14+20+8+quoted]
		binary.BigEndian.PutUint16(frame[16:], uint16(len(frame)-14))
		frame[24], frame[25], frame[36], frame[37] = 0, 0, 0, 0
		binary.BigEndian.PutUint16(frame[24:], packet.Checksum(frame[14:34]))
		binary.BigEndian.PutUint16(frame[36:], packet.Checksum(frame[34:]))

		var p packet.Packet
		if r := p.Parse(frame, 0, len(frame)); r != reason.ICMPError {
			t.Fatal(r)
		}
		p.TranslatePart(&packet.Endpoints{Dst: lb.MustParseAddr("10.0.0.9"), DstPort: 4444}) // back to who sent it from there
		v := testpkt.Decode(t, frame).MustHold(t)
		src, dst, _, err := v.Quoted()
		if want := netip.MustParseAddrPort("10.0.0.9:4444"); err != nil || src != want || dst != virtual {
			t.Fatalf("%d bytes: quoted %s -> %s, want %s -> %s", quoted, src, dst, want, virtual)
		}
		if quoted < 20+12 {
			continue
		}
		// What it was when it was sent from the new address and port.
		was := testpkt.Decode(t, sctpPacket(netip.MustParseAddrPort("10.0.0.9:4444"), virtual).Bytes())
		if got := binary.LittleEndian.Uint32(v.Payload[20+8:]); got != was.CRC {
			t.Fatalf("%d bytes: quoted CRC %#08x, want %#08x", quoted, got, was.CRC)
		}
	}
}

// Nobody knows any more how long the datagram was that a quoted fragment is the first one of: its checksum stays what it is.
func TestAQuotedFirstFragmentKeepsItsCRC(t *testing.T) {
	for _, about := range []testpkt.Packet{sctpPacket(client, virtual).Fragment(0, true), sctpPacket(client6, virtual6).Fragment(0, true)} {
		was := testpkt.Decode(t, about.Bytes())
		typ := map[bool]uint8{true: 3, false: 1}[was.Src.Addr().Is4()]
		frame := testpkt.ICMPError(was.Dst.Addr(), was.Src.Addr(), typ, 0, 0, about).Bytes()
		var p packet.Packet
		if r := p.Parse(frame, 0, len(frame)); r != reason.ICMPError {
			t.Fatal(r)
		}
		p.TranslatePart(&packet.Endpoints{DstPort: 4444})
		v := testpkt.Decode(t, frame).MustHold(t)
		quoted := v.Payload[len(was.Header):]
		if port, crc := binary.BigEndian.Uint16(quoted), binary.LittleEndian.Uint32(quoted[8:]); port != 4444 || crc != was.CRC {
			t.Errorf("quotes port %d, CRC %#08x, want 4444 and %#08x", port, crc, was.CRC)
		}
	}
}

func TestWhoseChecksumAFirstFragmentKeeps(t *testing.T) {
	port := &packet.Endpoints{Dst: lb.MustParseAddr("10.0.0.2"), DstPort: 8080}
	same := &packet.Endpoints{Dst: lb.MustParseAddr("10.0.0.2"), DstPort: 80, SrcPort: 40000}
	for name, c := range map[string]struct {
		frame    []byte
		to       *packet.Endpoints
		datagram uint16
		want     bool
	}{
		"whole SCTP, another port":                    {sctpPacket(client, virtual).Bytes(), port, 0, true},
		"a first fragment of SCTP, the same ports":    {sctpPacket(client, virtual).Fragment(0, true).Bytes(), same, 0, true},
		"a first fragment of SCTP, another port":      {sctpPacket(client, virtual).Fragment(0, true).Bytes(), port, 0, false},
		"the same when the length is known":           {sctpPacket(client, virtual).Fragment(0, true).Bytes(), port, 3000, true},
		"a first fragment over IPv6, another port":    {sctpPacket(client6, virtual6).Fragment(0, true).Bytes(), port, 0, false},
		"the same when its length is known":           {sctpPacket(client6, virtual6).Fragment(0, true).Bytes(), port, 3000, true},
		"an atomic fragment over IPv6, another port":  {sctpPacket(client6, virtual6).Extension(fragment).Bytes(), port, 0, true},
		"a first fragment of a UDP datagram":          {testpkt.UDP(client, virtual).Fragment(0, true).Bytes(), port, 0, true},
		"whole SCTP that must not be cut, other port": {sctpPacket(client, virtual).DF().Bytes(), port, 0, true},
	} {
		var p packet.Packet
		if r := p.Parse(c.frame, 0, len(c.frame)); r == reason.Fragment {
			r = p.ParseFirst()
			if r != reason.None {
				t.Fatal(name, r)
			}
			p.Datagram = c.datagram
		}
		if got := p.CanTranslate(c.to); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}

// firstOf returns the first fragment, of n bytes behind the IP header, of an SCTP packet over IPv4 or IPv6 that is l4 from its ports on.
func firstOf(src, dst netip.AddrPort, l4 []byte, n int) (buf []byte, p packet.Packet, why reason.Reason) {
	frame := testpkt.Raw(src.Addr(), dst.Addr(), 132).Fragment(0, true).Payload(l4[:n]).Bytes()
	buf = append(make([]byte, 64), frame...)
	why = p.Parse(buf, 64, len(buf))
	if why == reason.Fragment {
		why = p.ParseFirst()
	}
	p.Datagram = uint16(len(l4))
	return buf, p, why
}

// TestAFirstFragmentsCRCIsThatOfTheWhole translates first fragments of datagrams of every length, within a family and across, and has the
// standard library compute the whole anew. One that was wrong has to stay wrong by the same bits.
func TestAFirstFragmentsCRCIsThatOfTheWhole(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	random := make([]byte, 65_515)
	for i := range random {
		random[i] = byte(rng.Uint32())
	}
	lengths := []int{65_515, 65_514, 65_024, 65_023}
	for n := 17; n <= 2*1024+17; n++ { // every length in the neighbourhood of some strides
		lengths = append(lengths, n)
	}
	for range 2000 {
		lengths = append(lengths, 17+rng.IntN(65_515-17+1))
	}
	for i, n := range lengths {
		six, across := i%2 == 0, i%4 < 2
		from := rng.IntN(len(random) - n + 1)
		l4 := append([]byte(nil), random[from:from+n]...)
		wrong := uint32(0)
		if rng.IntN(4) == 0 {
			wrong = rng.Uint32()
		}
		binary.LittleEndian.PutUint32(l4[8:], crc(l4)^wrong)
		src, dst := client, virtual
		if six {
			src, dst = client6, virtual6
		}
		size := min((16+rng.IntN(1400))&^7, (n-1)&^7)
		buf, p, why := firstOf(src, dst, l4, size)
		if why != reason.None {
			t.Fatal(why)
		}
		to := packet.Endpoints{Src: lb.MustParseAddr("10.0.0.100"), SrcPort: uint16(1 + rng.IntN(65535)), Dst: lb.MustParseAddr("10.0.0.2"), DstPort: uint16(1 + rng.IntN(65535))}
		if six != across {
			to.Src, to.Dst = lb.MustParseAddr("2001:db8:20::100"), lb.MustParseAddr("2001:db8:20::2")
		}
		if !p.CanTranslate(&to) {
			t.Fatal("the length of the datagram is known")
		}
		if across {
			p.TranslateAcross(&to, 7)
		} else {
			p.Translate(&to)
		}
		v := testpkt.Decode(t, buf[p.Off:p.End]).MustHold(t)
		whole := append(v.Frame[14+len(v.Header):14+v.Length:14+v.Length], l4[size:]...)
		if len(whole) != n || v.Src.Port() != to.SrcPort || v.Dst.Port() != to.DstPort {
			t.Fatalf("%d bytes from %s to %s", len(whole), v.Src, v.Dst)
		}
		if got := v.CRC ^ crc(whole); got != wrong {
			t.Fatalf("%d bytes: the checksum is wrong by %#08x, was by %#08x", n, got, wrong)
		}
	}
}

func TestTranslateSCTPDoesNotAllocate(t *testing.T) {
	frame := sctpPacket(client, virtual).Bytes()
	var p packet.Packet
	port := uint16(1)
	if n := testing.AllocsPerRun(100, func() {
		p.Parse(frame, 0, len(frame))
		port++
		p.Translate(&packet.Endpoints{DstPort: port})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	_, p, _ = firstOf(client, virtual, testpkt.Pattern(65_515), 1480)
	if n := testing.AllocsPerRun(100, func() {
		port++
		p.Translate(&packet.Endpoints{DstPort: port})
	}); n != 0 {
		t.Errorf("%v allocations for a first fragment", n)
	}
}

// FuzzParseSCTP: whatever an SCTP packet's bytes are, parsing reads nothing outside of it, and a change of ports and the change back leave it
// as it was.
func FuzzParseSCTP(f *testing.F) {
	f.Add([]byte{0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 7, 1, 2, 3, 0, 6, 0, 0, 4}, uint16(3))
	f.Add([]byte{0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 11, 0, 0xff, 0xff}, uint16(3))
	f.Fuzz(func(t *testing.T, l4 []byte, port uint16) {
		if len(l4) > 1480 {
			l4 = l4[:1480]
		}
		frame := testpkt.Raw(client.Addr(), virtual.Addr(), 132).Payload(l4).Bytes()
		frame = frame[:len(frame):len(frame)]
		before := string(frame)
		var p packet.Packet
		if r := p.Parse(frame, 0, len(frame)); r != reason.None {
			if len(l4) >= packet.SCTPMinLen {
				t.Fatal(r)
			}
			return
		}
		was := p.Flow.DstPort
		sum := binary.LittleEndian.Uint32(l4[8:]) ^ crc(l4)
		p.Translate(&packet.Endpoints{DstPort: port | 1})
		now := p.L4Bytes()
		if binary.LittleEndian.Uint32(now[8:])^crc(now) != sum {
			t.Fatal("the checksum is wrong in another way than it was")
		}
		p.Flow.DstPort = port | 1
		if was == 0 {
			return // no port can be changed to zero
		}
		p.Translate(&packet.Endpoints{DstPort: was})
		if string(frame) != before {
			t.Fatal("there and back is not where it began")
		}
	})
}

// FuzzSplitCRC: the checksum in a first fragment changes as that of the whole does, whatever the datagram is and wherever it is cut.
func FuzzSplitCRC(f *testing.F) {
	f.Add([]byte{0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 7, 1, 2, 3, 0, 6, 0, 0, 4}, uint16(16), uint16(0), uint32(1))
	f.Add(make([]byte, 512), uint16(24), uint16(512), ^uint32(0)) // a stride of zeros
	f.Add(make([]byte, 515), uint16(512), uint16(65_000), uint32(0x10000))
	f.Fuzz(func(t *testing.T, l4 []byte, cut, more uint16, ports uint32) {
		if len(l4) > 1480 || len(l4)+int(more) > 65_515 || len(l4) < 17 || ports>>16 == 0 || uint16(ports) == 0 {
			return
		}
		l4 = append(l4[:len(l4):len(l4)], make([]byte, more)...)
		for i := range l4[len(l4)-int(more):] { // something that is not all alike
			l4[len(l4)-1-i] ^= byte(i * 7)
		}
		n := min(max(16, int(cut)&^7), (len(l4)-1)&^7, 1480)
		was := binary.LittleEndian.Uint32(l4[8:]) ^ crc(l4)
		_, p, why := firstOf(client, virtual, l4, n)
		if why != reason.None {
			t.Fatal(why)
		}
		p.Translate(&packet.Endpoints{SrcPort: uint16(ports >> 16), DstPort: uint16(ports)})
		copy(l4, p.L4Bytes())
		if now := binary.LittleEndian.Uint32(l4[8:]) ^ crc(l4); now != was {
			t.Fatalf("%d bytes cut at %d: the checksum is wrong by %#08x, was by %#08x", len(l4), n, now, was)
		}
	})
}

// crc is SCTP's checksum by the standard library.
func crc(l4 []byte) uint32 {
	b := append([]byte(nil), l4...)
	clear(b[8:12])
	return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
}

func BenchmarkTranslateSCTP(b *testing.B) {
	run := func(name string, p packet.Packet) {
		b.Run(name, func(b *testing.B) {
			port := uint16(1)
			for b.Loop() {
				port ^= 2
				p.Translate(&packet.Endpoints{DstPort: port})
			}
		})
	}
	for _, size := range []int{64, 576, 1514} {
		frame := testpkt.SCTP(client, virtual, testpkt.ChunkData).Size(size).Bytes()
		var p packet.Packet
		p.Parse(frame, 0, len(frame))
		run(fmt.Sprint(size, " bytes"), p)
	}
	for _, size := range []int{3000, 65_515} {
		_, p, _ := firstOf(client, virtual, testpkt.Pattern(size), 1480)
		run(fmt.Sprint("the first fragment of ", size, " bytes"), p)
	}
}
