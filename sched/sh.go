package sched

func init() {
	register(kind{
		name:   "sh",
		flags:  [3]string{"sh-fallback", "sh-port"},
		traits: traits{shares: true, hashes: true, slots: 1 << tableBits, runs: true},
		new:    func(f flags) Scheduler { return &sh{fallback: f[0], port: f[1]} },
	})
}

// sh hashes the client's address into 256 buckets, of which each server has a run as long as its weight (kernel ip_vs_sh.c).
type sh struct {
	fallback bool // when the server takes no connections, go on to other buckets
	port     bool // hash the client's port too
	buckets  [1 << tableBits]*Server
}

// Update gives out the buckets in list order, over and over. A server of weight 0 has one bucket in a round.
func (s *sh) Update(l *List) {
	if len(l.Servers) == 0 {
		clear(s.buckets[:])
		return
	}
	at, run := 0, int32(0)
	for i := range s.buckets {
		c := l.Servers[at]
		s.buckets[i] = c
		if run++; run >= c.Weight {
			at, run = (at+1)%len(l.Servers), 0
		}
	}
}

func (s *sh) Pick(r *Request) *Server {
	start := bucketOf(clientHash(&r.Flow, s.port))
	c := s.buckets[start]
	if c == nil || takes(c) {
		return c
	}
	if !s.fallback {
		return nil
	}
	// IPVS walks all buckets, the bucket's own number being the first offset.
	for i := range s.buckets {
		if c := s.buckets[start+start+uint8(i)]; takes(c) {
			return c
		}
	}
	return nil
}
