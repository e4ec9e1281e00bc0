// Package memqueue is a dataplane.Queue without a kernel: tests hand packets in and take packets out, in milliseconds and as any
// user, and benchmarks run the worker's loop against it.
//
//	q := memqueue.New(512)
//	q.Inject(packet)          // what the wire would bring
//	worker.Batch(q)           // Recv, Send, Drop, Flush
//	for _, p := range q.Sent() {
//		// what the wire would carry
//	}
//	if n := q.Outstanding(); n != 0 {
//		t.Errorf("%d frames leaked", n)
//	}
//
// It is stricter than the kernel: a frame that is given back twice, or that leaves with its bounds outside its memory, panics,
// because in UMEM the same mistake would corrupt another packet much later.
package memqueue

import (
	"fmt"
	"sync"

	"weir/dataplane"
)

// FrameSize is the bytes of a frame, headroom included: as in UMEM, so that what fits here fits there.
const FrameSize = 2048

// Queue is a queue in memory. The methods of dataplane.Queue and Outstanding belong to one goroutine, the worker's; Inject, Sent
// and Refuse may be called from any.
type Queue struct {
	mem   []byte
	free  []uint32 // stack of the frames nobody holds
	held  []bool   // by frame: with the worker, from Recv or Alloc until Send or Drop
	queue []dataplane.Frame

	loop *loop // after Loop

	mu      sync.Mutex
	waiting [][]byte
	sent    [][]byte
	refuse  int
}

var _ dataplane.Queue = (*Queue)(nil)

// New returns a queue with that many frames; what has been injected and not yet received is bounded by the same number.
func New(frames int) *Queue {
	q := &Queue{
		mem:   make([]byte, frames*FrameSize),
		free:  make([]uint32, frames),
		held:  make([]bool, frames),
		queue: make([]dataplane.Frame, 0, frames),
	}
	for i := range q.free {
		q.free[i] = uint32(frames - 1 - i)
	}
	return q
}

// Inject copies the packet into the queue for a later Recv. False when the queue is full or the packet too long for a frame.
func (q *Queue) Inject(packet []byte) bool {
	if len(packet) > FrameSize-dataplane.Headroom {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == len(q.held) {
		return false
	}
	q.waiting = append(q.waiting, append([]byte(nil), packet...))
	return true
}

// Sent returns the packets transmitted by Flush since the last call, in order. They belong to the caller.
func (q *Queue) Sent() [][]byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	sent := q.sent
	q.sent = nil
	return sent
}

// Refuse makes the next n Sends find no room, as a full transmit ring would.
func (q *Queue) Refuse(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.refuse = n
}

// Outstanding returns how many frames the worker holds: 0 after a batch, or they leak.
func (q *Queue) Outstanding() int {
	if q.loop != nil {
		return q.loop.outstanding()
	}
	return len(q.held) - len(q.free) - len(q.queue)
}

// Recv implements dataplane.Queue.
func (q *Queue) Recv(frames []dataplane.Frame) int {
	if q.loop != nil {
		return q.loop.recv(frames)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(frames), len(q.waiting), len(q.free))
	for i, packet := range q.waiting[:n] {
		f, _ := q.Alloc()
		f.End += copy(f.Buf[f.Off:], packet)
		frames[i] = f
	}
	q.waiting = q.waiting[n:]
	return n
}

// Alloc implements dataplane.Queue.
func (q *Queue) Alloc() (dataplane.Frame, bool) {
	last := len(q.free) - 1
	if last < 0 {
		return dataplane.Frame{}, false
	}
	h := q.free[last]
	q.free = q.free[:last]
	q.held[h] = true
	base := int(h) * FrameSize
	return dataplane.Frame{
		Buf:    q.mem[base : base+FrameSize : base+FrameSize],
		Off:    dataplane.Headroom,
		End:    dataplane.Headroom,
		Handle: uint64(h),
	}, true
}

// Send implements dataplane.Queue. It panics on a frame that the worker does not hold or whose bounds are wrong.
func (q *Queue) Send(f *dataplane.Frame) bool {
	if q.loop != nil {
		return q.loop.send(f)
	}
	q.take(f)
	if f.Off < 0 || f.Off > f.End || f.End > len(f.Buf) {
		panic(fmt.Sprintf("memqueue: frame %d sent with bounds %d:%d of %d", f.Handle, f.Off, f.End, len(f.Buf)))
	}
	if q.refused() {
		q.free = append(q.free, uint32(f.Handle))
		return false
	}
	q.queue = append(q.queue, *f)
	return true
}

// Drop implements dataplane.Queue. It panics on a frame that the worker does not hold.
func (q *Queue) Drop(f *dataplane.Frame) {
	if q.loop != nil {
		q.loop.dropped++
		return
	}
	q.take(f)
	q.free = append(q.free, uint32(f.Handle))
}

// Flush implements dataplane.Queue.
func (q *Queue) Flush() {
	if len(q.queue) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, f := range q.queue {
		q.sent = append(q.sent, append([]byte(nil), f.Packet()...))
		q.free = append(q.free, uint32(f.Handle))
	}
	q.queue = q.queue[:0]
}

// take ends the worker's hold on the frame.
func (q *Queue) take(f *dataplane.Frame) {
	if f.Handle >= uint64(len(q.held)) || &f.Buf[0] != &q.mem[f.Handle*FrameSize] {
		panic(fmt.Sprintf("memqueue: frame %d is not of this queue", f.Handle))
	}
	if !q.held[f.Handle] {
		panic(fmt.Sprintf("memqueue: frame %d was given back already", f.Handle))
	}
	q.held[f.Handle] = false
}

func (q *Queue) refused() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.refuse == 0 {
		return false
	}
	q.refuse--
	return true
}
