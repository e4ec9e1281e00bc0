package sched

func init() {
	register(kind{name: "lblcr", traits: traits{counts: true}, new: func(flags) Scheduler {
		return &lblcr{newCache(4)}
	}})
}

// lblcr (lblc with replication) remembers a set of servers for each destination address and takes the least loaded of it; when
// that is busy while another server is idle, wlc's choice joins the set. A set that has not changed for a day loses its
// busiest server (kernel ip_vs_lblcr.c).
type lblcr struct{ cache }

func (s *lblcr) Pick(r *Request) *Server {
	i := s.find(r.Flow.Dst, r.Now)
	if i != 0 {
		e := &s.entries[i]
		best := s.setLeast(e)
		if e.size > 1 && r.Now-e.lastMod > cacheExpiry {
			if i := s.setMost(e); i != 0 {
				s.erase(e, i)
				e.lastMod = r.Now
			}
		}
		if best != nil && !s.relieved(best) {
			return best
		}
	}
	least := s.leastLoaded()
	if least == none {
		return nil
	}
	if i == 0 {
		i = s.add(r.Flow.Dst, r.Now)
	}
	s.insert(&s.entries[i], least, r.Now)
	return s.at(least)
}

// setLeast returns the server of e's set that wlc would take, of those that take connections, or nil.
func (s *lblcr) setLeast(e *cacheEntry) *Server {
	var least *Server
	var lowest int64
	for i := e.set; i != 0; i = s.elems[i].next {
		m := &s.members[s.elems[i].member]
		if !m.listed || !takes(m.server) {
			continue
		}
		if h := overhead(m.server.Load); least == nil || lowest*int64(m.server.Weight) > h*int64(least.Weight) {
			least, lowest = m.server, h
		}
	}
	return least
}

// setMost returns the elem of e's set with the most connections for its weight, removed servers included, or 0.
func (s *lblcr) setMost(e *cacheEntry) int32 {
	most, highest, weight := int32(0), int64(0), int64(0)
	for i := e.set; i != 0; i = s.elems[i].next {
		c := s.members[s.elems[i].member].server
		if c.Weight <= 0 {
			continue
		}
		if h := overhead(c.Load); most == 0 || highest*int64(c.Weight) < h*weight {
			most, highest, weight = i, h, int64(c.Weight)
		}
	}
	return most
}
