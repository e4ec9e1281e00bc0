package sched

func init() {
	register(kind{name: "nq", traits: traits{counts: true}, new: func(flags) Scheduler { return new(nq) }})
}

// nq (never queue) takes the first idle server, and without one goes by sed's rule (kernel ip_vs_nq.c).
type nq struct{ open }

func (s *nq) Pick(*Request) *Server {
	least, lowest, weight := none, int64(0), int64(0)
	for i := range s.servers {
		c := &s.servers[i]
		if c.load.Overloaded.Load() {
			continue
		}
		h := int64(c.load.Active.Load()) + 1
		if h == 1 {
			return c.server
		}
		if least == none || lowest*c.weight > h*weight {
			least, lowest, weight = i, h, c.weight
		}
	}
	return s.at(least)
}
