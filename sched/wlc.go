package sched

func init() {
	register(kind{name: "wlc", traits: traits{shares: true, counts: true}, new: func(flags) Scheduler { return new(wlc) }})
}

// wlc takes the server with the fewest connections for its weight (kernel ip_vs_wlc.c).
type wlc struct{ open }

func (s *wlc) Pick(*Request) *Server { return s.at(s.leastLoaded()) }
