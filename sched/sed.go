package sched

func init() {
	register(kind{name: "sed", traits: traits{shares: true, counts: true}, new: func(flags) Scheduler { return new(sed) }})
}

// sed takes the server on which the new connection would have the shortest expected delay: the fewest active connections
// for its weight, the new one counted in (kernel ip_vs_sed.c).
type sed struct{ open }

func (s *sed) Pick(*Request) *Server {
	least, lowest, weight := none, int64(1), int64(0) // what every candidate beats
	for i := range s.servers {
		c := &s.servers[i]
		if h := int64(c.load.Active.Load()) + 1; lowest*c.weight > h*weight && !c.load.Overloaded.Load() {
			least, lowest, weight = i, h, c.weight
		}
	}
	return s.at(least)
}
