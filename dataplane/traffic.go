package dataplane

import (
	"sync"
	"sync/atomic"

	"weir/lb"
)

// Traffic counts what went through for a server: connections, and packets and bytes of IP by direction, as IPVS counts them
// (ip_vs_core.c, ip_vs_in_stats and ip_vs_out_stats: before rewriting, without link headers).
type Traffic struct {
	Conns, InPackets, OutPackets, InBytes, OutBytes uint64
}

// Add adds o to t.
func (t *Traffic) Add(o Traffic) {
	t.Conns += o.Conns
	t.InPackets += o.InPackets
	t.OutPackets += o.OutPackets
	t.InBytes += o.InBytes
	t.OutBytes += o.OutBytes
}

// Sub takes o, an earlier state of the same counters, away.
func (t *Traffic) Sub(o Traffic) {
	t.Conns -= o.Conns
	t.InPackets -= o.InPackets
	t.OutPackets -= o.OutPackets
	t.InBytes -= o.InBytes
	t.OutBytes -= o.OutBytes
}

// trafficPage is the counters of the servers of one table page, for one worker. The worker counts in cells, memory that only it
// touches, and copies what a batch changed to shown at the batch's end: no cache line is shared while packets are handled, and
// what is read there is exact up to the batch under way.
type trafficPage struct {
	cells [1 << pageBits]trafficCell
	shown [1 << pageBits][5]atomic.Uint64
}

type trafficCell struct {
	Traffic
	changed bool // it is in meters.changed
}

// meters are one worker's counters of all servers. Pages are made by control before a server gets into a table.
type meters struct {
	pages   [lb.MaxServers >> pageBits]atomic.Pointer[trafficPage]
	changed []uint32 // slots that this batch counted for; capacity for a whole turn is made at the start
}

// cell returns where to count for a server.
func (m *meters) cell(id lb.ServerID) *trafficCell {
	slot := id.Slot()
	page := m.pages[slot>>pageBits].Load()
	c := &page.cells[slot&(1<<pageBits-1)]
	if !c.changed {
		c.changed = true
		m.changed = append(m.changed, slot)
	}
	return c
}

// show makes what was counted since the last call readable for others.
func (m *meters) show() {
	for _, slot := range m.changed {
		page := m.pages[slot>>pageBits].Load()
		i := slot & (1<<pageBits - 1)
		c, s := &page.cells[i], &page.shown[i]
		c.changed = false
		for j, v := range [5]uint64{c.Conns, c.InPackets, c.OutPackets, c.InBytes, c.OutBytes} {
			s[j].Store(v)
		}
	}
	m.changed = m.changed[:0]
}

func (m *meters) read(slot uint32) (t Traffic) {
	if page := m.pages[slot>>pageBits].Load(); page != nil {
		s := &page.shown[slot&(1<<pageBits-1)]
		t = Traffic{s[0].Load(), s[1].Load(), s[2].Load(), s[3].Load(), s[4].Load()}
	}
	return t
}

// metered is the list of all workers' meters.
type metered struct {
	mu  sync.Mutex
	all []*meters
	top uint32 // pages below this number are made
}

// Meter makes room for a server's counters in every worker. To be called before a table with the server is published.
func (s *Shared) Meter(id lb.ServerID) {
	s.meters.mu.Lock()
	defer s.meters.mu.Unlock()
	top := id.Slot()>>pageBits + 1
	if top <= s.meters.top {
		return
	}
	s.meters.top = top
	for _, m := range s.meters.all {
		m.grow(s.meters.top)
	}
}

// Traffic returns what all workers have counted for the slot of id since the start: also for its earlier owners, so a reader
// keeps what it found when the server came.
func (s *Shared) Traffic(id lb.ServerID) (sum Traffic) {
	s.meters.mu.Lock()
	defer s.meters.mu.Unlock()
	for _, m := range s.meters.all {
		sum.Add(m.read(id.Slot()))
	}
	return sum
}

// join adds a new worker's meters.
func (s *Shared) join(m *meters) {
	s.meters.mu.Lock()
	defer s.meters.mu.Unlock()
	m.grow(s.meters.top)
	s.meters.all = append(s.meters.all, m)
}

// grow makes the pages below top. Only under metered's mutex.
func (m *meters) grow(top uint32) {
	for i := range top {
		if m.pages[i].Load() == nil {
			m.pages[i].Store(new(trafficPage))
		}
	}
}
