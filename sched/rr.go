package sched

func init() {
	register(kind{name: "rr", new: func(flags) Scheduler { return &rr{at: head} }})
}

// head is the place in front of a list's first server, where a cursor stands that has not chosen yet.
const head = -1

// rr takes the servers in turn, whatever their weights, if they have one (kernel ip_vs_rr.c).
type rr struct {
	servers []*Server
	at      int // the server chosen last, or head
}

// Update keeps the cursor on its server. When that is gone the cursor steps back to the nearest one left.
func (s *rr) Update(l *List) {
	at := head
	walkKept(s.servers, l.Servers, func(i, j int) bool {
		if i <= s.at {
			at = j
		}
		return at == head
	})
	s.servers, s.at = l.Servers, at
}

func (s *rr) Pick(*Request) *Server {
	i := s.at
	for range s.servers {
		if i++; i == len(s.servers) {
			i = 0
		}
		if c := s.servers[i]; c.Weight > 0 && !c.Load.Overloaded.Load() {
			s.at = i
			return c
		}
	}
	return nil
}

// walkKept calls f with the places in both lists of the servers that are in both, from the tail to the head, until f returns
// false. It relies on List's order: what two lists share stands in the same order at the end of the newer one.
func walkKept(old, now []*Server, f func(i, j int) bool) {
	j := len(now) - 1
	for i := len(old) - 1; i >= 0 && j >= 0; i-- {
		if old[i].Serial != now[j].Serial {
			continue
		}
		if !f(i, j) {
			return
		}
		j--
	}
}
