package dataplane

import (
	"time"

	"weir/conntrack"
	"weir/dataplane/packet"
	"weir/dataplane/reason"
	"weir/lb"
)

// tap is a worker's part in a capture. It is there only while one is under way, and then stands between the worker and its queues.
type tap struct {
	capture *Capture
	ring    *ring
	armed   bool   // the packet at hand may be wanted: what is sent for its sake is noted
	first   uint64 // its record's place, unless it is missed
	missed  bool   // it did not fit
	lost    []uint32

	// Of the packet at hand; here, since the filter's methods would make the garbage collector's of a variable.
	flow  lb.Flow
	quote packet.Packet
	conn  conntrack.Conn
}

// takePart has the worker take part in capture c, or in none (nil).
func (w *Worker) takePart(c *Capture) {
	for i := range w.queues {
		if q, ok := w.queues[i].Queue.(*tappedQueue); ok {
			w.queues[i].Queue = q.Queue
		}
	}
	w.tap, w.captured = nil, c
	if c != nil && w.index < len(c.rings) {
		w.tap = &tap{capture: c, ring: c.rings[w.index], lost: make([]uint32, len(c.lost))}
		for i := range w.queues {
			q := &w.queues[i]
			q.Queue = &tappedQueue{Queue: q.Queue, tap: w.tap, iface: q.Iface}
		}
	}
	clear(w.out)
	for _, q := range w.queues {
		if w.out[q.Iface] == nil {
			w.out[q.Iface] = q.Queue
		}
	}
}

// tappedQueue notes what is sent.
type tappedQueue struct {
	Queue
	tap   *tap
	iface int
}

// Send implements Queue.
func (q *tappedQueue) Send(f *Frame) bool {
	if !q.tap.armed {
		return q.Queue.Send(f)
	}
	position, fits := q.tap.put(q.iface, true, f.Packet())
	ok := q.Queue.Send(f)
	if !ok && fits {
		q.tap.ring.setWhy(position, reason.NoTxRoom)
	}
	return ok
}

// handleTapped is handle for frames that a capture may want.
func (w *Worker) handleTapped(t *Table, in *IfaceQueue, frames []Frame, looks []look) {
	for i := range looks {
		l, f := &looks[i], &frames[i]
		w.tap.flow = w.tap.flowOf(l)
		if !w.tap.capture.filter.Flow(&w.tap.flow) {
			w.handle(t, in, f, i)
			continue
		}
		w.tap.begin(in.Iface, f)
		why := w.handle(t, in, f, i)
		if l.why == reason.Fragment && l.packet.Flow.SrcPort != 0 { // found out on the way
			w.tap.flow = l.packet.Flow
		}
		w.tap.end(w.shared.conns, why)
	}
}

// flowOf returns the flow of a packet that has been parsed, of an ICMP error the one in whose direction it goes.
func (t *tap) flowOf(l *look) lb.Flow {
	p := &l.packet
	switch l.why {
	case reason.None:
		return p.Flow
	case reason.ICMPError:
		if p.Quote(&t.quote) {
			return packet.ConnFlow(t.quote.Flow.Reverse())
		}
	case reason.IPsec, reason.Fragment, reason.NotL4, reason.BadL4Header:
	default:
		return lb.Flow{}
	}
	p.Flow.SrcPort, p.Flow.DstPort = 0, 0 // left by another packet
	return packet.ConnFlow(p.Flow)
}

// begin notes a frame as it came, before anything is done to it.
func (t *tap) begin(iface int, f *Frame) {
	position, fits := t.put(iface, false, f.Packet())
	t.armed, t.first, t.missed = true, position, !fits
}

// end decides whether the packet at hand is wanted, now that its connection is known, and what was sent for its sake with it.
func (t *tap) end(conns *conntrack.Table, why reason.Reason) {
	flow := &t.flow
	t.armed = false
	wanted := false
	if ref, dir := conns.Lookup(flow, conns.Hash(flow), &t.conn); dir != conntrack.None && conns.Load(ref, &t.conn) {
		wanted = t.capture.filter.Conn(&t.conn)
	} else {
		wanted = t.capture.filter.Alone(flow)
	}
	if !wanted {
		t.ring.forget()
		clear(t.lost)
		return
	}
	if !t.missed {
		t.ring.setWhy(t.first, why)
	}
	t.ring.publish()
	for i, n := range t.lost {
		if n > 0 {
			t.capture.lost[i].Add(uint64(n))
			t.lost[i] = 0
		}
	}
}

func (t *tap) put(iface int, out bool, b []byte) (position uint64, ok bool) {
	position, ok = t.ring.put(&CapturedFrame{Time: time.Now().UnixNano(), Iface: iface, Out: out, Length: len(b), Data: b[:min(len(b), t.capture.snap)]})
	if !ok {
		t.lost[lostAt(iface, out)]++
	}
	return position, ok
}
