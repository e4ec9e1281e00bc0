package dataplane

import (
	"sync/atomic"

	"weir/dataplane/reason"
)

// Counters are one worker's, or several workers' added up. All count packets but the last few.
type Counters struct {
	Received    uint64 // taken from the queues
	ToServer    uint64 // handed to a queue on their way to a server
	ToClient    uint64 // handed to a queue on their way back to a client
	ToHost      uint64 // given to the kernel by the host path
	Answered    uint64 // answered with an ICMP error by weir itself
	BytesIn     uint64 // of IP packets, towards servers, as received
	BytesOut    uint64 // of IP packets, towards clients, as received
	Connections uint64 // opened
	Expired     uint64 // ended
	Batches     uint64 // Recv calls that returned something

	// Reasons counts packets that were not forwarded, by why. Those whose reason goes to the kernel count here and in ToHost.
	Reasons [reason.Count]uint64
}

// counterWords is the number of counters as an array; Counters has nothing but uint64.
const counterWords = 10 + int(reason.Count)

// words lists the counters in the order of the struct.
func (c *Counters) words() [counterWords]*uint64 {
	w := [counterWords]*uint64{&c.Received, &c.ToServer, &c.ToClient, &c.ToHost, &c.Answered, &c.BytesIn, &c.BytesOut,
		&c.Connections, &c.Expired, &c.Batches}
	for i := range c.Reasons {
		w[counterWords-len(c.Reasons)+i] = &c.Reasons[i]
	}
	return w
}

// Add adds o to c.
func (c *Counters) Add(o Counters) {
	from, to := o.words(), c.words()
	for i := range to {
		*to[i] += *from[i]
	}
}

// Sub takes o, an earlier state of the same counters, away.
func (c *Counters) Sub(o Counters) {
	from, to := o.words(), c.words()
	for i := range to {
		*to[i] -= *from[i]
	}
}

// shared is where a worker shows its counters. The worker counts in memory of its own and stores what changed once per
// batch, so that a reader costs it nothing and an idle counter's cache line stays where it is.
type shared struct {
	shown [counterWords]atomic.Uint64
	_     [64]byte // keep the next worker's memory off the last line
}

func (s *shared) show(c *Counters) {
	for i, v := range c.words() {
		if s.shown[i].Load() != *v {
			s.shown[i].Store(*v)
		}
	}
}

func (s *shared) read() (c Counters) {
	for i, v := range c.words() {
		*v = s.shown[i].Load()
	}
	return c
}

// Stop is a reason with how many packets it stopped.
type Stop struct {
	Reason reason.Reason
	Count  uint64
}

// Stops returns the reasons that stopped packets, in the order of their numbers.
func (c *Counters) Stops() []Stop {
	var list []Stop
	for r, n := range c.Reasons {
		if n > 0 {
			list = append(list, Stop{reason.Reason(r), n})
		}
	}
	return list
}
