package sched

func init() {
	register(kind{name: "ovf", traits: traits{counts: true}, new: func(flags) Scheduler { return new(ovf) }})
}

// ovf (overflow) takes the server with the highest weight until it has more active connections than that, then the next. The
// comparison is IPVS's, so a server of weight 5 takes 6 (kernel ip_vs_ovf.c).
type ovf struct{ open }

func (s *ovf) Pick(*Request) *Server {
	highest, weight := none, int64(0)
	for i := range s.servers {
		c := &s.servers[i]
		if c.weight > weight && int64(c.load.Active.Load()) <= c.weight && !c.load.Overloaded.Load() {
			highest, weight = i, c.weight
		}
	}
	return s.at(highest)
}
