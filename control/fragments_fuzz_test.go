package control_test

import (
	"encoding/binary"
	"hash/crc32"
	"maps"
	"slices"
	"testing"

	"weir/dataplane/reason"
	"weir/internal/testpkt"
)

// FuzzFragments sends pieces of four datagrams by two workers, as its bytes say: each five of them are a piece's place and length in
// units of eight bytes, whether more follow, the datagram, and the worker. What passes by one of them never
// overlaps, no frame is lost, and none passes before the first piece has come. Across, they become IPv6 on a narrow way, and are cut again.
func FuzzFragments(f *testing.F) {
	for _, across := range []bool{false, true} {
		f.Add(across, []byte{0, 10, 1, 0, 0, 10, 10, 1, 0, 1, 20, 3, 0, 0, 0})
		f.Add(across, []byte{20, 3, 0, 0, 0, 10, 10, 1, 0, 1, 0, 10, 1, 0, 0})
		f.Add(across, []byte{0, 10, 1, 0, 0, 9, 10, 1, 0, 1, 0, 10, 1, 0, 0})
		f.Add(across, []byte{0, 63, 1, 0, 0, 63, 63, 1, 0, 1, 126, 1, 0, 0, 0})
	}
	whole := testpkt.UDP(cip, vip).Payload(testpkt.Pattern(4096)).Bytes()
	binary.BigEndian.PutUint16(whole[38:], 0x7000) // a length that no mix of pieces contradicts
	f.Fuzz(func(t *testing.T, across bool, ops []byte) {
		if len(ops) > 5*300 {
			return
		}
		d := newFamilyDirector(t, 2, families[0], "-g")
		if across {
			d = newDirector6(t, 2)
			d.paths.mtu = 400
			d.apply(serving(vip, "-F", "[2001:db8:20::2]:80")...)
		}
		firsts := map[uint16]bool{}
		for ; len(ops) >= 5; ops = ops[5:] {
			start, length, more, id, worker := int(ops[0])*8, 8+int(ops[1]%64)*8, ops[2]%2 == 1, uint16(ops[3]%4), int(ops[4]%2)
			frame := append(slices.Clone(whole[:34]), whole[34+start:34+start+length]...)
			binary.BigEndian.PutUint16(frame[16:], uint16(20+length))
			binary.BigEndian.PutUint16(frame[18:], id)
			word := uint16(start / 8)
			if more {
				word |= 0x2000
			}
			binary.BigEndian.PutUint16(frame[20:], word)
			if word == 0 {
				continue // a whole packet, whose UDP length is wrong
			}
			firsts[id] = firsts[id] || start == 0
			seen := map[uint16][]bool{} // by the identification that it has then
			for _, v := range d.sendFrame(worker, 0, resummed(frame)).toServers {
				if !across && !firsts[v.ID] || !slices.Contains(slices.Collect(maps.Values(firsts)), true) {
					t.Fatalf("a piece of %d passed before the first one", v.ID)
				}
				if n := len(v.Frame) - 14; across && n > 400 {
					t.Fatalf("a piece of %d bytes", n)
				}
				if seen[v.ID] == nil {
					seen[v.ID] = make([]bool, 512)
				}
				for at := v.Offset; at < v.Offset+v.Length-len(v.Header); at += 8 {
					if seen[v.ID][at/8] {
						t.Fatalf("pieces of %d overlap at %d", v.ID, at)
					}
					seen[v.ID][at/8] = true
				}
			}
		}
	})
}

// FuzzSCTPFragments is FuzzFragments for SCTP, on an association whose port NAT changes, or FULLNAT to IPv6. A first piece that passes has the
// checksum changed as the whole datagram's changes, whose length is where a last piece ends that has come by then.
func FuzzSCTPFragments(f *testing.F) {
	for _, across := range []bool{false, true} {
		f.Add(across, []byte{0, 10, 1, 0, 0, 10, 10, 1, 0, 1, 20, 3, 0, 0, 0})   // in order
		f.Add(across, []byte{20, 3, 0, 0, 0, 10, 10, 1, 0, 1, 0, 10, 1, 0, 0})   // in reverse
		f.Add(across, []byte{0, 9, 1, 0, 0, 9, 9, 1, 0, 1, 0, 9, 1, 0, 0})       // twice
		f.Add(across, []byte{0, 9, 1, 0, 0, 5, 9, 1, 0, 1, 19, 3, 0, 0, 0})      // an overlap
		f.Add(across, []byte{0, 63, 1, 0, 0, 126, 63, 0, 0, 1, 63, 62, 1, 0, 0}) // long
		f.Add(across, []byte{0, 9, 1, 0, 0, 10, 9, 0, 0, 0, 20, 9, 0, 0, 1})     // two ends
	}
	whole := testpkt.SCTP(cip, vip).Chunk(testpkt.ChunkData, testpkt.Pattern(4096)).Bytes()
	header, data := whole[:34], whole[34:]
	f.Fuzz(func(t *testing.T, across bool, ops []byte) {
		if len(ops) > 5*300 {
			return
		}
		way := sctpWays[0]
		if across {
			way = sctpWays[4]
		}
		d, peer := way.opened(t, 1500)
		ends := map[int]bool{} // where last pieces end, of all datagrams
		var passed, came int
		before := d.counters()
		for ; len(ops) >= 5; ops = ops[5:] {
			start, length, more, id, worker := int(ops[0])*8, 8+int(ops[1]%64)*8, ops[2]%2 == 1, uint16(ops[3]%4), int(ops[4]%2)
			if start == 0 && !more {
				continue // a whole packet
			}
			frame := append(slices.Clone(header), data[start:start+length]...)
			binary.BigEndian.PutUint16(frame[16:], uint16(20+length))
			binary.BigEndian.PutUint16(frame[18:], id)
			word := uint16(start / 8)
			if more {
				word |= 0x2000
			} else {
				ends[start+length] = true
			}
			binary.BigEndian.PutUint16(frame[20:], word)
			came++
			for _, v := range d.sendFrame(worker, 0, resummed(frame)).toServers {
				passed++
				if v.Offset != 0 {
					continue
				}
				if v.Src != peer || v.Dst != way.server {
					t.Fatalf("%s -> %s", v.Src, v.Dst)
				}
				carried := v.CRC ^ binary.LittleEndian.Uint32(data[8:])
				right := false
				for end := range ends {
					right = right || carried == changeOfCRC(data[:end], v.Src.Port(), v.Dst.Port())
				}
				if !right {
					t.Fatalf("the checksum changed by %#08x; last pieces ended at %v", carried, ends)
				}
			}
		}
		d.sleep(31)
		c := d.counters()
		c.Sub(before)
		var stopped uint64
		for _, s := range c.Stops() {
			if s.Reason != reason.FragmentHeld {
				stopped += s.Count
			}
		}
		if int(c.Received) != came || int(c.ToServer) != passed || int(c.ToServer+stopped) != came {
			t.Fatalf("%d came, %d passed, %d stopped for good: %v", came, passed, stopped, c.Stops())
		}
	})
}

// changeOfCRC is by what other ports change the checksum of an SCTP packet, as the standard library has both.
func changeOfCRC(l4 []byte, src, dst uint16) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	b := slices.Clone(l4)
	old := crc32.Checksum(b, table)
	binary.BigEndian.PutUint16(b, src)
	binary.BigEndian.PutUint16(b[2:], dst)
	return old ^ crc32.Checksum(b, table)
}
