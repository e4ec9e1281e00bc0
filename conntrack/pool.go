package conntrack

import (
	"sync"
	"sync/atomic"
)

// poolShards spreads the workers' allocations; poolChunk is how many fresh entries a shard takes at once.
const (
	poolShards = 16
	poolChunk  = 64
)

// pool hands out entry numbers. Entries that were never used stay untouched memory; used ones come back in last-in-first-out order, while
// they are still in the cache. Only who inserts and who deletes takes a shard's lock, and never two at once.
type pool struct {
	entries []entry
	fresh   atomic.Uint32 // entries from here on were never used
	shards  [poolShards]poolShard
}

type poolShard struct {
	mu        sync.Mutex
	free      uint32    // the first of the list through wClientHi, or 0
	next, end uint32    // the rest of the chunk
	_         [108]byte // a shard is a pair of cache lines of its own
}

func newPool(entries []entry) *pool {
	p := &pool{entries: entries}
	p.fresh.Store(1) // number 0 is none
	return p
}

// take returns a free entry's number, 0 when there is none. near picks the shard to try first.
func (p *pool) take(near uint64) uint32 {
	for i := range uint64(poolShards) {
		if n := p.takeFrom(&p.shards[(near+i)%poolShards]); n != 0 {
			return n
		}
	}
	return 0
}

func (p *pool) takeFrom(s *poolShard) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.free
	switch {
	case n != 0:
		s.free = uint32(p.entries[n][wClientHi].Load())
	case s.next != s.end || p.chunk(s):
		n = s.next
		s.next++
	default:
		return 0
	}
	return n
}

// chunk gives s another run of fresh entries.
func (p *pool) chunk(s *poolShard) bool {
	for {
		from := p.fresh.Load()
		to := min(uint64(from)+poolChunk, uint64(len(p.entries)))
		if uint64(from) == to {
			return false
		}
		if p.fresh.CompareAndSwap(from, uint32(to)) {
			s.next, s.end = from, uint32(to)
			return true
		}
	}
}

// give takes back n, which nothing names any more.
func (p *pool) give(n uint32, near uint64) {
	s := &p.shards[near%poolShards]
	s.mu.Lock()
	p.entries[n][wClientHi].Store(uint64(s.free))
	s.free = n
	s.mu.Unlock()
}
