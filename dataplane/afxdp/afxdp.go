// Package afxdp is a dataplane.Queue on an AF_XDP socket: one queue of an interface, its frames in one UMEM, shared with nobody.
//
//	q, err := afxdp.Open(ifindex, 0, afxdp.Options{})
//	steer.SetSocket(0, q.FD())           // from now on packets arrive
//	poller, err := afxdp.NewPoller([]*afxdp.Queue{q})
//	for {
//		n := q.Recv(frames[:])
//		... q.Send(frame), q.Drop(frame)
//		q.Flush()                        // every round, also of an empty batch: frames linger for a fuller kick
//		if n == 0 {                      // for a while
//			poller.Wait(timeout)
//		}
//	}
//
// It stands on github.com/asavie/xdp, and keeps three things from its callers that the library leaves open:
//   - where each frame is. The library has one list of "free" frames, which counts those we hold as free too; so this package
//     keeps its own account (frames.go) and takes from the library only what has been transmitted.
//   - when the kernel is kicked. A system call costs about as much as forwarding a packet, so frames are collected for it (kick.go).
//   - links that go down. The library panics when sendto fails; here the queue is down until sendto works again, on the same socket.
//
// amd64 only: the library moves the rings' indices by plain loads and stores, which only a strongly ordered CPU gets right.
package afxdp

import (
	"fmt"
	"math/bits"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/asavie/xdp"
	"golang.org/x/sys/unix"

	"weir/dataplane"
)

// ZeroCopy says whether packets are copied between the driver's memory and the queue's.
type ZeroCopy int

const (
	Auto ZeroCopy = iota // zero-copy where the driver has it, copy elsewhere
	On                   // zero-copy, or Open fails
	Off                  // copy
)

// Options of a queue; the zero value is right for an Ethernet MTU of 1500.
type Options struct {
	// Frames in the UMEM: a power of two, at least 64; default 4096 (8 MiB). Half of them wait for packets to receive.
	Frames int
	// FrameSize in bytes, 2048 or 4096; default 2048. The first 256 are headroom, so packets of up to FrameSize-256 are received.
	FrameSize int
	// Ring is how many descriptors each of the four rings has: a power of two, at least 32; default Frames/2.
	Ring int
	// ZeroCopy: Auto, On or Off.
	ZeroCopy ZeroCopy
	// BusyPoll makes this goroutine's system calls drive the driver, each for that long at most (socket(7), SO_PREFER_BUSY_POLL);
	// it wants /sys/class/net/IF/napi_defer_hard_irqs and gro_flush_timeout set. 0: interrupts drive it.
	BusyPoll time.Duration
	// KickAt is how many frames wait until Flush hands them to the kernel at once; default 64.
	KickAt int
	// Linger is how long fewer than that wait, while Flush or Recv are called often enough to notice; default 3 us, negative for none.
	Linger time.Duration
	// Budget is how many frames one sendto transmits in copy mode, where the kernel has the option (Linux 6.17,
	// XDP_MAX_TX_SKB_BUDGET; else 32, and sendto is called as often as it takes). Default 512.
	Budget int
}

func (o Options) withDefaults() (Options, error) {
	def := func(v *int, value int) {
		if *v == 0 {
			*v = value
		}
	}
	def(&o.Frames, 4096)
	def(&o.FrameSize, 2048)
	def(&o.Ring, o.Frames/2)
	def(&o.KickAt, 64)
	def(&o.Budget, 512)
	if o.Linger == 0 {
		o.Linger = 3 * time.Microsecond
	}
	o.KickAt = min(o.KickAt, o.Ring)
	switch {
	case o.Frames < 64 || bits.OnesCount(uint(o.Frames)) != 1:
		return o, fmt.Errorf("frames %d: not a power of two of at least 64", o.Frames)
	case o.FrameSize != 2048 && o.FrameSize != 4096:
		return o, fmt.Errorf("frame size %d: neither 2048 nor 4096", o.FrameSize)
	case o.Ring < 32 || bits.OnesCount(uint(o.Ring)) != 1:
		return o, fmt.Errorf("ring %d: not a power of two of at least 32", o.Ring)
	case o.KickAt < 0 || o.Budget < 0 || o.BusyPoll < 0:
		return o, fmt.Errorf("kick at %d, budget %d, busy poll %v: none may be negative", o.KickAt, o.Budget, o.BusyPoll)
	}
	return o, nil
}

// Queue is one queue of an interface. Its methods belong to one goroutine; Stats, Down, FD and ZeroCopy may be called from any.
type Queue struct {
	opt      Options
	xsk      *xdp.Socket
	umem     []byte
	frames   frames
	pending  []xdp.Desc // sent by the worker, not yet in the transmit ring
	scratch  []xdp.Desc
	start    time.Time
	waiting  time.Duration // since when (after start) frames have waited for a kick; 0: none do
	retry    time.Duration // not before (after start) a queue that is down tries again
	unsent   bool          // the transmit ring was not empty after the last kick
	late     bool          // the kernel has no XDP_MAX_TX_SKB_BUDGET; see atOnce
	fallback error

	down     atomic.Int32 // errno of the last sendto, while the queue is down
	counters counters

	mu     sync.Mutex // between Close and Stats
	closed bool
}

var _ dataplane.Queue = (*Queue)(nil)

// Sockets are opened one at a time: the library takes the flags of bind(2) from a package variable.
var opening sync.Mutex

// A socket that has just been closed, by this process or by one that was killed, keeps its queue busy until the kernel's deferred
// work has run (net/xdp/xsk_buff_pool.c, xp_put_pool).
const busyPatience = 300 * time.Millisecond

// Open binds a socket to the queue of the interface, in the calling thread's network namespace. Nothing arrives before an XDP
// program redirects to FD. The error names the interface, the queue and what to do.
func Open(ifindex, queue int, o Options) (*Queue, error) {
	name := fmt.Sprintf("interface %d", ifindex)
	ifi, err := net.InterfaceByIndex(ifindex)
	if err == nil {
		name = ifi.Name
	} else {
		return nil, fmt.Errorf("queue %d of %s: no such interface", queue, name)
	}
	if runtime.GOARCH != "amd64" {
		return nil, fmt.Errorf("queue %d of %s: AF_XDP is driven without memory barriers, which is safe on amd64 only", queue, name)
	}
	if o, err = o.withDefaults(); err != nil {
		return nil, fmt.Errorf("queue %d of %s: %w", queue, name, err)
	}
	q := &Queue{opt: o, start: time.Now()}
	flags := uint16(unix.XDP_COPY)
	if o.ZeroCopy != Off {
		flags = unix.XDP_ZEROCOPY
	}
	errno := q.bind(ifindex, queue, flags)
	if errno != nil && o.ZeroCopy == Auto && errno != unix.EBUSY && errno != unix.EPERM {
		q.fallback = errno
		errno = q.bind(ifindex, queue, unix.XDP_COPY)
	}
	if errno != nil {
		return nil, explain(name, queue, o, errno)
	}
	if err := q.setup(); err != nil {
		q.Close()
		return nil, fmt.Errorf("queue %d of %s: %w", queue, name, err)
	}
	return q, nil
}

// bind makes the library's socket, and leaves nothing behind if it can't.
func (q *Queue) bind(ifindex, queue int, flags uint16) error {
	opening.Lock()
	defer opening.Unlock()
	syscall.ForkLock.RLock() // the library's socket is not close-on-exec from the start
	defer syscall.ForkLock.RUnlock()
	defer func(saved uint16) { xdp.DefaultSocketFlags = saved }(xdp.DefaultSocketFlags)
	xdp.DefaultSocketFlags = flags

	for deadline := time.Now().Add(busyPatience); ; time.Sleep(10 * time.Millisecond) {
		before, err := socketMappings()
		if err != nil {
			return err
		}
		q.xsk, err = xdp.NewSocket(ifindex, queue, &xdp.SocketOptions{
			NumFrames:              q.opt.Frames,
			FrameSize:              q.opt.FrameSize,
			FillRingNumDescs:       q.opt.Ring,
			CompletionRingNumDescs: q.opt.Ring,
			RxRingNumDescs:         q.opt.Ring,
			TxRingNumDescs:         q.opt.Ring,
		})
		if err == nil {
			unix.CloseOnExec(q.xsk.FD())
			return nil
		}
		if err := unmapLeaked(before); err != nil {
			return err
		}
		if err = errnoOf(err); err != unix.EBUSY || time.Now().After(deadline) {
			return err
		}
	}
}

// setup does what comes after bind: the socket's options, and every frame in its first place.
func (q *Queue) setup() error {
	fd := q.xsk.FD()
	// ENOPROTOOPT before Linux 6.17. A sendto then stops after 32 frames, and transmit goes on.
	err := unix.SetsockoptInt(fd, unix.SOL_XDP, unix.XDP_MAX_TX_SKB_BUDGET, max(32, min(q.opt.Budget, q.opt.Ring)))
	q.late = err == unix.ENOPROTOOPT
	if err != nil && !q.late {
		return fmt.Errorf("XDP_MAX_TX_SKB_BUDGET %d: %w", q.opt.Budget, err)
	}
	// In copy mode each frame on its way is an skb charged to the socket; with the default of 208 KiB a few hundred stop sendto.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, q.opt.Ring*4096); err != nil {
		return fmt.Errorf("SO_SNDBUFFORCE: %w", err)
	}
	if us := int(q.opt.BusyPoll.Microseconds()); us > 0 {
		for _, option := range []struct{ name, value int }{
			{unix.SO_PREFER_BUSY_POLL, 1}, {unix.SO_BUSY_POLL, us}, {unix.SO_BUSY_POLL_BUDGET, 64},
		} {
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option.name, option.value); err != nil {
				return fmt.Errorf("busy poll of %v: %w", q.opt.BusyPoll, err)
			}
		}
	}
	size := q.opt.Frames * q.opt.FrameSize
	q.umem = q.xsk.GetFrame(xdp.Desc{Len: uint32(size)})[:size:size]
	q.frames = newFrames(q.opt.Frames)
	q.pending = make([]xdp.Desc, 0, max(q.opt.KickAt, min(q.opt.Ring, 2*dataplane.BatchSize)))
	q.scratch = make([]xdp.Desc, 0, q.opt.Ring)
	q.refill()
	return nil
}

// Close gives the queue back to the interface, with everything in it. Calling it again is harmless; the other methods then do
// nothing. No frame of the queue may be touched afterwards.
func (q *Queue) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil
	}
	q.closed = true
	q.frames.free, q.pending = nil, nil
	inode, err := inodeOf(q.xsk.FD())
	if err != nil {
		return err
	}
	mappings, err := socketMappings()
	if err != nil {
		return err
	}
	if err := q.xsk.Close(); err != nil {
		return err
	}
	return unmap(mappings[inode])
}

// FD returns the socket's file descriptor, for the XSKMAP.
func (q *Queue) FD() int { return q.xsk.FD() }

// ZeroCopy reports whether the driver reads and writes the queue's memory itself. Where it does not although Auto asked for it, the
// error is the kernel's answer.
func (q *Queue) ZeroCopy() (bool, error) {
	options, err := unix.GetsockoptInt(q.xsk.FD(), unix.SOL_XDP, unix.XDP_OPTIONS)
	if err != nil {
		return false, fmt.Errorf("XDP_OPTIONS: %w", err)
	}
	if q.fallback == unix.EOPNOTSUPP { // net/xdp/xsk_buff_pool.c, xp_assign_dev: no ndo_xsk_wakeup, or no NETDEV_XDP_ACT_XSK_ZEROCOPY
		return false, fmt.Errorf("the driver has no zero copy (%w)", q.fallback)
	}
	return options&unix.XDP_OPTIONS_ZEROCOPY != 0, q.fallback
}

// explain puts into words what the kernel means by the errno of bind(2) (net/xdp/xsk.c, xsk_bind).
func explain(name string, queue int, o Options, err error) error {
	why := ""
	switch err {
	case unix.EBUSY:
		return fmt.Errorf("queue %d of %s is in use by another AF_XDP socket: %w", queue, name, err)
	case unix.EINVAL:
		why = "no such queue (ethtool -l shows how many there are)"
	case unix.EOPNOTSUPP, unix.EPROTONOSUPPORT:
		why = "AF_XDP is not supported"
		if o.ZeroCopy == On {
			why = "the driver has no zero-copy: use auto or off"
		}
	case unix.EPERM:
		why = "AF_XDP needs root, or CAP_NET_ADMIN and CAP_NET_RAW"
	case unix.ENOBUFS, unix.ENOMEM:
		why = "not enough memory, or locked memory is limited (ulimit -l)"
	case unix.EAFNOSUPPORT:
		why = "this kernel has no AF_XDP (CONFIG_XDP_SOCKETS)"
	}
	if why == "" {
		return fmt.Errorf("queue %d of %s: %w", queue, name, err)
	}
	return fmt.Errorf("queue %d of %s: %s: %w", queue, name, why, err)
}

// errnoOf finds the errno in an error of the library, which keeps only its text.
func errnoOf(err error) error {
	for _, errno := range []unix.Errno{
		unix.EBUSY, unix.EINVAL, unix.EOPNOTSUPP, unix.EPROTONOSUPPORT, unix.EPERM, unix.ENOBUFS, unix.ENOMEM,
		unix.EAFNOSUPPORT, unix.ENODEV, unix.ENETDOWN,
	} {
		if strings.HasSuffix(err.Error(), ": "+errno.Error()) {
			return errno
		}
	}
	return err
}
