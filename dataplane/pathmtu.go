package dataplane

import (
	"maps"
	"sync"
	"sync/atomic"

	"weir/lb"
)

const (
	// mtuLifetime is how many seconds a learnt path MTU is believed: net.ipv4.route.mtu_expires.
	mtuLifetime = 600
	// mtuRefresh is how many seconds pass before the same MTU, learnt again, is written down again.
	mtuRefresh = 60
	// maxPaths bounds the servers that an MTU is kept for.
	maxPaths = 4096
	// leastMTU4 is the least that is believed and told, so that nobody makes weir cut everything small by forging an error
	// (net.ipv4.route.min_pmtu); over IPv6 every link carries 1,280 bytes (RFC 8200 section 5).
	leastMTU4 = 552
	leastMTU6 = 1280
)

func leastMTU(is6 bool) int {
	if is6 {
		return leastMTU6
	}
	return leastMTU4
}

// pathMTU is what the network said about the way to a server.
type pathMTU struct {
	mtu   int    // bytes of IP packet
	until uint32 // coarse second
}

// pathMTUs are the MTUs of the ways to TUN servers as ICMP errors told them, where they are smaller than what the routes say. Readers
// take no lock: what they read is never changed, but replaced.
type pathMTUs struct {
	mu     sync.Mutex
	learnt atomic.Pointer[map[lb.Addr]pathMTU] // nil: nothing
}

// get returns the MTU learnt for the way to addr, 0 for none.
func (m *pathMTUs) get(addr lb.Addr, now uint32) int {
	learnt := m.learnt.Load()
	if learnt == nil {
		return 0
	}
	if p, ok := (*learnt)[addr]; ok && now < p.until {
		return p.mtu
	}
	return 0
}

// learn takes an MTU for the way to addr, and returns as much of it as is believed. A larger one than is known does not count before
// that has expired.
func (m *pathMTUs) learn(addr lb.Addr, mtu int, now uint32) int {
	mtu = max(mtu, leastMTU(!addr.Is4()))
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.learnt.Load()
	next := map[lb.Addr]pathMTU{}
	if old != nil {
		if p, ok := (*old)[addr]; ok && now < p.until && (p.mtu < mtu || p.mtu == mtu && now+mtuLifetime < p.until+mtuRefresh) {
			return p.mtu
		}
		next = maps.Clone(*old)
	}
	maps.DeleteFunc(next, func(_ lb.Addr, p pathMTU) bool { return now >= p.until })
	if _, known := next[addr]; !known && len(next) >= maxPaths {
		return mtu
	}
	next[addr] = pathMTU{mtu, now + mtuLifetime}
	m.learnt.Store(&next)
	return mtu
}

// PathMTUs returns the MTUs that the network has told for the ways to TUN servers, in bytes of IP packet. They are believed for ten
// minutes, as the kernel does.
func (s *Shared) PathMTUs() map[lb.Addr]int {
	list := map[lb.Addr]int{}
	if learnt := s.mtus.learnt.Load(); learnt != nil {
		now := s.clock()
		for addr, p := range *learnt {
			if now < p.until {
				list[addr] = p.mtu
			}
		}
	}
	return list
}
