package sched

import (
	"math/bits"
	"slices"
)

func init() {
	register(kind{
		name:   "mh",
		flags:  [3]string{"mh-fallback", "mh-port"},
		traits: traits{shares: true, hashes: true, slots: mhSize, stable: 200}, // with 100 slots each IPVS moves 1.8 times the share
		new:    func(f flags) Scheduler { return &mh{fallback: f[0], port: f[1]} },
	})
}

const (
	mhSize = 4093 // slots: the kernel's prime for CONFIG_IP_VS_MH_TAB_INDEX=12, its default
	mhBits = 6    // bits that a server's turns may have (IP_VS_MH_TAB_BITS)

	mhPlaceKey = 2654435761 // the kernel's fixed keys, for a server's first slot and a client's
	mhSkipKey  = 2654446892 // and for a server's step
)

// mh is IPVS's Maglev hashing by the client's address (kernel ip_vs_mh.c).
type mh struct {
	fallback bool // when the server takes no connections, go on to other slots
	port     bool // hash the client's port too
	servers  []*Server
	slots    []uint16 // places in servers; nil: nobody has a slot
}

// mhHash is the kernel's hsiphash of one 32-bit word on a 64-bit machine.
func mhHash(v uint32, key uint64) uint32 { return uint32(sip13(key, 4<<56|uint64(v))) }

func (s *mh) Update(l *List) {
	slots, ok := l.Prepared.([]uint16)
	if !ok {
		slots = mhSlots(l.Servers)
	}
	s.servers, s.slots = l.Servers, slots
}

// Prepare builds the table of slots, 0.1 ms for 1,000 servers (AMD EPYC, 2 CPUs, November 2026).
func (s *mh) Prepare(l *List) any { return mhSlots(l.Servers) }

func mhSlots(servers []*Server) []uint16 {
	servers = servers[:min(len(servers), mhSize)]
	var w weights
	for _, c := range servers {
		w.takeWeight(mhWeight(c))
	}
	if w.largest == 0 {
		return nil
	}
	shift := max(0, bits.Len(uint(w.largest/w.divisor))-mhBits)
	walks := make([]slotWalk, len(servers))
	turns := make([]int, len(servers))
	for i, c := range servers {
		v := fold(c.Addr) + uint32(c.Port)
		walks[i] = slotWalk{at: mhHash(v, mhPlaceKey) % mhSize, step: mhHash(v, mhSkipKey)%(mhSize-1) + 1}
		if n := mhWeight(c); n > 0 {
			turns[i] = max(1, n/w.divisor>>shift)
		}
	}
	slots := emptySlots(mhSize)
	for left := mhSize; ; {
		for i := range walks {
			for range turns[i] {
				slots[walks[i].free(slots)] = uint16(i)
				if left--; left == 0 {
					return slots
				}
			}
		}
	}
}

// mhWeight is the weight that slots go by: a server taken to weight 0 keeps what it had.
func mhWeight(c *Server) int {
	if c.Weight > 0 {
		return int(c.Weight)
	}
	return int(c.Kept)
}

func (s *mh) Pick(r *Request) *Server {
	if s.slots == nil {
		return nil
	}
	v := clientHash(&r.Flow, s.port)
	slot := mhHash(v, mhPlaceKey) % mhSize
	if c := s.servers[s.slots[slot]]; takes(c) {
		return c
	}
	// IPVS goes through all slots even when nobody is open: 4,093 hashes for nothing, with every new connection.
	if !s.fallback || !slices.ContainsFunc(s.servers, takes) {
		return nil
	}
	for i := range uint32(mhSize) {
		if c := s.servers[s.slots[mhHash(v+(slot+i)%mhSize, mhPlaceKey)%mhSize]]; takes(c) {
			return c
		}
	}
	return nil
}

// noServer marks a slot that nobody has taken yet.
const noServer = 0xffff

func emptySlots(n int) []uint16 {
	slots := make([]uint16, n)
	for i := range slots {
		slots[i] = noServer
	}
	return slots
}

// slotWalk is the order in which one server would like to have the slots (Eisenbud et al. 2016, section 3.4). The number of slots is
// a prime, so a walk by any step comes to all of them.
type slotWalk struct{ at, step uint32 }

// free returns the walk's next slot that nobody has; there must be one.
func (w *slotWalk) free(slots []uint16) uint32 {
	for slots[w.at] != noServer {
		w.move(uint32(len(slots)))
	}
	return w.at
}

// move goes one step on among size slots.
func (w *slotWalk) move(size uint32) {
	if w.at += w.step; w.at >= size {
		w.at -= size
	}
}
