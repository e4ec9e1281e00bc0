package sched

func init() {
	register(kind{name: "fo", new: func(flags) Scheduler { return new(fo) }})
}

// fo (fail over) takes the server with the highest weight, all connections, until it is removed, quiesced or full (kernel ip_vs_fo.c).
type fo struct{ open }

func (s *fo) Pick(*Request) *Server {
	highest, weight := none, int64(0)
	for i := range s.servers {
		if c := &s.servers[i]; c.weight > weight && !c.load.Overloaded.Load() {
			highest, weight = i, c.weight
		}
	}
	return s.at(highest)
}
