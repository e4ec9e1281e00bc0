package dataplane

import (
	"context"
	"errors"
	"sync/atomic"

	"weir/conntrack"
	"weir/dataplane/reason"
	"weir/lb"
)

// CaptureFilter chooses what a capture takes. Its methods are called by workers: they neither block nor allocate.
type CaptureFilter interface {
	// Flow reports whether a packet that came with flow f may be wanted, whatever its connection turns out to be. Of an ICMP error, f
	// is the flow of packets in its direction; a port of 0 is not known; the zero Flow is a frame that has none.
	Flow(f *lb.Flow) bool
	// Conn reports whether the packets of connection c are wanted.
	Conn(c *conntrack.Conn) bool
	// Alone reports whether a packet of flow f is wanted that belongs to no connection.
	Alone(f *lb.Flow) bool
}

// CapturedFrame is a frame as a worker received it, or as it handed it to a queue.
type CapturedFrame struct {
	Time   int64         // Unix nanoseconds
	Iface  int           // index into Table.Ifaces
	Out    bool          // sent rather than received
	Why    reason.Reason // received: why it was not forwarded; sent: NoTxRoom if it was not transmitted after all
	Length int           // of the whole frame
	Data   []byte        // its beginning
}

// captureRing is how much each worker may be ahead of the reader: 4 MiB are 25,000 small packets in and out, at a million a second 25 ms.
const captureRing = 4 << 20

// Capture is a copy of some of the frames that workers see. They put it into rings, and count what does not fit; nobody waits.
// Its methods but Lost belong to one goroutine.
type Capture struct {
	shared *Shared
	filter CaptureFilter
	snap   int
	rings  []*ring         // by worker
	lost   []atomic.Uint64 // by interface, received and sent
}

// ErrCapturing is that of a second capture beside one under way.
var ErrCapturing = errors.New("another capture is under way")

// Capture begins a capture of at most snap bytes of each frame. Workers take part from their next turn on, until Stop.
func (s *Shared) Capture(filter CaptureFilter, snap int) (*Capture, error) {
	return s.capture(filter, snap, captureRing)
}

func (s *Shared) capture(filter CaptureFilter, snap, ringSize int) (*Capture, error) {
	c := &Capture{shared: s, filter: filter, snap: snap, lost: make([]atomic.Uint64, 2*len(s.Table().Ifaces()))}
	s.turning.mu.Lock()
	workers := len(s.turning.all)
	s.turning.mu.Unlock()
	for range workers {
		c.rings = append(c.rings, newRing(ringSize))
	}
	if !s.captures.CompareAndSwap(nil, c) {
		return nil, ErrCapturing
	}
	return c, nil
}

// Next moves the oldest frame that waits into f, whose Data it uses again; false: none does.
func (c *Capture) Next(f *CapturedFrame) bool {
	var oldest *ring
	var first int64
	for _, r := range c.rings {
		if at, ok := r.peek(); ok && (oldest == nil || at < first) {
			oldest, first = r, at
		}
	}
	if oldest == nil {
		return false
	}
	oldest.take(f)
	return true
}

// Lost returns how many frames of an interface did not fit.
func (c *Capture) Lost(iface int, out bool) uint64 { return c.lost[lostAt(iface, out)].Load() }

func lostAt(iface int, out bool) int {
	if out {
		return 2*iface + 1
	}
	return 2 * iface
}

// Stop ends the capture and waits until no worker puts anything any more; Next then returns the rest. It may be called twice.
func (c *Capture) Stop(ctx context.Context) error {
	if !c.shared.captures.CompareAndSwap(c, nil) {
		return nil
	}
	return c.shared.Settle(ctx)
}
