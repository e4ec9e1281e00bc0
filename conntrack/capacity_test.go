package conntrack

import (
	"testing"
	"unsafe"

	"weir/lb"
)

// TestFilledExactly: every entry can be used in every mode, all are found, the next one is refused, and all of it can be done again.
func TestFilledExactly(t *testing.T) {
	for _, mode := range []lb.Mode{lb.DR, lb.NAT, lb.FULLNAT} {
		for _, capacity := range []int{1, 2, 63, 64, 65, 1<<11 + 1} {
			table := newTable(t, Options{Capacity: capacity})
			if err := table.SetLocals([]lb.Addr{lb.AddrFrom4(0x0afe0001)}); err != nil {
				t.Fatal(err)
			}
			id, load := newServer(t, table)
			for range 2 {
				refs := make([]Ref, capacity)
				for i := range capacity {
					f := client(i, lb.TCP)
					var c Conn
					c, refs[i] = open(t, table, f, mode, id, start)
					table.Packet(refs[i], &c, Forward, ACK, start) // so that none is half-open
				}
				c := connOf(client(capacity, lb.TCP), mode, id)
				table.Open(&c, SYN)
				if _, r := table.Insert(&c, start); r != Full {
					t.Fatalf("%v: the connection after %d is %v", mode, capacity, r)
				}
				c = connOf(client(0, lb.TCP), mode, id)
				if ref, r := table.Insert(&c, start); r != Exists || ref != refs[0] {
					t.Fatalf("%v: in a full table one that is there is %v", mode, r)
				}
				if got := load.Active.Load(); int(got) != capacity || table.Stats().Used != capacity {
					t.Fatalf("%v: %d active, %d used of %d", mode, got, table.Stats().Used, capacity)
				}
				for i, ref := range refs {
					if _, got, dir := lookup(table, client(i, lb.TCP)); dir != Forward || got != ref {
						t.Fatalf("%v: %d of %d is lost", mode, i, capacity)
					}
				}
				for _, ref := range refs {
					if !table.Delete(ref) {
						t.Fatal("lost")
					}
				}
				if load.Total() != 0 || table.Servers().Refs(id) != 0 {
					t.Fatalf("%v: %d counted in an empty table", mode, load.Total())
				}
			}
			cleanIndex(t, table)
		}
	}
}

// TestFloodKeepsEstablished: a flood ten times the table's size ends half-open connections only, the oldest it meets.
func TestFloodKeepsEstablished(t *testing.T) {
	const capacity = 1000
	for _, proto := range []lb.Proto{lb.TCP, lb.UDP} {
		table := newTable(t, Options{Capacity: capacity})
		id, load := newServer(t, table)
		for i := range capacity / 2 {
			c, ref := open(t, table, client(i, proto), lb.DR, id, start)
			table.Packet(ref, &c, Forward, ACK, start)
		}
		made := 0
		for i := range 10 * capacity {
			c := connOf(client(capacity+i, proto), lb.DR, id)
			table.Open(&c, SYN)
			switch _, r := table.Insert(&c, start+uint32(i/100)); r {
			case OK:
				made++
			case Full:
			default:
				t.Fatal(r)
			}
		}
		for i := range capacity / 2 {
			if _, _, dir := lookup(table, client(i, proto)); dir != Forward {
				t.Fatalf("%v: connection %d was lost to the flood", proto, i)
			}
		}
		s := table.Stats()
		if s.Used != capacity || int(s.Evicted) != made-capacity/2 || int(s.Refused[Full]) != 10*capacity-made || load.Total() != capacity {
			t.Errorf("%v: %+v with %d made, %d counted", proto, s, made, load.Total())
		}
		if made < 9*capacity {
			t.Errorf("%v: only %d of %d found room, though half of the table was half-open", proto, made, 10*capacity)
		}
	}
}

func TestMemoryLayout(t *testing.T) {
	if s := unsafe.Sizeof(entry{}); s != 64 {
		t.Errorf("an entry is %d bytes", s)
	}
	if s := unsafe.Sizeof(rest{}); s != 32 {
		t.Errorf("the rest of an entry is %d bytes", s)
	}
	if at := unsafe.Offsetof(server{}.load); at != 64 {
		t.Errorf("a server's load is at %d", at)
	}
	if s := unsafe.Sizeof(bucket{}); s != 64 {
		t.Errorf("a bucket is %d bytes", s)
	}
	if s := unsafe.Sizeof(stripe{}); s != 64 {
		t.Errorf("a stripe is %d bytes", s)
	}
	if s := unsafe.Sizeof(poolShard{}); s != 128 {
		t.Errorf("a pool shard is %d bytes", s)
	}
	if s := unsafe.Sizeof(server{}); s != 128 {
		t.Errorf("a server is %d bytes", s)
	}
	for _, huge := range []bool{false, true} {
		table := newTable(t, Options{Capacity: 3, HugePages: huge})
		if a := uintptr(unsafe.Pointer(&table.mem.entries[0])); a%64 != 0 {
			t.Errorf("the entries are at %x", a)
		}
		if a := uintptr(unsafe.Pointer(&table.mem.rests[0])); a%64 != 0 {
			t.Errorf("their rests are at %x", a)
		}
		if a := uintptr(unsafe.Pointer(&table.mem.buckets[0])); a%64 != 0 {
			t.Errorf("the buckets are at %x", a)
		}
	}
}

// TestMemoryEnds writes the first and the last word of each region.
func TestMemoryEnds(t *testing.T) {
	m, err := newMemory(1001, 256, false)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.entries) != 1001 || len(m.rests) != 1001 || len(m.buckets) != 256 || len(m.due) != 1001 {
		t.Fatalf("%d entries, %d buckets, %d due", len(m.entries), len(m.buckets), len(m.due))
	}
	m.entries[0][0].Store(1)
	m.entries[1000][7].Store(2)
	m.rests[0][0].Store(7)
	m.rests[1000][3].Store(8)
	m.buckets[0][0].Store(3)
	m.buckets[255][7].Store(4)
	m.due[0].Store(5)
	m.due[1000].Store(6)
	if m.entries[0][0].Load() != 1 || m.entries[1000][7].Load() != 2 || m.rests[0][0].Load() != 7 || m.rests[1000][3].Load() != 8 || m.buckets[0][0].Load() != 3 ||
		m.buckets[255][7].Load() != 4 || m.due[0].Load() != 5 || m.due[1000].Load() != 6 {
		t.Error("the regions overlap")
	}
	m.close()
	m.close()
	if m.entries != nil || m.rests != nil || m.buckets != nil || m.due != nil {
		t.Error("closed memory can still be reached")
	}
}

func TestBadOptions(t *testing.T) {
	for _, o := range []Options{{Capacity: -1}, {Capacity: maxCapacity + 1}, {FirstPort: 3000, LastPort: 2999}, {LastPort: 80}} {
		if table, err := New(o); err == nil {
			table.Close()
			t.Errorf("%+v was taken", o)
		}
	}
}

// TestNoAllocation covers everything that a worker calls per packet, per connection or per second.
func TestNoAllocation(t *testing.T) {
	table := newTable(t, Options{Capacity: 1000})
	if err := table.SetLocals([]lb.Addr{lb.AddrFrom4(0x0afe0001)}); err != nil {
		t.Fatal(err)
	}
	id, _ := newServer(t, table)
	s := table.Sweeper(0, 1)
	now, i := uint32(start), 0
	for _, mode := range []lb.Mode{lb.DR, lb.NAT, lb.FULLNAT} {
		if n := testing.AllocsPerRun(200, func() {
			i++
			f := client(i, lb.TCP)
			c := connOf(f, mode, id)
			table.Open(&c, SYN)
			ref, r := table.Insert(&c, now)
			_, dir := table.Lookup(&f, table.Hash(&f), &c)
			if r != OK || dir != Forward || !table.Packet(ref, &c, Forward, ACK, now) || !table.Packet(ref, &c, Forward, ACK, now+1) || !table.Load(ref, &c) {
				t.Fatal(r, dir)
			}
			if i%2 == 0 {
				table.Delete(ref)
			}
			now += 10
			s.Sweep(now, 1000)
		}); n != 0 {
			t.Errorf("%v: %v allocations", mode, n)
		}
	}
}
