package sched

import (
	"math/rand/v2"
	"slices"
	"testing"

	"weir/lb"
)

// slowCache is lblc and lblcr with maps and slices, without a limit.
type slowCache struct {
	servers []*Server
	all     map[lb.Addr]*Server // as they are, or were when they were removed
	sets    map[lb.Addr]*slowSet
	replica bool // lblcr
}

type slowSet struct {
	servers          []lb.Addr // the one that came last in front
	lastUse, lastMod uint32
}

func (s *slowCache) update(servers []*Server) {
	s.servers = servers
	for _, c := range servers {
		s.all[c.Addr] = c
	}
}

func (s *slowCache) listed(a lb.Addr) bool {
	return slices.ContainsFunc(s.servers, func(c *Server) bool { return c.Addr == a })
}

func ratio(c *Server) float64 { return float64(overhead(c.Load)) / float64(c.Weight) }

func (s *slowCache) least(from []*Server) *Server {
	var least *Server
	for _, c := range from {
		if takes(c) && (least == nil || ratio(c) < ratio(least)) {
			least = c
		}
	}
	return least
}

func (s *slowCache) busy(c *Server) bool {
	return c.Load.Active.Load() > c.Weight && slices.ContainsFunc(s.servers, func(c *Server) bool {
		return c.Load.Active.Load()*2 < c.Weight
	})
}

func (s *slowCache) pick(dst lb.Addr, now uint32) *Server {
	set := s.sets[dst]
	if set != nil && now-set.lastUse >= cacheExpiry {
		delete(s.sets, dst)
		set = nil
	}
	if set != nil {
		set.lastUse = now
		var c *Server
		if s.replica {
			c = s.fromSet(set, now)
		} else if first := s.all[set.servers[0]]; s.listed(first.Addr) && first.Weight > 0 {
			c = first
		}
		if c != nil && !s.busy(c) {
			return c
		}
	}
	c := s.least(s.servers)
	if c == nil {
		return nil
	}
	if set == nil {
		set = &slowSet{lastUse: now}
		s.sets[dst] = set
	}
	if !slices.Contains(set.servers, c.Addr) {
		if !s.replica {
			set.servers = nil
		}
		set.servers = append([]lb.Addr{c.Addr}, set.servers...)
		set.lastMod = now
	}
	return c
}

func (s *slowCache) fromSet(set *slowSet, now uint32) *Server {
	var open []*Server
	var most *Server
	for _, a := range set.servers {
		c := s.all[a]
		if s.listed(a) {
			open = append(open, c)
		}
		if c.Weight > 0 && (most == nil || ratio(c) > ratio(most)) {
			most = c
		}
	}
	if len(set.servers) > 1 && now-set.lastMod > cacheExpiry && most != nil {
		set.servers = slices.DeleteFunc(set.servers, func(a lb.Addr) bool { return a == most.Addr })
		set.lastMod = now
	}
	return s.least(open)
}

// TestCachesPickAsWithMaps runs lblc and lblcr beside the slow version through months of picks, edits, removals and returns.
func TestCachesPickAsWithMaps(t *testing.T) {
	for _, name := range []string{"lblc", "lblcr"} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(22, 23))
			for range 20 {
				f := newFarm(3, 2, 1)
				fast := f.start(t, name)
				slow := &slowCache{all: map[lb.Addr]*Server{}, sets: map[lb.Addr]*slowSet{}, replica: name == "lblcr"}
				slow.update(f.servers)
				loads := map[int]*lb.Load{}
				now := uint32(1000)
				for i := range 4000 {
					change := true
					switch n := r.IntN(100); {
					case n == 0 || len(f.servers) == 0: // one that is new or was there before
						j := 1 + r.IntN(8)
						if f.place(j) >= 0 {
							continue
						}
						f.add(j, r.Int32N(5))
						if loads[j] != nil {
							f.servers[0].Load = loads[j]
						}
						loads[j] = f.servers[0].Load
					case n == 1:
						c := f.servers[r.IntN(len(f.servers))]
						loads[number(c)] = c.Load
						f.remove(number(c))
					case n == 2:
						f.edit(number(f.servers[r.IntN(len(f.servers))]), r.Int32N(5))
					default:
						change = false
					}
					if change {
						fast.Update(f.list(fast))
						slow.update(f.servers)
						continue
					}
					if r.IntN(50) == 0 {
						now += uint32(r.IntN(20 * 60 * 60))
					}
					if r.IntN(10) == 0 {
						c := f.servers[r.IntN(len(f.servers))]
						c.Load.Active.Store(r.Int32N(6))
						c.Load.Overloaded.Store(r.IntN(8) == 0)
					}
					dst := lb.AddrFrom4(0x0a000000 + uint32(r.IntN(40)))
					got, want := fast.Pick(&Request{Flow: lb.Flow{Dst: dst}, Now: now}), slow.pick(dst, now)
					if got != want {
						t.Fatalf("pick %d for %v: %v, want %v", i, dst, got, want)
					}
					if got != nil {
						got.Load.Active.Add(1)
					}
				}
			}
		})
	}
}

// count walks the whole cache: its entries, and how often each member is named.
func (c *cache) count(t *testing.T) (entries int) {
	t.Helper()
	refs := make([]int32, len(c.members))
	for b := range c.buckets {
		for i := c.buckets[b]; i != 0; i = c.entries[i].next {
			entries++
			size := int32(0)
			for e := c.entries[i].set; e != 0; e = c.elems[e].next {
				refs[c.elems[e].member]++
				size++
			}
			if size != c.entries[i].size {
				t.Fatalf("entry %d: size %d, has %d servers", i, c.entries[i].size, size)
			}
		}
	}
	for m := range refs {
		if refs[m] != c.members[m].refs {
			t.Fatalf("member %d has %d references, counts %d", m, refs[m], c.members[m].refs)
		}
	}
	return entries
}

func TestAFullCacheForgetsTheOldAndKeepsWorking(t *testing.T) {
	for _, name := range []string{"lblc", "lblcr"} {
		f := newFarm(1, 1)
		s := f.start(t, name)
		c := map[string]func() *cache{
			"lblc":  func() *cache { return &s.(*lblc).cache },
			"lblcr": func() *cache { return &s.(*lblcr).cache },
		}[name]()
		q := &Request{Flow: lb.Flow{Dst: lb.AddrFrom4(0x0a000000)}}
		for i := range uint32(3 * cacheEntries) {
			q.Flow.Dst.Lo++
			q.Now = i / 100
			s.Pick(q).Load.Inactive.Add(1)
		}
		if n := c.count(t); n != cacheEntries {
			t.Errorf("%s remembers %d destinations, want %d", name, n, cacheEntries)
		}
		q.Now += cacheExpiry
		for range 1 << cacheBits { // every new destination looks through one bucket
			q.Flow.Dst.Lo++
			s.Pick(q)
		}
		if n := c.count(t); n > 2<<cacheBits {
			t.Errorf("%s remembers %d destinations a day later, with %d new ones", name, n, 1<<cacheBits)
		}
	}
}

func TestARemovedServerIsForgottenWithItsLastDestination(t *testing.T) {
	f := newFarm(1, 1)
	s := f.start(t, "lblc").(*lblc)
	q := &Request{Flow: lb.Flow{Dst: lb.AddrFrom4(1)}}
	first := number(s.Pick(q))
	f.remove(first)
	s.Update(f.list(s))
	if len(s.byAddr) != 2 {
		t.Errorf("%d servers known while a destination names the removed one, want 2", len(s.byAddr))
	}
	if other := s.Pick(q); other == nil || number(other) == first {
		t.Fatalf("after the removal: %v", other)
	}
	if len(s.byAddr) != 1 || len(s.unused) != 1 {
		t.Errorf("%d servers known, %d places free, want 1 and 1", len(s.byAddr), len(s.unused))
	}
}

func TestAServerThatComesBackFindsItsDestinations(t *testing.T) {
	f := newFarm(1, 1)
	s := f.start(t, "lblc")
	q := &Request{Flow: lb.Flow{Dst: lb.AddrFrom4(1)}}
	first := number(s.Pick(q))
	load := f.get(first).Load
	load.Inactive.Store(10) // or it would be the least loaded in any case
	f.remove(first)
	s.Update(f.list(s))
	f.add(first, 1)
	f.servers[0].Load = load
	s.Update(f.list(s))
	if c := s.Pick(q); c != f.get(first) {
		t.Errorf("the destination of server %d goes to %v", first, c.Addr)
	}
}
