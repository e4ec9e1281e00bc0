package packet_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"weir/dataplane/packet"
	"weir/dataplane/reason"
	"weir/internal/testpkt"
)

// cut returns a packet's pieces, each in a buffer of its own.
func cut(t *testing.T, p *packet.Packet, most int, id uint32) (frames [][]byte) {
	t.Helper()
	for pieces := p.Pieces(most, id); pieces.Left(); {
		b := make([]byte, 14+8+most)
		n := pieces.Next(b)
		if n == 0 {
			t.Fatal("a piece needs more room than it may have")
		}
		frames = append(frames, b[:n])
	}
	return frames
}

func parsedFrame(t *testing.T, frame []byte) *packet.Packet {
	t.Helper()
	p := new(packet.Packet)
	if r := p.Parse(frame, 0, len(frame)); r != reason.None && r != reason.Fragment {
		t.Fatal(r)
	}
	return p
}

// TestPiecesMakeTheWhole cuts random packets, and some of the pieces again, and puts them together.
func TestPiecesMakeTheWhole(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 3000 {
		in := testpkt.UDP(client, virtual)
		least := 68
		if rng.IntN(2) == 0 {
			in, least = testpkt.UDP(client6, virtual6), 100
		} else if rng.IntN(2) == 0 {
			in = in.Options(7, 7, 4, 0, 0, 0, 0) // a record of the route, which only the first fragment has
		}
		in = in.Payload(testpkt.Pattern(600 + rng.IntN(2000))).TOS(0x2f).ID(0xabcd)
		whole := in.Bytes()
		most := least + rng.IntN(500)
		var frames [][]byte
		for _, frame := range cut(t, parsedFrame(t, whole), most, 0x7654abcd) {
			if n := len(frame) - 14; n > most {
				t.Fatalf("a piece of %d bytes, want at most %d", n, most)
			}
			if smaller := least + rng.IntN(most-least+1); rng.IntN(3) == 0 {
				frames = append(frames, cut(t, parsedFrame(t, frame), smaller, 99)...)
			} else {
				frames = append(frames, frame)
			}
		}
		rng.Shuffle(len(frames), func(i, j int) { frames[i], frames[j] = frames[j], frames[i] })
		got, err := testpkt.Reassemble(frames)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, whole) {
			t.Fatalf("%d pieces make\n%x, want\n%x", len(frames), got, whole)
		}
		testpkt.Decode(t, got).MustHold(t)
	}
}

func TestOptionsThatAreNotCopied(t *testing.T) {
	// Record route (7) is for the first fragment only, a router alert (148) for all (RFC 791 section 3.1, RFC 2113).
	frame := testpkt.UDP(client, virtual).Options(7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0).Payload(testpkt.Pattern(300)).Bytes()
	pieces := cut(t, parsedFrame(t, frame), 200, 0)
	if len(pieces) < 2 {
		t.Fatal("not cut")
	}
	for i, p := range pieces {
		want := []byte{7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0, 0}
		if i > 0 {
			want = []byte{1, 1, 1, 1, 1, 1, 1, 148, 4, 0, 0, 0}
		}
		if v := testpkt.Decode(t, p); !bytes.Equal(p[34:46], want) || v.Checksums != nil {
			t.Errorf("piece %d has the options %x, want %x; %v", i, p[34:46], want, v.Checksums)
		}
	}
}

func TestCuttingNeverRepairsAChecksum(t *testing.T) {
	frame := testpkt.UDP(client, virtual).Payload(testpkt.Pattern(300)).Bytes()
	frame[14+10] ^= 0x40
	for i, p := range cut(t, parsedFrame(t, frame), 200, 0) {
		if v := testpkt.Decode(t, p); v.Checksums == nil {
			t.Errorf("the header of piece %d came out right", i)
		}
	}
}

func TestAPieceThatHasNoRoom(t *testing.T) {
	p := parsedFrame(t, testpkt.UDP(client, virtual).Payload(testpkt.Pattern(300)).Bytes())
	pieces := p.Pieces(200, 0)
	if n := pieces.Next(make([]byte, 14+195)); n != 0 || !pieces.Left() {
		t.Errorf("%d bytes were written to too few", n)
	}
	if n := pieces.Next(make([]byte, 14+196)); n != 14+196 { // 20 bytes of header and a multiple of eight
		t.Errorf("a piece of %d bytes", n)
	}
}

func TestCuttingDoesNotAllocate(t *testing.T) {
	p := parsedFrame(t, testpkt.UDP(client6, virtual6).Payload(testpkt.Pattern(1300)).Bytes())
	b := make([]byte, 2048)
	if n := testing.AllocsPerRun(100, func() {
		for pieces := p.Pieces(1280, 7); pieces.Left(); {
			pieces.Next(b)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzPieces cuts whatever parses, and wants the same bytes back and nothing read outside of the frame.
func FuzzPieces(f *testing.F) {
	f.Add(testpkt.UDP(client, virtual).Options(7, 7, 4, 0, 0, 0, 0).Payload(testpkt.Pattern(300)).Bytes(), uint16(100))
	f.Add(testpkt.UDP(client, virtual).Payload(testpkt.Pattern(304)).Fragment(64, true).Bytes(), uint16(68))
	f.Add(testpkt.TCP(client6, virtual6).Payload(testpkt.Pattern(300)).Bytes(), uint16(100))
	f.Fuzz(func(t *testing.T, frame []byte, most uint16) {
		var p packet.Packet
		frame = bytes.Clone(frame)[:len(frame):len(frame)]
		if r := p.Parse(frame, 0, len(frame)); r != reason.None && r != reason.Fragment {
			return
		}
		header := p.L4 - p.L3
		if p.Is6() {
			if header != 40 { // weir cuts only what it made itself
				return
			}
			header = 48
		}
		n, at := max(int(most)%2000, header+8), p.L4
		for pieces := p.Pieces(n, 7); pieces.Left(); {
			b := make([]byte, 4096)
			size := pieces.Next(b)
			data := b[p.L3+header : size]
			if size-p.L3 > n || len(data) == 0 || !bytes.Equal(data, frame[at:at+len(data)]) {
				t.Fatalf("a piece of %d bytes, at most %d, with %d of data at %d", size-p.L3, n, len(data), at-p.L4)
			}
			if got := binary.BigEndian.Uint16(b[p.L3+4:]); p.Is6() && int(got) != size-p.L3-40 {
				t.Fatalf("payload length %d of %d", got, size)
			}
			at += len(data)
		}
		if at != p.End {
			t.Fatalf("%d bytes are missing", p.End-at)
		}
	})
}
