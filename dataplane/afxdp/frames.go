package afxdp

import "github.com/asavie/xdp"

// place is where a frame is. Every frame is in exactly one.
type place uint8

const (
	inFree    place = iota // on the free stack
	inReceive              // the kernel's: in the fill ring, being filled, or in the receive ring
	inHand                 // the worker's, by Recv or Alloc
	inPending              // given to Send, waits for a kick
	inSend                 // the kernel's: in the transmit ring, on its way, or in the completion ring
)

// frames is the account of a queue's frames. The library knows them as free or not, and counts those in hand and pending as free.
type frames struct {
	place []place
	free  []uint32 // stack: the frame last freed is the likeliest to be in the CPU's cache
	done  int      // frames in inSend that the library has seen completed
}

func newFrames(n int) frames {
	f := frames{place: make([]place, n), free: make([]uint32, n)}
	for i := range f.free {
		f.free[i] = uint32(n - 1 - i)
	}
	return f
}

func (f *frames) pop(to place) uint32 {
	last := len(f.free) - 1
	i := f.free[last]
	f.free = f.free[:last]
	f.place[i] = to
	return i
}

func (f *frames) push(i uint32) {
	f.place[i] = inFree
	f.free = append(f.free, i)
}

// complete lets the library read the completion ring.
func (q *Queue) complete() {
	if n := q.xsk.NumCompleted(); n > 0 {
		q.xsk.Complete(n)
		q.frames.done += n
	}
}

// reclaim moves what has been transmitted to the free stack. The library does not say which frames those are, only which ones it
// calls free now, in a scan of all: so this is done for many frames at a time.
func (q *Queue) reclaim() {
	q.complete()
	if q.frames.done == 0 {
		return
	}
	for _, d := range q.xsk.GetDescs(q.opt.Frames) {
		i := uint32(d.Addr / uint64(q.opt.FrameSize))
		if q.frames.place[i] == inSend {
			q.frames.push(i)
		}
	}
	q.frames.done = 0
}

// refill gives the kernel free frames to receive into, up to half of all: the other half is there to transmit, so that neither
// direction can starve the other.
func (q *Queue) refill() {
	target := min(q.opt.Ring, q.opt.Frames/2)
	need := target - q.xsk.NumFilled()
	if need < min(64, target/4) {
		return
	}
	if len(q.frames.free) < need {
		q.reclaim()
	}
	descs := q.scratch[:0]
	for range min(need, q.xsk.NumFreeFillSlots(), len(q.frames.free)) {
		i := q.frames.pop(inReceive)
		descs = append(descs, xdp.Desc{Addr: uint64(i) * uint64(q.opt.FrameSize)})
	}
	q.xsk.Fill(descs)
}

// Accounting says where a queue's frames are.
type Accounting struct {
	Free     int
	Fill     int // the kernel's, to receive into
	Received int // in the receive ring, not yet taken by Recv
	Held     int // the worker's
	Pending  int // given to Send, not yet to the kernel
	Transmit int // the kernel's, until they come back transmitted
}

// Sum is the number of frames of the queue, always.
func (a Accounting) Sum() int { return a.Free + a.Fill + a.Received + a.Held + a.Pending + a.Transmit }

// Accounting counts the frames. It is exact when called by the queue's goroutine, and costs a scan of all.
func (q *Queue) Accounting() Accounting {
	if q.closed {
		return Accounting{}
	}
	q.reclaim()
	var count [inSend + 1]int
	for _, p := range q.frames.place {
		count[p]++
	}
	received := q.xsk.NumReceived()
	return Accounting{
		Free:     count[inFree],
		Fill:     count[inReceive] - received,
		Received: received,
		Held:     count[inHand],
		Pending:  count[inPending],
		Transmit: count[inSend],
	}
}
