package conntrack

import (
	"math/rand/v2"
	"slices"
	"testing"

	"weir/lb"
)

// TestFind: what Find says with a place, right or wrong, is what Lookup says, for flows that are there, in both directions, and for others.
func TestFind(t *testing.T) {
	table := newTable(t, Options{Capacity: 300})
	if err := table.SetLocals([]lb.Addr{lb.MustParseAddr("10.9.9.9")}); err != nil {
		t.Fatal(err)
	}
	id, _ := newServer(t, table)
	var flows []lb.Flow
	for i := range 450 {
		f := client(i, lb.TCP)
		if flows = append(flows, f); i < 300 {
			c, _ := open(t, table, f, []lb.Mode{lb.NAT, lb.FULLNAT}[i%2], id, start)
			answer, _ := c.ReverseFlow()
			flows = append(flows, answer)
		}
	}
	hashes, places := make([]uint64, len(flows)), make([]Place, len(flows))
	for i := range flows {
		hashes[i] = table.Hash(&flows[i])
	}
	table.Warm(hashes)
	table.Peek(hashes, places)
	guessed := 0
	for i := range flows {
		f := &flows[i]
		var want Conn
		ref, dir := table.Lookup(f, hashes[i], &want)
		if wantDir := [2]Dir{Forward, Reverse}[i%2]; i < 600 && dir != wantDir || i >= 600 && dir != None {
			t.Fatalf("%v: %v", f, dir)
		}
		if ref != 0 && uint32(places[i])&^reverseSlot == ref.number() {
			guessed++
		}
		for _, place := range []Place{places[i], 0, 7, 7 | reverseSlot, places[(i+5)%len(places)]} {
			var got Conn
			hit := table.Find(f, hashes[i], place, &got)
			if hit.Dir() == Forward {
				if hit.ServerID() != want.ServerID || hit.Mode() != want.Mode || hit.ClientTag() != want.ClientTag {
					t.Errorf("%v: server %v, mode %v, tag %d; want %+v", f, hit.ServerID(), hit.Mode(), hit.ClientTag(), want)
				}
				got = Conn{}
				table.Conn(hit, f, &got)
				if local, port, ok := table.Local(hit); got.Mode == lb.FULLNAT && (!ok || local != want.Local || port != want.LocalPort) {
					t.Errorf("%v: sent from %v, port %d, want %v, %d", f, local, port, want.Local, want.LocalPort)
				}
				if at := table.At(f.Src, f.Dst, portsOf(f), f.Proto, Place(ref.number())); at != hit {
					t.Errorf("%v: at its place is %+v, want %+v", f, at, hit)
				}
				if at := table.At(f.Src, f.Dst, portsOf(f), f.Proto, Place(ref.number()%300+1)); at.Dir() != None {
					t.Errorf("%v: elsewhere is %+v", f, at)
				}
			}
			if hit.Dir() != None && hit.Ref() != ref || hit.Dir() != dir || dir != None && got != want {
				t.Errorf("%v at %#x: %v %v %+v, want %v %v %+v", f, place, hit.Ref(), hit.Dir(), got, ref, dir, want)
			}
		}
	}
	if guessed < 500 { // of 600; the others' first bucket was full
		t.Errorf("only %d places were right", guessed)
	}
}

// TestPeekAgrees holds the processor's own code to what it stands for, on tables of any content: tags of two values only, so that
// several slots match.
func TestPeekAgrees(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		buckets, entries, rests := make([]bucket, 4), make([]entry, 16), make([]rest, 16)
		for b := range buckets {
			for i := range buckets[b] {
				buckets[b][i].Store(uint64(random.IntN(2)*0xf000_0001)<<32 | uint64(random.IntN(2))<<31 | uint64(random.IntN(16)))
			}
		}
		hashes := make([]uint64, 1+random.IntN(33))
		for i := range hashes {
			hashes[i] = random.Uint64()<<32 | uint64(random.IntN(2)*0xf000_0001)
		}
		got, want := make([]Place, len(hashes)), make([]Place, len(hashes))
		warm(buckets, 3, hashes)
		warmPortably(buckets, 3, hashes)
		peek(buckets, 3, entries, rests, hashes, got)
		peekPortably(buckets, 3, entries, rests, hashes, want)
		if !slices.Equal(got, want) {
			t.Fatalf("%#x\nwant %#x", got, want)
		}
	}
}

// TestPasses: it says what Packet would do, in either direction, and does the little there is when that is nothing else.
func TestPasses(t *testing.T) {
	table := newTable(t, Options{Capacity: 100})
	id, _ := newServer(t, table)
	for i, proto := range []lb.Proto{lb.TCP, lb.UDP} {
		f := client(i, proto)
		c, ref := open(t, table, f, lb.NAT, id, start)
		answer, _ := c.ReverseFlow()
		for step, flags := range []uint8{0, ACK, ACK, ACK | PSH, ACK, FIN | ACK, FIN | ACK, ACK, ACK, RST, ACK} {
			now, dir := start+uint32(step), []Dir{Forward, Forward, Reverse}[step%3]
			if !table.Load(ref, &c) {
				t.Fatal("it has ended")
			}
			after := c
			v := table.Timeouts()
			after.State, after.Flags = c.after(&v, dir, flags)
			after.Timeout, after.LastSeen = v.of(proto, after.State), now
			quiet := after
			quiet.LastSeen = c.LastSeen
			var passes bool
			if dir == Forward {
				passes = table.Passes(table.Find(&f, table.Hash(&f), 0, &c), flags, now)
			} else {
				var back Conn
				hit := table.Back(&answer, Place(ref.number())|reverseSlot, &back)
				if hit.Ref() != ref || hit.Dir() != Reverse {
					t.Fatalf("%s, step %d: found %+v", proto, step, hit)
				}
				passes = table.PassesBack(hit, &back, flags, now)
			}
			if proto == lb.UDP { // which is flagged on the way
				quiet.Flags = c.Flags
			}
			if passes != (quiet == c) {
				t.Errorf("%s, step %d: passes %v, from %+v to %+v", proto, step, passes, c, after)
			}
			if !passes {
				table.Packet(ref, &c, dir, flags, now)
			}
			var got Conn
			if table.Load(ref, &got); got != after {
				t.Errorf("%s, step %d: %+v, want %+v", proto, step, got, after)
			}
		}
	}
}
