package sched

func init() {
	register(kind{name: "wrr", traits: traits{shares: true}, new: func(flags) Scheduler { return &wrr{at: head} }})
}

// wrr goes round the servers with a bar that they must reach: it starts at the largest weight and falls by the weights'
// greatest common divisor with every round, so that each server is taken as often as its weight says and the light
// ones come between the heavy ones (kernel ip_vs_wrr.c).
type wrr struct {
	servers []*Server
	begun   bool // the first list has come
	at      int  // the server chosen last, or head
	bar     int  // the weight a server needs in this round (kernel: cw); 0 while no server has weight
	top     int  // the first round's bar (mw): the largest weight less step-1, so that the last round's is 1; 0: no server has weight
	step    int  // the weights' greatest common divisor (di)
}

// Update fits the bar to the new weights and sends the cursor to the head, as IPVS does at every change. All that was removed
// is one step, then all that was added, then all edits: for the first two that comes to the same bar as one by one, because
// the common divisor only grows or only shrinks on the way.
func (s *wrr) Update(l *List) {
	old := s.servers
	s.servers = l.Servers
	if !s.begun {
		s.begun = true
		s.fit(weigh(l.Servers))
		return
	}
	kept, edited := 0, false
	added := len(l.Servers)
	var w weights // of the kept servers, as they were
	walkKept(old, l.Servers, func(i, j int) bool {
		kept++
		added = j
		w.take(old[i])
		edited = edited || old[i] != l.Servers[j]
		return true
	})
	if kept < len(old) {
		s.fit(w)
	}
	if added > 0 {
		for _, c := range l.Servers[:added] {
			w.take(c)
		}
		if s.bar == 0 {
			s.bar = 1 // the only bar of the first server while it was alone, and kept when others joined it
		}
		s.fit(w)
	}
	if edited {
		s.fit(weigh(l.Servers))
	}
}

// fit is the kernel's ip_vs_wrr_dest_changed.
func (s *wrr) fit(w weights) {
	s.at = head
	s.step = max(w.divisor, 1)
	s.top = w.largest - (s.step - 1)
	switch {
	case s.bar == 0 || s.bar > s.top:
		s.bar = s.top
	case s.step > 1:
		s.bar = s.bar/s.step*s.step + 1
	}
}

func (s *wrr) Pick(*Request) *Server {
	if s.top == 0 {
		return nil
	}
	if i := s.reaching(s.at + 1); i != head {
		s.at = i
		return s.servers[i]
	}
	largest := s.largestOpen()
	if largest == head {
		s.giveUp()
		return nil
	}
	// IPVS takes the bar down a step a round until a server reaches it; rounds that find nobody are not walked here.
	if s.bar -= s.step; s.bar <= 0 {
		s.bar = s.top
	}
	if over := s.bar - int(s.servers[largest].Weight); over > 0 {
		s.bar -= (over + s.step - 1) / s.step * s.step
	}
	s.at = s.reaching(0)
	if s.at == head { // who reached the bar has filled up meanwhile, by a connection of another service
		s.at = largest
	}
	return s.servers[s.at]
}

// giveUp leaves the state as the kernel does after all rounds have found nobody.
func (s *wrr) giveUp() {
	if s.at != head && s.bar <= s.step {
		s.bar = (s.top-1)%s.step + 1
		return
	}
	s.at, s.bar = head, s.top
}

// reaching returns the first server from place i on that reaches the bar, or head.
func (s *wrr) reaching(i int) int {
	for ; i < len(s.servers); i++ {
		if c := s.servers[i]; int(c.Weight) >= s.bar && !c.Load.Overloaded.Load() {
			return i
		}
	}
	return head
}

// largestOpen returns the server with the largest weight of those that take connections, or head.
func (s *wrr) largestOpen() int {
	best, weight := head, int32(0)
	for i, c := range s.servers {
		if c.Weight > weight && !c.Load.Overloaded.Load() {
			best, weight = i, c.Weight
		}
	}
	return best
}

// weights is what wrr and mh know of a set of weights; zeros don't count.
type weights struct{ largest, divisor int }

func weigh(servers []*Server) (w weights) {
	for _, c := range servers {
		w.take(c)
	}
	return w
}

func (w *weights) take(c *Server) { w.takeWeight(int(c.Weight)) }

func (w *weights) takeWeight(n int) {
	w.largest = max(w.largest, n)
	for n != 0 {
		w.divisor, n = n, w.divisor%n
	}
}
