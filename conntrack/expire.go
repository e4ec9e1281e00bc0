package conntrack

import (
	"sync/atomic"

	"weir/lb"
)

// dueTime is the second at which an entry is to be looked at, 0 for a free one: no later than the connection's
// end, often earlier, since packets only push the end away. Dense, so that a sweep over a million is some hundred microseconds.
type dueTime = atomic.Uint32

type due []dueTime

// lower brings an entry's time forward. The caller has stored the connection's new timeout before, and the sweeper, which pushes the time
// back, reads the timeout again afterwards: one of the two sees the other.
func (d due) lower(n, when uint32) {
	for {
		old := d[n].Load()
		if old <= when || d[n].CompareAndSwap(old, when) {
			return
		}
	}
}

// Sweeper ends the connections of its share of the table that are due. It belongs to one goroutine.
type Sweeper struct {
	t               *Table
	worker, workers uint32
	block           uint32 // the next block of the share
	at              uint32 // the next entry of that block
	second          uint32 // the second of the pass that was begun last
	left            bool   // that pass is not through
	expels          uint32 // the server expulsions known when this pass began
	inspect         bool   // this pass looks at every connection's server
	phase           uint32 // this pass sheds from every entry whose number is this modulo shedShare
}

// sweepBlock is how many neighbouring entries one worker sweeps before it goes on to the next block of its share.
const sweepBlock = 1024

// Sweeper returns the sweeper for worker's share of the table (0 <= worker < workers); the shares together are the whole table.
func (t *Table) Sweeper(worker, workers int) *Sweeper {
	return &Sweeper{t: t, worker: uint32(worker), workers: uint32(workers)}
}

// What an entry costs of a Sweep's limit beside the look at its due time, which costs 1: about as many times longer does it take. A million
// connections that end in the same second are thus ended in pieces of the same length as any other.
const (
	visitCost = 16 // to look at the connection
	endCost   = 64 // to end it
)

// Sweep looks at no more than limit entries, at far fewer when many of them are due, and at each entry of its share once in a second: when
// it has been through, it does nothing until now goes on or a server's connections are expelled. It returns how many connections it
// ended, and whether it is through.
func (s *Sweeper) Sweep(now uint32, limit int) (ended int, through bool) {
	if !s.left {
		expels := s.t.servers.expels.Load()
		if now == s.second && expels == s.expels {
			return 0, true
		}
		s.inspect = expels != s.expels
		s.phase = shedNone
		if now != s.second && s.t.shedding.Load() {
			s.phase = now % shedShare
		}
		s.second, s.expels, s.left = now, expels, true
		s.block, s.at = s.worker, 0
	}
	for {
		first := uint64(s.block) * sweepBlock
		fresh := uint64(s.t.pool.fresh.Load())
		if first >= fresh {
			s.left = false
			return ended, true
		}
		last := min(first+sweepBlock, fresh)
		n := first + uint64(s.at)
		for ; n < last && limit > 0; n++ {
			limit--
			if d := s.t.mem.due[n].Load(); d != 0 && (d <= now || s.inspect || uint32(n)%shedShare == s.phase) {
				limit -= visitCost
				if s.t.visit(uint32(n), d, now, s.phase) {
					limit -= endCost
					ended++
				}
			}
		}
		if n < last {
			s.at = uint32(n - first)
			return ended, false
		}
		s.block += s.workers
		s.at = 0
	}
}

// visit ends connection n if it is due, its server's connections are to end, or it is of those that phase sheds, and else writes down when to
// come again.
func (t *Table) visit(n, seen, now, phase uint32) bool {
	e := &t.mem.entries[n]
	h, server, timer := e[wHead].Load(), e[wServer].Load(), e[wTimer].Load()
	if headFree(h) {
		return false
	}
	ref := newRef(n, headIncarnation(h))
	if v := t.servers.get(lb.ServerID(server >> 32)); v != nil && v.expels(headProto(h)) && t.end(ref, now, onExpel) {
		return true
	}
	when := uint32(server) + uint32(timer)
	if when <= now {
		return t.end(ref, now, onTime)
	}
	if n%shedShare == phase && t.shed(ref, now) {
		return true
	}
	if seen <= now && t.mem.due[n].CompareAndSwap(seen, when) {
		t.mem.due.lower(n, uint32(server)+uint32(e[wTimer].Load()))
	}
	return false
}
