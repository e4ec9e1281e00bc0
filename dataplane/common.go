package dataplane

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"weir/conntrack"
)

// Shared is what all workers of a director have in common.
type Shared struct {
	table atomic.Pointer[Table]
	conns *conntrack.Table
	clock func() uint32

	// refuseEvery is drop_packet's rate: one new connection in so many is refused; 0: none. Set by control.
	refuseEvery atomic.Uint32
	refuseCount atomic.Uint32 // counts new connections while there is a rate

	mtus      pathMTUs
	datagrams datagrams

	meters   metered
	turning  turning
	captures atomic.Pointer[Capture] // the one under way; nil: none
}

// NewShared returns the common part for workers on conns. Clock returns seconds, rising, never 0; it is called once per
// batch. Nil stands for MonotonicClock().
func NewShared(conns *conntrack.Table, clock func() uint32) *Shared {
	if clock == nil {
		clock = MonotonicClock()
	}
	s := &Shared{conns: conns, clock: clock}
	s.datagrams.seed = rand.Uint64()
	s.datagrams.nextID.Store(rand.Uint32()) // nor which one comes next: RFC 7739
	s.table.Store(NewTable())
	return s
}

// MonotonicClock returns a clock that starts now, at second 1, and that setting the host's time does not move.
func MonotonicClock() func() uint32 {
	start := time.Now()
	return func() uint32 { return uint32(time.Since(start)/time.Second) + 1 }
}

// Publish makes t what workers read from their next batch on.
func (s *Shared) Publish(t *Table) { s.table.Store(t) }

// Table returns what was published last.
func (s *Shared) Table() *Table { return s.table.Load() }

// RefuseEvery makes workers refuse one new connection in n (IPVS's drop_packet); 0: none.
func (s *Shared) RefuseEvery(n uint32) { s.refuseEvery.Store(n) }

func (s *Shared) refusesOne() bool {
	n := s.refuseEvery.Load()
	return n != 0 && s.refuseCount.Add(1)%n == 0
}

// Now reads the workers' clock.
func (s *Shared) Now() uint32 { return s.clock() }
