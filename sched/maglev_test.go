package sched

import (
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"testing"

	"weir/lb"
)

// numbers returns who has the slots, by the servers' numbers: comparable between tables.
func (t *maglevTable) numbers() []int {
	n := make([]int, len(t.slots))
	for i, at := range t.slots {
		n[i] = number(t.servers[at])
	}
	return n
}

func TestMaglevDependsOnTheConfigurationOnly(t *testing.T) {
	weights := []int32{3, 1, 4, 1, 5, 9, 2, 6}
	one, other := newFarm(weights...), new(farm)
	for _, i := range rand.New(rand.NewPCG(30, 31)).Perm(len(weights)) {
		other.add(i+1, weights[i])
	}
	if !slices.Equal(newMaglevTable(one.servers).numbers(), newMaglevTable(other.servers).numbers()) {
		t.Error("the order in which servers are added changes the table")
	}
}

// TestMaglevTableIsTheSameInEveryRelease pins tables and hash: directors of two releases must agree while one is upgraded, so a change
// here moves connections.
func TestMaglevTableIsTheSameInEveryRelease(t *testing.T) {
	for _, row := range []struct {
		weights []int32
		sum     uint32
		choices [4]int
	}{
		{[]int32{1}, 0x12df6f08, [4]int{1, 1, 1, 1}},
		{[]int32{1, 1, 1}, 0x7601e9dc, [4]int{3, 1, 3, 3}},
		{[]int32{5, 0, 3, 1}, 0x4fa4df72, [4]int{3, 1, 3, 3}},
		{[]int32{1, 65535, 2147483647}, 0x31f81305, [4]int{3, 3, 3, 3}},
	} {
		f := newFarm(row.weights...)
		s := f.start(t, "maglev").(*maglev)
		var bytes []byte
		for _, n := range s.table.numbers() {
			bytes = append(bytes, byte(n))
		}
		var choices [4]int
		for i, q := range []Request{
			{Flow: lb.Flow{Src: lb.MustParseAddr("192.0.2.1"), SrcPort: 1024, Dst: lb.MustParseAddr("198.51.100.1"), DstPort: 80, Proto: lb.TCP}},
			{Flow: lb.Flow{Src: lb.MustParseAddr("192.0.2.1"), SrcPort: 1025, Dst: lb.MustParseAddr("198.51.100.1"), DstPort: 80, Proto: lb.TCP}},
			{Flow: lb.Flow{Src: lb.MustParseAddr("2001:db8::1"), SrcPort: 1024, Dst: lb.MustParseAddr("2001:db8::80"), DstPort: 443, Proto: lb.UDP}},
			{Group: lb.MustParseAddr("192.0.2.0")},
		} {
			choices[i] = number(s.Pick(&q))
		}
		if sum := crc32.ChecksumIEEE(bytes); sum != row.sum || choices != row.choices {
			t.Errorf("weights %v: table %#08x, choices %v, want %#08x, %v", row.weights, sum, choices, row.sum, row.choices)
		}
	}
}

func TestMaglevFullServersClientsComeBack(t *testing.T) {
	f := newFarm(1, 1, 1, 1)
	s := f.start(t, "maglev")
	r := rand.New(rand.NewPCG(32, 33))
	for range 200 {
		q := client(r)
		own := s.Pick(q)
		own.Load.Overloaded.Store(true)
		stand := s.Pick(q)
		if stand == own || stand != s.Pick(q) {
			t.Fatalf("%v with its server full: %v", q.Flow, stand.Addr)
		}
		own.Load.Overloaded.Store(false)
		if c := s.Pick(q); c != own {
			t.Fatalf("%v goes to %v after %v has opened again", q.Flow, c.Addr, own.Addr)
		}
	}
}

func TestMaglevOneOpenServerOfMany(t *testing.T) {
	f := newFarm(equalWeights(1000)...)
	s := f.start(t, "maglev")
	for _, c := range f.servers {
		c.Load.Overloaded.Store(number(c) != 77)
	}
	r := rand.New(rand.NewPCG(34, 35))
	for range 100 {
		if c := s.Pick(client(r)); c != f.get(77) {
			t.Fatalf("picked %v", c)
		}
	}
}

func TestMaglevKeepsAPersistentGroupTogether(t *testing.T) {
	f := newFarm(equalWeights(50)...)
	s := f.start(t, "maglev")
	r := rand.New(rand.NewPCG(36, 37))
	q := client(r)
	q.Group = lb.MustParseAddr("192.0.2.0")
	first, spread := s.Pick(q), false
	for range 100 {
		q := client(r)
		spread = spread || s.Pick(q) != first
		q.Group = lb.MustParseAddr("192.0.2.0")
		if c := s.Pick(q); c != first {
			t.Fatalf("the group goes to %v and to %v", first.Addr, c.Addr)
		}
	}
	if !spread {
		t.Error("clients without a group all go to one server")
	}
}

// TestMaglevTableOfAwkwardWeights ends, is full, and gives nobody more than 5% over the share.
func TestMaglevTableOfAwkwardWeights(t *testing.T) {
	for _, weights := range [][]int32{
		{2147483647, 1},
		{65535, 65535, 1, 1, 1},
		append(equalWeights(999), 65535),
		append(equalWeights(100), 50, 50),
		equalWeights(5000),
	} {
		f := newFarm(weights...)
		table := newMaglevTable(f.servers)
		got, total := map[int]int{}, 0.0
		for _, n := range table.numbers() {
			got[n]++
		}
		for _, w := range weights {
			total += float64(w)
		}
		for i, w := range weights {
			if most := 1.05*maglevSize*float64(w)/total + 1; float64(got[i+1]) > most {
				t.Errorf("weights %v...: server %d has %d slots, more than %.0f", weights[:2], i+1, got[i+1], most)
			}
		}
	}
}

func TestMaglevWithMoreServersThanSlots(t *testing.T) {
	f := new(farm)
	servers := make([]*Server, maglevSize+10)
	for i := range servers {
		servers[i] = &Server{Serial: uint64(i), Addr: lb.AddrFrom4(uint32(i + 1)), Port: 80, Weight: 1, Load: new(lb.Load)}
	}
	f.servers = servers
	s := f.start(t, "maglev")
	if s.Pick(client(rand.New(rand.NewPCG(38, 39)))) == nil {
		t.Error("nobody is picked")
	}
	m := f.start(t, "mh")
	if m.Pick(client(rand.New(rand.NewPCG(38, 39)))) == nil {
		t.Error("nobody is picked by mh")
	}
}
