package sched

func init() {
	register(kind{name: "lblc", traits: traits{counts: true, overload: true}, new: func(flags) Scheduler {
		return &lblc{newCache(1)}
	}})
}

// lblc (locality-based least connection) chooses as wlc does and sends a destination address to the same server from then on,
// until that is gone, quiesced, or busy while another is idle: for caches (kernel ip_vs_lblc.c). The server of a destination
// gets its connections even over its threshold.
type lblc struct{ cache }

func (s *lblc) Pick(r *Request) *Server {
	i := s.find(r.Flow.Dst, r.Now)
	if i != 0 {
		m := &s.members[s.elems[s.entries[i].set].member]
		if m.listed && m.server.Weight > 0 && !s.relieved(m.server) {
			return m.server
		}
	}
	least := s.leastLoaded()
	if least == none {
		return nil
	}
	if i == 0 {
		i = s.add(r.Flow.Dst, r.Now)
	} else if e := &s.entries[i]; s.elems[e.set].member != s.openMembers[least] {
		s.erase(e, e.set)
	}
	s.insert(&s.entries[i], least, r.Now)
	return s.at(least)
}
