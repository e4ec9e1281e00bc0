package sched

import (
	"cmp"
	"slices"

	"weir/lb"
)

func init() {
	register(kind{
		name:   "maglev",
		traits: traits{shares: true, hashes: true, stable: true},
		new:    func(flags) Scheduler { return new(maglev) },
	})
}

const (
	maglevSize = 65537 // slots: the small table of Eisenbud et al. 2016, section 5.3
	// maglevTries bounds how often a flow whose server is full is hashed again before the servers are gone through in turn.
	maglevTries = 64

	// Any fixed keys would do, but all directors need the same: to change one is to move connections.
	maglevPlaceKey = 0x776569722d706c63
	maglevStepKey  = 0x776569722d737470
	maglevFlowKey  = 0x776569722d666c77
)

// maglev hashes the flow into 65,537 slots that the servers share by weight (Eisenbud et al., "Maglev", NSDI 2016, section 3.4). The
// table depends on addresses, ports and weights only, not on the order in which servers were added, so directors with the
// same configuration choose the same server for a flow without talking. A full server (a matter of one director) gives its
// flows to others; they come back when it is open again.
type maglev struct{ table *maglevTable }

// maglevTable is immutable.
type maglevTable struct {
	servers []*Server // those with weight, by address and port
	slots   []uint16  // places in servers; nil when there are none
}

func (s *maglev) Update(l *List) {
	t, ok := l.Prepared.(*maglevTable)
	if !ok {
		t = newMaglevTable(l.Servers)
	}
	s.table = t
}

// Prepare builds the table of slots, some milliseconds.
func (s *maglev) Prepare(l *List) any { return newMaglevTable(l.Servers) }

func newMaglevTable(servers []*Server) *maglevTable {
	t := &maglevTable{servers: slices.DeleteFunc(slices.Clone(servers), func(c *Server) bool { return c.Weight <= 0 })}
	slices.SortFunc(t.servers, func(a, b *Server) int {
		return cmp.Or(cmp.Compare(a.Addr.Hi, b.Addr.Hi), cmp.Compare(a.Addr.Lo, b.Addr.Lo), cmp.Compare(a.Port, b.Port))
	})
	t.servers = t.servers[:min(len(t.servers), noServer)]
	if len(t.servers) == 0 {
		return t
	}
	walks := make([]slotWalk, len(t.servers))
	largest := int64(0)
	for i, c := range t.servers {
		place, step := maglevHash(c, maglevPlaceKey), maglevHash(c, maglevStepKey)
		walks[i] = slotWalk{at: uint32(place % maglevSize), step: uint32(step%(maglevSize-1) + 1)}
		largest = max(largest, int64(c.Weight))
	}
	t.slots = emptySlots(maglevSize)
	// The heaviest server takes a slot every round, the others in as many rounds as their weight is of its; all in the first.
	for round, left := int64(0), maglevSize; ; round++ {
		for i, c := range t.servers {
			w := int64(c.Weight)
			if round*w%largest >= w && round > 0 {
				continue
			}
			t.slots[walks[i].free(t.slots)] = uint16(i)
			if left--; left == 0 {
				return t
			}
		}
	}
}

func maglevHash(c *Server, key uint64) uint64 {
	return sip13(key, c.Addr.Hi, c.Addr.Lo, 18<<56|uint64(c.Port))
}

func (s *maglev) Pick(r *Request) *Server {
	t := s.table
	if t == nil || t.slots == nil {
		return nil
	}
	h := r.maglevHash()
	first := t.servers[t.slots[h%maglevSize]]
	if !first.Load.Overloaded.Load() {
		return first
	}
	for i := range uint64(maglevTries) {
		if c := t.servers[t.slots[sip13(h, 16<<56|i)%maglevSize]]; !c.Load.Overloaded.Load() {
			return c
		}
	}
	at := int(h % uint64(len(t.servers)))
	for range t.servers {
		if c := t.servers[at]; !c.Load.Overloaded.Load() {
			return c
		}
		if at++; at == len(t.servers) {
			at = 0
		}
	}
	return nil
}

// maglevHash covers the 5-tuple, so that clients behind one address spread; of a persistent service's clients only the group, so
// that every director sends the whole group to one server.
func (r *Request) maglevHash() uint64 {
	if r.Group != (lb.Addr{}) {
		return sip13(maglevFlowKey, r.Group.Hi, r.Group.Lo, 16<<56)
	}
	f := &r.Flow
	ports := uint64(f.SrcPort)<<24 | uint64(f.DstPort)<<8 | uint64(f.Proto)
	return sip13(maglevFlowKey, f.Src.Hi, f.Src.Lo, f.Dst.Hi, f.Dst.Lo, 37<<56|ports)
}
