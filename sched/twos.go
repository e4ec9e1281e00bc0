package sched

import "math/rand/v2"

func init() {
	register(kind{name: "twos", traits: traits{shares: true, counts: true, draws: true}, new: func(flags) Scheduler {
		return &twos{random: *rand.NewPCG(rand.Uint64(), rand.Uint64())}
	}})
}

// twos draws two servers by weight and takes the one with fewer connections for its weight: the power of two choices
// (Mitzenmacher 2001; kernel ip_vs_twos.c).
type twos struct {
	open
	random rand.PCG
}

func (s *twos) Pick(*Request) *Server {
	total := int64(0)
	for i := range s.servers {
		if c := &s.servers[i]; !c.load.Overloaded.Load() {
			total += c.weight
		}
	}
	if total == 0 {
		return nil
	}
	// IPVS draws from 0 to total inclusive and takes the first server at which what is left is not above 0: the
	// first server has one chance in total+1 more than its weight.
	first, second := s.draw(total+1), s.draw(total+1)
	one, two := none, none
	for i := range s.servers {
		c := &s.servers[i]
		if c.load.Overloaded.Load() {
			continue
		}
		if one == none {
			if first -= c.weight; first <= 0 {
				one = i
			}
		}
		if two == none {
			if second -= c.weight; second <= 0 {
				two = i
			}
		}
		if one != none && two != none {
			break
		}
	}
	// A server that filled up since the weights were added can leave a draw without its server.
	if one == none || two == none {
		return s.at(max(one, two))
	}
	a, b := &s.servers[one], &s.servers[two]
	if b.weight*overhead(a.load) > a.weight*overhead(b.load) {
		return b.server
	}
	return a.server
}

// draw returns a number from 0 to n-1.
func (s *twos) draw(n int64) int64 { return int64(s.random.Uint64() % uint64(n)) }
