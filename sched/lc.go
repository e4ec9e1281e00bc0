package sched

func init() {
	register(kind{name: "lc", traits: traits{counts: true}, new: func(flags) Scheduler { return new(lc) }})
}

// lc takes the server with the fewest connections, whatever its weight, if it has one (kernel ip_vs_lc.c).
type lc struct{ open }

func (s *lc) Pick(*Request) *Server {
	least, lowest := none, int64(0)
	for i := range s.servers {
		c := &s.servers[i]
		if c.load.Overloaded.Load() {
			continue
		}
		if h := overhead(c.load); least == none || h < lowest {
			least, lowest = i, h
		}
	}
	return s.at(least)
}
