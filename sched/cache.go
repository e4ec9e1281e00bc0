package sched

import (
	"slices"

	"weir/lb"
)

const (
	cacheBits    = 10              // buckets of lblc's and lblcr's tables (kernel CONFIG_IP_VS_LBLC_TAB_BITS)
	cacheEntries = 16 << cacheBits // destinations remembered at most (tbl->max_size)
	cacheExpiry  = 24 * 60 * 60    // seconds after which an unused destination is forgotten (lblc_expiration)
)

// cache remembers to which servers each destination address went: what lblc and lblcr add to wlc's choice. All memory for
// entries is there from the start, so a pick allocates nothing. Places 0 of entries and elems stand for none.
//
// A server is remembered by its address and port, not by its membership: one that is removed and added again finds its
// destinations, as in IPVS, where the cache keeps the removed server's object alive.
type cache struct {
	open
	openMembers []int32 // of each of open.servers, its place in members

	buckets   [1 << cacheBits]int32 // first entry
	entries   []cacheEntry
	freeEntry int32
	elems     []cacheElem
	freeElem  int32
	rover     uint32 // the bucket that is looked through for old entries next

	list    []*Server
	listed  []int32 // of each of list, its place in members
	members []member
	byAddr  map[serverAddr]int32 // places in members
	unused  []int32              // places in members that are free
}

// cacheEntry is a destination and its servers, the one that came last in front.
type cacheEntry struct {
	dst     lb.Addr
	next    int32  // in the bucket, or among the free ones
	set     int32  // first elem
	size    int32  // of the set
	lastUse uint32 // seconds
	lastMod uint32 // when a server came or went, seconds
}

// cacheElem is one server of an entry's set.
type cacheElem struct{ member, next int32 }

// member is a server that the service has or that an entry still names.
type member struct {
	server *Server // as it is, or was when it was removed
	listed bool    // it is in the current list (kernel IP_VS_DEST_F_AVAILABLE)
	refs   int32   // elems that name it
}

type serverAddr struct {
	addr lb.Addr
	port uint16
}

// newCache makes room for sets of setSize servers on average.
func newCache(setSize int) cache {
	c := cache{
		entries: make([]cacheEntry, cacheEntries+1),
		elems:   make([]cacheElem, cacheEntries*setSize+1),
		byAddr:  map[serverAddr]int32{},
	}
	for i := 1; i < cacheEntries; i++ {
		c.entries[i].next = int32(i + 1)
	}
	for i := 1; i < len(c.elems)-1; i++ {
		c.elems[i].next = int32(i + 1)
	}
	c.freeEntry, c.freeElem = 1, 1
	return c
}

func (c *cache) Update(l *List) {
	listed := make([]int32, len(l.Servers))
	for i := range listed {
		listed[i] = none
	}
	for _, m := range c.listed {
		c.members[m].listed = false
	}
	walkKept(c.list, l.Servers, func(i, j int) bool {
		listed[j] = c.listed[i]
		c.members[listed[j]].listed = true
		return true
	})
	for _, m := range c.listed {
		c.release(m)
	}
	for i, s := range l.Servers {
		if listed[i] == none {
			listed[i] = c.memberFor(serverAddr{s.Addr, s.Port})
		}
		m := &c.members[listed[i]]
		m.server, m.listed = s, true
	}
	c.list, c.listed = l.Servers, listed
	c.open.Update(l)
	c.openMembers = c.openMembers[:0]
	for i, s := range l.Servers {
		if s.Weight > 0 {
			c.openMembers = append(c.openMembers, listed[i])
		}
	}
}

func (c *cache) memberFor(a serverAddr) int32 {
	if m, ok := c.byAddr[a]; ok {
		return m
	}
	if len(c.unused) == 0 {
		c.unused = append(c.unused, int32(len(c.members)))
		c.members = append(c.members, member{})
		// release appends without growing: there is room for every member.
		c.unused = slices.Grow(c.unused, len(c.members))
	}
	m := c.unused[len(c.unused)-1]
	c.unused = c.unused[:len(c.unused)-1]
	c.byAddr[a] = m
	return m
}

// release forgets a member that is neither in the list nor named by an entry.
func (c *cache) release(m int32) {
	if v := &c.members[m]; !v.listed && v.refs == 0 && v.server != nil {
		delete(c.byAddr, serverAddr{v.server.Addr, v.server.Port})
		v.server = nil
		c.unused = append(c.unused, m)
	}
}

// bucket is the kernel's ip_vs_lblc_hashkey.
func (c *cache) bucket(dst lb.Addr) uint32 { return fold(dst) * 0x61C88647 >> (32 - cacheBits) }

// find returns the entry of dst, now used, or 0.
func (c *cache) find(dst lb.Addr, now uint32) int32 {
	for i := c.buckets[c.bucket(dst)]; i != 0; i = c.entries[i].next {
		if e := &c.entries[i]; e.dst == dst {
			if now-e.lastUse >= cacheExpiry {
				c.forget(c.bucket(dst), i)
				return 0
			}
			e.lastUse = now
			return i
		}
	}
	return 0
}

// add makes the entry of dst, which has none, and forgets old ones. A full table forgets the one unused for longest
// of some bucket.
func (c *cache) add(dst lb.Addr, now uint32) int32 {
	c.rover = (c.rover + 1) % uint32(len(c.buckets))
	c.expire(c.rover, now)
	for c.freeEntry == 0 {
		if i := c.oldest(c.rover); i != 0 {
			c.forget(c.rover, i)
			break
		}
		c.rover = (c.rover + 1) % uint32(len(c.buckets))
	}
	i := c.freeEntry
	c.freeEntry = c.entries[i].next
	b := c.bucket(dst)
	c.entries[i] = cacheEntry{dst: dst, next: c.buckets[b], lastUse: now, lastMod: now}
	c.buckets[b] = i
	return i
}

// expire forgets the entries of bucket b that were not used for a day.
func (c *cache) expire(b, now uint32) {
	for i := c.buckets[b]; i != 0; {
		next := c.entries[i].next
		if now-c.entries[i].lastUse >= cacheExpiry {
			c.forget(b, i)
		}
		i = next
	}
}

// oldest returns the entry of bucket b that was used last of all, or 0.
func (c *cache) oldest(b uint32) int32 {
	old := c.buckets[b]
	for i := old; i != 0; i = c.entries[i].next {
		if c.entries[i].lastUse < c.entries[old].lastUse {
			old = i
		}
	}
	return old
}

// forget takes entry i out of bucket b.
func (c *cache) forget(b uint32, i int32) {
	at := &c.buckets[b]
	for *at != i {
		at = &c.entries[*at].next
	}
	e := &c.entries[i]
	*at = e.next
	for e.set != 0 {
		c.erase(e, e.set)
	}
	e.next = c.freeEntry
	c.freeEntry = i
}

// insert puts the server at place at of open.servers in front of e's set, unless it is in it. Without room for it the set stays.
func (c *cache) insert(e *cacheEntry, at int, now uint32) {
	m := c.openMembers[at]
	for i := e.set; i != 0; i = c.elems[i].next {
		if c.elems[i].member == m {
			return
		}
	}
	i := c.freeElem
	if i == 0 {
		return
	}
	c.freeElem = c.elems[i].next
	c.elems[i] = cacheElem{member: m, next: e.set}
	c.members[m].refs++
	e.set = i
	e.size++
	e.lastMod = now
}

// erase takes elem i out of e's set.
func (c *cache) erase(e *cacheEntry, i int32) {
	at := &e.set
	for *at != i {
		at = &c.elems[*at].next
	}
	m := c.elems[i].member
	*at = c.elems[i].next
	e.size--
	c.elems[i].next = c.freeElem
	c.freeElem = i
	c.members[m].refs--
	c.release(m)
}

// relieved reports whether s has more active connections than its weight while some server has fewer than half (kernel is_overloaded).
func (c *cache) relieved(s *Server) bool {
	if s.Load.Active.Load() <= s.Weight {
		return false
	}
	for i := range c.servers {
		if d := &c.servers[i]; int64(d.load.Active.Load())*2 < d.weight {
			return true
		}
	}
	return false
}
