package sched

import "weir/lb"

// open holds the servers that have weight, laid side by side for the schedulers that look at every server for a pick.
// It is embedded by them and is their Update.
type open struct{ servers []candidate }

// none is the place of no candidate.
const none = -1

// candidate is 16 bytes plus the way back to the server: 1,000 of them and their loads fit a second-level cache.
type candidate struct {
	load   *lb.Load
	weight int64
	server *Server
}

func (o *open) Update(l *List) {
	clear(o.servers)
	o.servers = o.servers[:0]
	for _, c := range l.Servers {
		if c.Weight > 0 {
			o.servers = append(o.servers, candidate{load: c.Load, weight: int64(c.Weight), server: c})
		}
	}
}

// overhead is how IPVS weighs connections: an active one counts as 256 inactive (kernel ip_vs_dest_conn_overhead).
func overhead(l *lb.Load) int64 {
	return int64(l.Active.Load())<<8 + int64(l.Inactive.Load())
}

// leastLoaded returns the place of the candidate with the smallest overhead for its weight, of level ones the first, or none.
// h1*w2 > h2*w1 stands for h1/w1 > h2/w2.
func (o *open) leastLoaded() int {
	least, lowest, weight := none, int64(1), int64(0) // what every candidate beats
	for i := range o.servers {
		c := &o.servers[i]
		if h := overhead(c.load); lowest*c.weight > h*weight && !c.load.Overloaded.Load() {
			least, lowest, weight = i, h, c.weight
		}
	}
	return least
}

// at returns the server at place i, nil for none.
func (o *open) at(i int) *Server {
	if i == none {
		return nil
	}
	return o.servers[i].server
}
