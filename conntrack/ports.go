package conntrack

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"

	"weir/lb"
)

// ports hands out the local ports of FULLNAT. A port is taken per (LIP, RIP, server port, protocol): what makes the server's
// answers one connection's own; so each server can have a whole range per LIP. Only workers take its locks.
type ports struct {
	first, last uint16
	locals      atomic.Pointer[locals]
	spread      atomic.Uint32 // turns which LIP is tried first
	shards      [16]portShard
}

// locals is the LIPs by index. Immutable. An index keeps its address for ever; in use are those of the list that was set last.
type locals struct {
	addrs []lb.Addr
	use   []uint16
}

type portKey struct {
	rip   lb.Addr
	rport uint16
	local uint16
	proto lb.Proto
}

type portShard struct {
	mu    sync.Mutex
	pools map[portKey]*portPool
	_     [48]byte
}

// portPool is one key's ports, a bit each, made with the key's first connection.
type portPool struct {
	cursor uint16            // where the next search starts: a port that was given back comes again as late as possible
	used   int               // how many are taken
	words  [1024]uint64      // bit set: taken, or outside the range
	full   [1024 / 64]uint64 // bit set: that word has no free bit
}

func newPorts(first, last uint16) *ports {
	p := &ports{first: first, last: last}
	p.locals.Store(&locals{})
	for i := range p.shards {
		p.shards[i].pools = map[portKey]*portPool{}
	}
	return p
}

// set makes addrs the LIPs that new connections use. One caller at a time.
func (p *ports) set(addrs []lb.Addr) error {
	old := p.locals.Load()
	l := &locals{addrs: slices.Clone(old.addrs)}
	for _, a := range addrs {
		i := slices.Index(l.addrs, a)
		if i < 0 {
			i = len(l.addrs)
			l.addrs = append(l.addrs, a)
		}
		if i > 0xffff {
			return fmt.Errorf("local address %s: more than 65,536 were ever used", a)
		}
		if !slices.Contains(l.use, uint16(i)) {
			l.use = append(l.use, uint16(i))
		}
	}
	p.locals.Store(l)
	return nil
}

// addr returns the LIP of an index, the zero Addr for one that was never given out.
func (p *ports) addr(index uint16) lb.Addr {
	if l := p.locals.Load(); int(index) < len(l.addrs) {
		return l.addrs[index]
	}
	return lb.Addr{}
}

// take fills c's local address and port with a pair that is free towards c's server; false: none is left.
func (p *ports) take(c *Conn) bool {
	l := p.locals.Load()
	if len(l.use) == 0 {
		return false
	}
	from := int(p.spread.Add(1)) % len(l.use)
	for i := range l.use {
		index := l.use[(from+i)%len(l.use)]
		if l.addrs[index].Is4() != c.Server.Is4() {
			continue
		}
		if port := p.takeAt(portKey{c.Server, c.ServerPort, index, c.Proto}); port != 0 {
			c.Local, c.LocalIndex, c.LocalPort = l.addrs[index], index, port
			return true
		}
	}
	return false
}

func (p *ports) takeAt(k portKey) uint16 {
	s := p.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	pool := s.pools[k]
	if pool == nil {
		pool = newPortPool(p.first, p.last)
		s.pools[k] = pool
	}
	return pool.take()
}

// give takes c's local port back.
func (p *ports) give(c *Conn) {
	k := portKey{c.Server, c.ServerPort, c.LocalIndex, c.Proto}
	s := p.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	pool := s.pools[k]
	pool.give(c.LocalPort)
	if pool.used == 0 && len(s.pools) > portPoolsKept {
		delete(s.pools, k)
	}
}

// portPoolsKept is how many pools (8 KiB each) a shard keeps before it drops those without a connection: dropping
// one forgets the cursor, and the ports start again at a random place.
const portPoolsKept = 64

func (p *ports) shard(k portKey) *portShard {
	h := fold(k.rip.Lo^k.rip.Hi^0x9e3779b97f4a7c15, uint64(k.rport)<<32|uint64(k.local)<<16|uint64(k.proto)|1<<63)
	return &p.shards[h%uint64(len(p.shards))]
}

// newPortPool begins at a random port: after a restart, servers still hold connections of the life before, and a port that they
// know would meet one of them.
func newPortPool(first, last uint16) *portPool {
	pool := &portPool{cursor: first + uint16(rand.Uint32N(uint32(last-first)+1))}
	for w := range pool.words {
		low, high := w*64, w*64+63
		if high < int(first) || low > int(last) {
			pool.words[w] = ^uint64(0)
			pool.full[w/64] |= 1 << (w % 64)
			continue
		}
		for port := low; port < int(first); port++ {
			pool.set(uint16(port))
		}
		for port := high; port > int(last); port-- {
			pool.set(uint16(port))
		}
	}
	return pool
}

func (pool *portPool) set(port uint16) {
	w := port / 64
	pool.words[w] |= 1 << (port % 64)
	if pool.words[w] == ^uint64(0) {
		pool.full[w/64] |= 1 << (w % 64)
	}
}

// take returns the first free port from the cursor on, going round once; 0 when there is none. It looks at 18 words at most.
func (pool *portPool) take() uint16 {
	w := int(pool.cursor / 64)
	free := ^pool.words[w] &^ (1<<(pool.cursor%64) - 1)
	if free == 0 {
		if w = pool.wordAfter(w); w < 0 {
			return 0
		}
		free = ^pool.words[w]
	}
	port := uint16(w*64 + bits.TrailingZeros64(free))
	pool.set(port)
	pool.used++
	pool.cursor = port + 1
	return port
}

// wordAfter returns the next word after w, or at last w itself, that has a free bit; -1: none has.
func (pool *portPool) wordAfter(w int) int {
	at := (w + 1) % len(pool.words)
	i := at / 64
	open := ^pool.full[i] &^ (1<<(at%64) - 1)
	for range len(pool.full) {
		if open != 0 {
			return i*64 + bits.TrailingZeros64(open)
		}
		i = (i + 1) % len(pool.full)
		open = ^pool.full[i]
	}
	if open != 0 {
		return i*64 + bits.TrailingZeros64(open)
	}
	return -1
}

func (pool *portPool) give(port uint16) {
	w := port / 64
	pool.words[w] &^= 1 << (port % 64)
	pool.full[w/64] &^= 1 << (w % 64)
	pool.used--
}
