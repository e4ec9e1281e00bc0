package sched

func init() {
	register(kind{name: "dh", traits: traits{hashes: true}, new: func(flags) Scheduler { return new(dh) }})
}

// dh hashes the destination address into 256 buckets that the servers have in turn, whatever their weights: for caches behind a
// mark that covers many destinations (kernel ip_vs_dh.c).
type dh struct{ buckets [1 << tableBits]*Server }

func (s *dh) Update(l *List) {
	clear(s.buckets[:])
	for i := range s.buckets {
		if n := len(l.Servers); n > 0 {
			s.buckets[i] = l.Servers[i%n]
		}
	}
}

func (s *dh) Pick(r *Request) *Server {
	if c := s.buckets[bucketOf(fold(r.Flow.Dst))]; c != nil && takes(c) {
		return c
	}
	return nil
}
