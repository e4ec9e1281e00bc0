package main

import "weir/dataplane/afxdp"

// watch is what was last seen of the queues.
type watch struct {
	down    map[*afxdp.Queue]bool // nil before the first look
	unheard uint64                // frames for services on receive queues that have no worker
}

// watchQueues says when a queue cannot transmit any more and when it can again, and when frames arrive on queues that came after
// the start. Called once a second.
func (d *director) watchQueues() {
	first := d.watch.down == nil
	if first {
		d.watch.down = map[*afxdp.Queue]bool{}
	}
	for i, queues := range d.queues {
		for n, q := range queues {
			why := q.Down()
			switch was := d.watch.down[q]; {
			case why != nil && !was:
				d.log.Warn("queue is down: what it should transmit is dropped", "interface", d.ifaces[i].Name, "queue", n, "error", why)
			case why == nil && was:
				d.log.Info("queue is up again", "interface", d.ifaces[i].Name, "queue", n)
			}
			d.watch.down[q] = why != nil
		}
	}
	counters, err := d.steer.Counters()
	if err != nil {
		d.log.Debug("steer's counters", "error", err)
		return
	}
	for _, c := range counters {
		if c.Name != "pass_no_socket" || c.Value == d.watch.unheard {
			continue
		}
		if !first { // until the sockets were there, all went to the kernel
			d.log.Warn("frames for services came by receive queues without a worker and went to the kernel: were queues added? restart weir",
				"frames", c.Value-d.watch.unheard)
		}
		d.watch.unheard = c.Value
	}
}
