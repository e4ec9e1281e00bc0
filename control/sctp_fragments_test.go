package control_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"weir/dataplane/forward"
	"weir/dataplane/packet"
	"weir/dataplane/reason"
	"weir/internal/testpkt"
	"weir/lb"
)

// sctpData is an SCTP packet of so many bytes behind the IP header.
func sctpData(src, dst netip.AddrPort, size int) testpkt.Packet {
	return testpkt.SCTP(src, dst).Chunk(testpkt.ChunkData, testpkt.Pattern(size-12-4))
}

// sctpWay is one on which a port changes.
type sctpWay struct {
	name, mode              string
	client, virtual, server netip.AddrPort
}

var sctpWays = []sctpWay{
	{"NAT", "-m", cip, vip, netip.MustParseAddrPort("10.0.0.2:8080")},
	{"NAT of IPv6", "-m", cip6, vip6, netip.MustParseAddrPort("[2001:db8:20::2]:8080")},
	{"FULLNAT", "-F", cip, vip, netip.MustParseAddrPort("10.0.0.2:8080")},
	{"FULLNAT of IPv6", "-F", cip6, vip6, netip.MustParseAddrPort("[2001:db8:20::2]:8080")},
	{"FULLNAT of IPv4 to IPv6", "-F", cip, vip, netip.MustParseAddrPort("[2001:db8:20::2]:8080")},
	{"FULLNAT of IPv6 to IPv4", "-F", cip6, vip6, netip.MustParseAddrPort("10.0.0.2:8080")},
}

func everySCTPWay(t *testing.T, run func(t *testing.T, way sctpWay)) {
	for _, way := range sctpWays {
		t.Run(way.name, func(t *testing.T) { run(t, way) })
	}
}

// opened returns a director of two workers with an association on the way, and whom the server sees as its client. The servers are reached by
// a way that carries packets of mtu bytes.
func (way sctpWay) opened(t *testing.T, mtu int) (d *director, peer netip.AddrPort) {
	t.Helper()
	d = newDirector6(t, 2)
	d.paths.mtu = mtu
	d.apply(sctpRules(way.virtual, way.mode, way.server.String())...)
	peer = d.client(testpkt.SCTP(way.client, way.virtual, testpkt.ChunkInit)).Src
	d.server(1, testpkt.SCTP(way.server, peer, testpkt.ChunkInitAck))
	d.client(testpkt.SCTP(way.client, way.virtual, testpkt.ChunkCookieEcho))
	d.server(1, testpkt.SCTP(way.server, peer, testpkt.ChunkCookieAck))
	return d, peer
}

// wrongBy puts a datagram together, and returns by which bits its checksum is not what the standard library says it must be.
func wrongBy(t *testing.T, views []*testpkt.View) (whole *testpkt.View, bits uint32) {
	t.Helper()
	var frames [][]byte
	for _, v := range views {
		frames = append(frames, v.Frame)
	}
	frame, err := testpkt.Reassemble(frames)
	if err != nil {
		t.Fatal(err)
	}
	whole = testpkt.Decode(t, frame)
	l4 := slices.Clone(frame[14+len(whole.Header):])
	carried := binary.LittleEndian.Uint32(l4[8:])
	clear(l4[8:12])
	bits = carried ^ crc32.Checksum(l4, crc32.MakeTable(crc32.Castagnoli))
	if (whole.Checksums == nil) != (bits == 0) {
		t.Fatalf("the judges do not agree: %v, %#x", whole.Checksums, bits)
	}
	return whole, bits
}

// wantSCTP fails the test unless the fragments are one whole and sound SCTP packet between two ends.
func wantSCTP(t *testing.T, views []*testpkt.View, src, dst netip.AddrPort, body []byte) {
	t.Helper()
	v, bits := wrongBy(t, views)
	if bits != 0 || v.Src != src || v.Dst != dst || len(v.Chunks) != 1 || !bytes.Equal(v.Chunks[0].Body, body) {
		t.Fatalf("%s -> %s, want %s -> %s; %d chunks; the checksum is wrong by %#08x", v.Src, v.Dst, src, dst, len(v.Chunks), bits)
	}
}

// In any order, by two workers, both ways, every datagram arrives whole, its checksum right.
func TestSCTPInFragmentsArrivesWholeWherePortsChange(t *testing.T) {
	everySCTPWay(t, func(t *testing.T, way sctpWay) {
		d, peer := way.opened(t, 1500)
		rng := rand.New(rand.NewPCG(8, 9))
		for round := range 80 {
			size := 1500 + rng.IntN(12_000)
			if round == 0 {
				size = 65_000
			}
			body := testpkt.Pattern(size - 16)
			var got [2][]*testpkt.View
			for i, frames := range [][][]byte{
				pieces(sctpData(way.client, way.virtual, size), uint32(round), 1400), pieces(sctpData(way.server, peer, size), uint32(round), 1400),
			} {
				for _, k := range rng.Perm(len(frames)) {
					out := d.sendFrame(rng.IntN(2), i, frames[k])
					got[0], got[1] = append(got[0], out.toServers...), append(got[1], out.toClients...)
				}
			}
			wantSCTP(t, got[0], peer, way.server, body)
			wantSCTP(t, got[1], way.virtual, way.client, body)
		}
		c := d.counters()
		for _, r := range []reason.Reason{reason.FragmentLate, reason.FragmentOverlap, reason.FragmentDuplicate, reason.FragmentTableFull} {
			if c.Reasons[r] != 0 {
				t.Errorf("%s: %d", r, c.Reasons[r])
			}
		}
		if c.ToServer+c.ToClient != c.Received || c.Reasons[reason.FragmentHeld] == 0 {
			t.Errorf("received %d, to servers %d, to clients %d, held %d", c.Received, c.ToServer, c.ToClient, c.Reasons[reason.FragmentHeld])
		}
	})
}

// TestAFirstFragmentOfSCTPWaitsForTheLast: what goes on, after each fragment that comes. A to D are one datagram in order, a to c the same one cut
// elsewhere, and E an end behind D. They come by worker 0, behind a dash by worker 1; a dot stands for 31 seconds, a comma for 29.
func TestAFirstFragmentOfSCTPWaitsForTheLast(t *testing.T) {
	everySCTPWay(t, func(t *testing.T, way sctpWay) {
		whole := sctpData(way.client, way.virtual, 4000)
		cuts := map[byte][]byte{'E': pieces(sctpData(way.client, way.virtual, 5000), 7, 1000)[4]}
		for i, f := range pieces(whole, 7, 1000) {
			cuts["ABCD"[i]] = f
		}
		for i, f := range pieces(whole, 7, 1400)[:3] {
			cuts["abc"[i]] = f
		}
		for name, c := range map[string]struct {
			come  string
			on    []int // after each
			whole bool  // and right
			why   reason.Reason
			count uint64
		}{
			"in order":                                     {"ABCD", []int{0, 1, 1, 2}, true, reason.FragmentHeld, 1},
			"in order, by two workers":                     {"A-BC-D", []int{0, 1, 1, 2}, true, reason.FragmentHeld, 1},
			"the last one second":                          {"AD-BC", []int{0, 2, 1, 1}, true, reason.FragmentHeld, 1},
			"the last one first":                           {"-DABC", []int{0, 2, 1, 1}, true, reason.FragmentHeld, 1},
			"the first one last":                           {"BC-DA", []int{0, 0, 0, 4}, true, reason.FragmentHeld, 3},
			"in reverse":                                   {"D-CB-A", []int{0, 0, 0, 4}, true, reason.FragmentHeld, 3},
			"those before the first one go with it":        {"BACD", []int{0, 1, 1, 2}, true, reason.FragmentHeld, 2},
			"the first one twice while it waits":           {"A-ABCD", []int{0, 0, 1, 1, 2}, true, reason.FragmentDuplicate, 1},
			"the first one again when it has gone":         {"ADABC", []int{0, 2, 0, 1, 1}, true, reason.FragmentDuplicate, 1},
			"one in the middle twice":                      {"AB-BCD", []int{0, 1, 0, 1, 2}, true, reason.FragmentDuplicate, 1},
			"the last one twice":                           {"AD-DBC", []int{0, 2, 0, 1, 1}, true, reason.FragmentDuplicate, 1},
			"an overlap with the one that waits":           {"AaBCD", []int{0, 0, 0, 0, 0}, false, reason.FragmentOverlap, 5},
			"an overlap in the middle while one waits":     {"AB-bD", []int{0, 1, 0, 0}, false, reason.FragmentOverlap, 3},
			"an overlap with the last one":                 {"ABCcD", []int{0, 1, 1, 0, 0}, false, reason.FragmentOverlap, 3},
			"an overlap when the first one has gone":       {"ADbBC", []int{0, 2, 1, 0, 0}, false, reason.FragmentOverlap, 2},
			"two ends":                                     {"ADEBC", []int{0, 2, 0, 0, 0}, false, reason.FragmentOverlap, 3},
			"the last one lost":                            {"ABC", []int{0, 1, 1}, false, reason.FragmentLate, 1},
			"one in the middle lost":                       {"ABD", []int{0, 1, 2}, false, reason.FragmentLate, 0},
			"the last one later than 30 seconds":           {"ABC.D", []int{0, 1, 1, 0}, false, reason.FragmentLate, 2},
			"the first one alone":                          {"A", []int{0}, false, reason.FragmentLate, 1},
			"the last one within 30 seconds, all the same": {"ABC,D", []int{0, 1, 1, 2}, true, reason.FragmentLate, 0},
		} {
			t.Run(name, func(t *testing.T) {
				d, peer := way.opened(t, 1500)
				var got []*testpkt.View
				worker, step := 0, 0
				for _, letter := range []byte(c.come) {
					switch letter {
					case '-':
						worker = 1
						continue
					case '.':
						d.sleep(31)
						continue
					case ',':
						d.sleep(29)
						continue
					}
					out := d.sendFrame(worker, 0, cuts[letter])
					if n := len(out.toServers); n != c.on[step] || len(out.toClients) != 0 {
						t.Fatalf("after %c, number %d, %d went on, want %d", letter, step, n, c.on[step])
					}
					got = append(got, out.toServers...)
					worker = 0
					step++
				}
				if c.whole {
					wantSCTP(t, got, peer, way.server, testpkt.Pattern(4000-16))
				}
				if c.why == reason.FragmentLate {
					d.sleep(31)
				}
				if n := d.counters().Reasons[c.why]; n != c.count {
					t.Errorf("%d times %s, want %d; all: %v", n, c.why, c.count, stops(d))
				}
				// The next datagram is none the worse for it, with the same identification once this one is forgotten.
				d.sleep(31)
				got = nil
				for _, letter := range []byte("ABCD") {
					got = append(got, d.sendFrame(0, 0, cuts[letter]).toServers...)
				}
				wantSCTP(t, got, peer, way.server, testpkt.Pattern(4000-16))
			})
		}
	})
}

// between is a mode that does something when a first fragment is found to have to wait, before it does.
type between struct {
	forward.Mode
	do func()
}

func (b *between) ToServer(p *packet.Packet, h *forward.Hop) reason.Reason {
	why := b.Mode.ToServer(p, h)
	if do := b.do; do != nil && why == reason.FragmentHeld {
		b.do = nil
		do()
	}
	return why
}

// between puts one in front of the way's mode until the test ends.
func (way sctpWay) between(t *testing.T) *between {
	mode := map[string]lb.Mode{"-m": lb.NAT, "-F": lb.FULLNAT}[way.mode]
	b := &between{Mode: forward.Modes[mode]}
	forward.Modes[mode] = b
	t.Cleanup(func() { forward.Modes[mode] = b.Mode })
	return b
}

// While one worker finds out that a first fragment has to wait, the other gets the last one, or an overlap.
func TestTheOtherWorkerGetsTheLastFragmentMeanwhile(t *testing.T) {
	everySCTPWay(t, func(t *testing.T, way sctpWay) {
		b := way.between(t)
		d, peer := way.opened(t, 1500)
		frames := pieces(sctpData(way.client, way.virtual, 4000), 3, 1400)

		b.do = func() {
			if out := d.sendFrame(1, 0, frames[2]); len(out.toServers) != 0 {
				t.Error("the last one went on before the first was decided on")
			}
		}
		got := d.sendFrame(0, 0, frames[0]).toServers
		if len(got) != 2 {
			t.Fatalf("%d went on, want the first and the last", len(got))
		}
		got = append(got, d.sendFrame(1, 0, frames[1]).toServers...)
		wantSCTP(t, got, peer, way.server, testpkt.Pattern(4000-16))

		b.do = func() { d.sendFrame(1, 0, pieces(sctpData(way.client, way.virtual, 4000), 4, 1000)[1]) }
		if got = d.sendFrame(0, 0, pieces(sctpData(way.client, way.virtual, 4000), 4, 1400)[0]).toServers; len(got) != 0 {
			t.Errorf("%d went on, of a datagram whose pieces overlap", len(got))
		}
		if n := d.counters().Reasons[reason.FragmentOverlap]; n != 2 {
			t.Errorf("%d pieces overlap, want 2: %v", n, stops(d))
		}
	})
}

func TestOthersNeedAFirstFragmentsRoomMeanwhile(t *testing.T) {
	b := sctpWays[0].between(t)
	d, _ := sctpWays[0].opened(t, 1500)
	const others = 10_000
	b.do = func() {
		for id := range uint32(others) {
			d.sendFrame(1, 0, pieces(sctpData(cip, vip, 40), 1000+id, 24)[1])
		}
	}
	if out := d.sendFrame(0, 0, pieces(sctpData(cip, vip, 4000), 5, 1400)[0]); len(out.toServers) != 0 {
		t.Errorf("%d went on", len(out.toServers))
	}
	d.sleep(31)
	c := d.counters()
	if n := c.Reasons[reason.FragmentTableFull] + c.Reasons[reason.FragmentLate]; n != others+1 || c.Reasons[reason.FragmentHeld] != others {
		t.Errorf("%v, want all given up", stops(d))
	}
}

// A datagram that came with a wrong checksum arrives with one that is wrong by the same bits, wherever the damage is.
func TestAWrongCRCInFragmentsStaysWrong(t *testing.T) {
	everySCTPWay(t, func(t *testing.T, way sctpWay) {
		d, _ := way.opened(t, 1500)
		id := uint32(100)
		for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {0, 2, 1}} {
			for _, damaged := range []int{0, 1, 2} {
				frames := pieces(sctpData(way.client, way.virtual, 3000), id, 1400)
				id++
				frames[damaged] = slices.Clone(frames[damaged])
				frames[damaged][len(frames[damaged])-3] ^= 0x40
				var sent, got []*testpkt.View
				for _, i := range order {
					sent = append(sent, testpkt.Decode(t, frames[i]))
					got = append(got, d.sendFrame(0, 0, frames[i]).toServers...)
				}
				_, before := wrongBy(t, sent)
				if _, after := wrongBy(t, got); before == 0 || after != before {
					t.Errorf("fragment %d damaged, in the order %v: wrong by %#08x, before by %#08x", damaged, order, after, before)
				}
			}
		}
	})
}

// Where no port changes nothing has to wait, in any mode.
func TestSCTPInFragmentsGoesOnAtOnceWhereNoPortChanges(t *testing.T) {
	for _, f := range []struct{ client, virtual, server netip.AddrPort }{
		{cip, vip, netip.MustParseAddrPort("10.0.0.2:80")}, {cip6, vip6, netip.MustParseAddrPort("[2001:db8:20::2]:80")},
	} {
		for _, mode := range []string{"-g", "-i", "-m"} {
			d := newDirector6(t, 1, sctpRules(f.virtual, mode, f.server.String())...)
			d.client(testpkt.SCTP(f.client, f.virtual, testpkt.ChunkInit))
			var got []byte
			for _, frame := range pieces(sctpData(f.client, f.virtual, 3000), 77, 1400) {
				out := d.sendFrame(0, 0, frame)
				if len(out.toServers) != 1 {
					t.Fatalf("%s: %d went on", mode, len(out.toServers))
				}
				v := out.toServers[0]
				ip := &v.IP
				if ip.Inner != nil {
					ip = ip.Inner
				}
				got = append(got, v.Frame[len(v.Frame)-(ip.Length-len(ip.Header)):]...)
			}
			if want := sctpData(f.client, f.virtual, 3000).Bytes(); !bytes.Equal(got, want[len(want)-3000:]) {
				t.Errorf("%s: %d bytes arrived, or others", mode, len(got))
			}
			if n := d.counters().Reasons[reason.FragmentHeld]; n != 0 {
				t.Errorf("%s: %d waited", mode, n)
			}
		}
	}
}

// An association may begin with a fragment, and the first of a datagram is what its state depends on, though it waits.
func TestAnSCTPFragmentOpensAConnection(t *testing.T) {
	everySCTPWay(t, func(t *testing.T, way sctpWay) {
		d := newDirector6(t, 1, sctpRules(way.virtual, way.mode, way.server.String())...)
		frames := pieces(testpkt.SCTP(way.client, way.virtual).Chunk(testpkt.ChunkInit, testpkt.Pattern(1984)), 3, 1400)
		if out := d.sendFrame(0, 0, frames[0]); len(out.toServers) != 0 {
			t.Fatal("it did not wait")
		}
		d.wantSCTPState("a first fragment of an INIT", "INIT1", way.client, way.virtual)
		out := d.sendFrame(0, 0, frames[1])
		wantSCTP(t, out.toServers, out.toServers[0].Src, way.server, testpkt.Pattern(1984))
		if c := d.counters(); c.Connections != 1 || c.ToServer != 2 {
			t.Errorf("%d connections, %d packets", c.Connections, c.ToServer)
		}
	})
}

// What a router refuses is refused at once: its sender is told by the first fragment, and nobody waits for the last.
func TestAFirstFragmentOfSCTPWhoseTTLEndsIsAnswered(t *testing.T) {
	for _, way := range sctpWays {
		d, _ := way.opened(t, 1500)
		frames := pieces(sctpData(way.client, way.virtual, 3000).TTL(1), 3, 1400)
		out := d.sendFrame(0, 0, frames[0])
		if len(out.toClients) != 1 || out.toClients[0].ICMPType != map[bool]uint8{true: 11, false: 3}[way.client.Addr().Is4()] {
			t.Errorf("%s: %d answers; %v", way.name, len(out.toClients), stops(d))
		}
		d.sendFrame(0, 0, frames[1])
		d.sendFrame(0, 0, frames[2])
		if c := d.counters(); c.Reasons[reason.TTLExceeded] != 3 || c.Reasons[reason.FragmentHeld] != 0 {
			t.Errorf("%s: %v", way.name, stops(d))
		}
	}
}

// A first fragment that has waited is cut again, if its way carries less than it came by.
func TestWhatHasWaitedIsCutToItsWay(t *testing.T) {
	for _, way := range sctpWays {
		if way.client.Addr().Is6() {
			continue // a sender of IPv6 cuts for itself
		}
		d, peer := way.opened(t, 600)
		var got []*testpkt.View
		for _, frame := range pieces(sctpData(way.client, way.virtual, 4000), 3, 1400) {
			got = append(got, d.sendFrame(0, 0, frame).toServers...)
		}
		if len(got) < 8 {
			t.Fatalf("%s: %d pieces", way.name, len(got))
		}
		wantSCTP(t, got, peer, way.server, testpkt.Pattern(4000-16))
	}
}

func TestAServerRemovedWhileAFirstFragmentOfSCTPWaits(t *testing.T) {
	d, _ := sctpWays[0].opened(t, 1500)
	frames := pieces(sctpData(cip, vip, 2000), 3, 1400)
	d.sendFrame(0, 0, frames[0])
	d.apply(sctpRules(vip, "-m", "10.0.0.3:8080")...)
	if out := d.sendFrame(0, 0, frames[1]); len(out.toServers) != 0 {
		t.Error("a server that is no more was sent something")
	}
	if n := d.counters().Reasons[reason.ServerRemoved]; n != 2 {
		t.Errorf("%d fragments were dropped for it: %v", n, stops(d))
	}
}

// First fragments without end take the room of their own number, and give it back.
func TestWhatWaitsForItsLastPieceIsBounded(t *testing.T) {
	d := newDirector6(t, 1, sctpRules(vip, "-m", "10.0.0.2:8080")...)
	d.client(testpkt.SCTP(cip, vip, testpkt.ChunkInit))
	const flood = 20_000
	frames := pieces(sctpData(cip, vip, 2000), 0, 1000)
	for i := range flood {
		f := slices.Clone(frames[0])
		binary.BigEndian.PutUint16(f[18:], uint16(i))
		if out := d.sendFrame(0, 0, resummed(f)); len(out.toServers) != 0 {
			t.Fatal("a first fragment did not wait for the last")
		}
	}
	c := d.counters()
	held, full := c.Reasons[reason.FragmentHeld], c.Reasons[reason.FragmentTableFull]
	if held != flood || full < flood-4096 || full >= flood {
		t.Errorf("%d waited, %d of them made room, want all and all but at most 4,096", held, full)
	}
	var views []*testpkt.View // the newest has its place
	last := slices.Clone(frames[1])
	binary.BigEndian.PutUint16(last[18:], uint16(flood-1))
	views = append(views, d.sendFrame(0, 0, resummed(last)).toServers...)
	wantSCTP(t, views, cip, netip.MustParseAddrPort("10.0.0.2:8080"), testpkt.Pattern(2000-16))
	d.sleep(31)
	c = d.counters()
	if late := c.Reasons[reason.FragmentLate]; late+c.Reasons[reason.FragmentTableFull] != flood-1 {
		t.Errorf("%d gave way and %d were late, of %d", c.Reasons[reason.FragmentTableFull], late, flood-1)
	}
}
