package sched

import "math"

func init() {
	register(kind{name: "lc", traits: traits{counts: true}, new: func(flags) Scheduler { return new(lc) }})
}

// lc takes the server with the fewest connections, whatever its weight, if it has one (kernel ip_vs_lc.c).
type lc struct{ open }

func (s *lc) Pick(*Request) *Server {
	least, lowest := none, int64(math.MaxInt64)
	for i := range s.servers {
		c := &s.servers[i]
		if h := overhead(c.load); h < lowest && !c.load.Overloaded.Load() {
			least, lowest = i, h
		}
	}
	return s.at(least)
}
