package sched

func init() {
	register(kind{name: "nq", traits: traits{counts: true}, new: func(flags) Scheduler { return new(nq) }})
}

// nq (never queue) takes the first idle server, and without one goes by sed's rule (kernel ip_vs_nq.c).
type nq struct{ open }

func (s *nq) Pick(*Request) *Server {
	least, lowest, weight := none, int64(1), int64(0) // what every candidate beats
	for i := range s.servers {
		c := &s.servers[i]
		h := int64(c.load.Active.Load()) + 1
		if (h == 1 || lowest*c.weight > h*weight) && !c.load.Overloaded.Load() {
			if h == 1 {
				return c.server
			}
			least, lowest, weight = i, h, c.weight
		}
	}
	return s.at(least)
}
