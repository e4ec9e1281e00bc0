package bench

import (
	"sync"
	"testing"

	"weir/dataplane"
	"weir/lb"
)

// TestEveryPacketIsCounted sends 10,000,000 packets through two workers at once and finds every one of them, with its bytes, in
// the counters of the workers and of the servers.
func TestEveryPacketIsCounted(t *testing.T) {
	const flows, total = 4096, 10_000_000
	r := newRig(t, lb.NAT, flows, 2)
	frames := packets(flows)
	sent := make([]uint64, len(r.workers))
	var wg sync.WaitGroup
	for i, w := range r.workers {
		r.queues[i].Loop(frames)
		wg.Go(func() {
			for sent[i] < total/uint64(len(r.workers)) {
				taken, _ := w.Turn()
				sent[i] += uint64(taken)
			}
		})
	}
	wg.Wait()

	var all uint64
	var workers dataplane.Counters
	for i, w := range r.workers {
		all += sent[i]
		workers.Add(w.Counters())
	}
	if all < total || workers.Received != all || workers.ToServer != all {
		t.Errorf("%d packets taken: %d counted, %d to servers", all, workers.Received, workers.ToServer)
	}
	var servers dataplane.Traffic
	for _, id := range r.servers {
		servers.Add(r.shared.Traffic(id))
	}
	const size = 60 - 14 // bytes of IP packet
	if servers.InPackets != all || servers.InBytes != all*size || servers.Conns != flows || servers.OutPackets != 0 {
		t.Errorf("%d packets taken: the servers have %+v", all, servers)
	}
}
