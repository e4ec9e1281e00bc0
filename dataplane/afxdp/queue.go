package afxdp

import (
	"github.com/asavie/xdp"
	"golang.org/x/sys/unix"

	"weir/dataplane"
)

// Recv implements dataplane.Queue.
func (q *Queue) Recv(frames []dataplane.Frame) int {
	if q.closed {
		return 0
	}
	n := q.xsk.NumReceived()
	if n == 0 {
		q.idle()
		return 0
	}
	size := uint64(q.opt.FrameSize)
	n = 0
	for _, d := range q.xsk.Receive(len(frames)) {
		i := d.Addr / size
		if q.frames.place[i] != inReceive {
			q.counters.foreign.Add(1)
			continue
		}
		q.frames.place[i] = inHand
		base := i * size
		off := int(d.Addr - base)
		frames[n] = dataplane.Frame{
			Buf:    q.umem[base : base+size : base+size],
			Off:    off,
			End:    off + int(d.Len),
			Handle: i,
		}
		n++
	}
	return n
}

// idle is the time to let go of frames that have waited long enough, and to drive the driver when it is ours to drive.
func (q *Queue) idle() {
	if len(q.pending) > 0 || q.unsent {
		q.kickIfDue()
	}
	if q.opt.BusyPoll > 0 {
		// With nothing to read; net/xdp/xsk.c, xsk_recvmsg, polls the driver once.
		_, _, _ = unix.Recvfrom(q.xsk.FD(), nil, unix.MSG_DONTWAIT)
	}
}

// Alloc implements dataplane.Queue.
func (q *Queue) Alloc() (dataplane.Frame, bool) {
	if len(q.frames.free) == 0 {
		if q.closed {
			return dataplane.Frame{}, false
		}
		if q.reclaim(); len(q.frames.free) == 0 {
			return dataplane.Frame{}, false
		}
	}
	i := q.frames.pop(inHand)
	size := q.opt.FrameSize
	base := int(i) * size
	return dataplane.Frame{
		Buf:    q.umem[base : base+size : base+size],
		Off:    dataplane.Headroom,
		End:    dataplane.Headroom,
		Handle: uint64(i),
	}, true
}

// Send implements dataplane.Queue. A frame the caller does not hold, or whose packet is not inside it, is refused and counted.
func (q *Queue) Send(f *dataplane.Frame) bool {
	if q.closed || !q.holds(f) {
		return false
	}
	if f.Off < 0 || f.Off >= f.End || f.End > q.opt.FrameSize {
		q.counters.foreign.Add(1)
		q.frames.push(uint32(f.Handle))
		return false
	}
	if q.down.Load() != 0 && !q.up() {
		q.counters.linkDown.Add(1)
		q.frames.push(uint32(f.Handle))
		return false
	}
	if len(q.pending) == cap(q.pending) {
		if q.Kick(); len(q.pending) == cap(q.pending) {
			q.counters.noRoom.Add(1)
			q.frames.push(uint32(f.Handle))
			return false
		}
	}
	q.frames.place[f.Handle] = inPending
	q.pending = append(q.pending, xdp.Desc{
		Addr: f.Handle*uint64(q.opt.FrameSize) + uint64(f.Off),
		Len:  uint32(f.End - f.Off),
	})
	return true
}

// Drop implements dataplane.Queue.
func (q *Queue) Drop(f *dataplane.Frame) {
	if !q.closed && q.holds(f) {
		q.frames.push(uint32(f.Handle))
	}
}

// holds reports whether the worker has the frame; giving one back twice would hand its memory out twice.
func (q *Queue) holds(f *dataplane.Frame) bool {
	if f.Handle < uint64(len(q.frames.place)) && q.frames.place[f.Handle] == inHand {
		return true
	}
	q.counters.foreign.Add(1)
	return false
}

// Flush implements dataplane.Queue. Fewer frames than Options.KickAt may linger: call it every round, also when nothing has arrived.
func (q *Queue) Flush() {
	if q.closed {
		return
	}
	if len(q.pending) > 0 || q.unsent {
		q.kickIfDue()
	}
	q.refill()
}
