// Package host is the way back to the kernel. AF_XDP cannot return a packet that turns out not to be weir's, so it is given to the
// kernel a second time, as if the interface had just received it: the kernel then routes it, hands it to a local socket, or answers
// RST, as it would have done without weir.
//
//	p, err := host.New([]host.Injector{eth0, eth1}, workers, host.Options{})
//	sender := p.Sender(w)      // one for each worker
//	sender.Send(iface, frame)  // from the worker's goroutine; copies the frame
//	...
//	p.Close()
//
// A worker must not wait for the kernel, so a sender is a ring with the worker at one end. One goroutine of the path's own empties
// the rings and injects, in batches, and no more packets a second than it was told: strays are cheap to make, and each costs the
// host a walk through its stack.
package host

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Injector gives frames to the kernel as received on one interface, and returns how many it gave; bpf.Attachment is one. It is
// called with 1 to Batch frames, which are the caller's again when it returns.
type Injector interface {
	Inject(frames [][]byte) (int, error)
}

// Batch is the most frames that an Injector is called with.
const Batch = 64

// linger is how long the path waits after it has emptied the rings before it goes to sleep: packets that come meanwhile are injected
// together, and a worker wakes it 5,000 times a second at most.
const linger = 200 * time.Microsecond

// Options are for New; the zero value is the default.
type Options struct {
	Rate      int          // packets per second, all workers together; default 100,000
	Ring      int          // packets that can wait per worker, rounded up to a power of two; default 1,024
	MaxPacket int          // longest frame in bytes; default 2,048. A worker's ring takes Ring × MaxPacket bytes of memory.
	Logger    *slog.Logger // nil: slog.Default
}

// Counters are packets since New. Each packet that a worker has sent is in one of them or still waits.
type Counters struct {
	Injected uint64 // given to the kernel
	Failed   uint64 // refused by the kernel
	RingFull uint64 // the ring was full because the kernel took packets more slowly than they came
	OverRate uint64 // the ring was full because of Options.Rate
	Invalid  uint64 // longer than Options.MaxPacket, shorter than an Ethernet header, or of no interface of the path's
}

// Path is the host path of all workers. It is made by New and lives until Close.
type Path struct {
	senders []*Sender
	log     *slog.Logger

	// The goroutine's own.
	ifaces []iface
	bucket bucket
	timer  *time.Timer
	first  int // counts the calls of inject

	throttled        atomic.Bool // packets wait because of the rate; written by the path's goroutine
	injected, failed atomic.Uint64

	asleep atomic.Bool
	wake   chan struct{}
	stop   chan struct{}
	once   sync.Once
	done   chan struct{}
}

type iface struct {
	injector Injector
	pending  [][]byte // slices of the rings' memory, at most Batch
	failing  bool     // said so in the log
}

// New starts a path for the given interfaces, in the order that the workers number them. It injects from the caller's network
// namespace.
func New(injectors []Injector, workers int, o Options) (*Path, error) {
	o = o.withDefaults()
	p := &Path{
		log:    o.Logger,
		bucket: newBucket(o.Rate, time.Now()),
		timer:  time.NewTimer(time.Hour),
		wake:   make(chan struct{}, 1),
		stop:   make(chan struct{}),
		done:   make(chan struct{}),
	}
	for _, in := range injectors {
		p.ifaces = append(p.ifaces, iface{injector: in, pending: make([][]byte, 0, Batch)})
	}
	for range workers {
		p.senders = append(p.senders, newSender(p, o.Ring, o.MaxPacket))
	}
	enter, err := callersNamespace()
	if err != nil {
		return nil, fmt.Errorf("host path: %w", err)
	}
	entered := make(chan error)
	go func() {
		defer close(p.done)
		err := enter()
		entered <- err
		if err == nil {
			p.run()
		}
	}()
	if err := <-entered; err != nil {
		return nil, fmt.Errorf("host path: %w", err)
	}
	return p, nil
}

func (o Options) withDefaults() Options {
	if o.Rate <= 0 {
		o.Rate = 100_000
	}
	if o.Ring <= 0 {
		o.Ring = 1024
	}
	if o.MaxPacket <= 0 {
		o.MaxPacket = 2048
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// Sender returns worker w's end of the path.
func (p *Path) Sender(w int) *Sender { return p.senders[w] }

// Counters returns the sum over all workers. It may be called from any goroutine.
func (p *Path) Counters() Counters {
	c := Counters{Injected: p.injected.Load(), Failed: p.failed.Load()}
	for _, s := range p.senders {
		c.RingFull += s.ringFull.Load()
		c.OverRate += s.overRate.Load()
		c.Invalid += s.invalid.Load()
	}
	return c
}

// Close injects what still waits, whatever the rate, and ends the path. The workers must have stopped sending. It may be called twice.
func (p *Path) Close() error {
	p.once.Do(func() { close(p.stop) })
	<-p.done
	return nil
}

// run empties the rings until Close.
func (p *Path) run() {
	lingered := false
	for !p.stopped() {
		waiting := p.waiting()
		granted := p.bucket.take(time.Now(), waiting)
		p.throttled.Store(granted < waiting)
		switch {
		case granted > 0:
			p.inject(granted)
			lingered = false
		case waiting > 0:
			p.pause(p.bucket.wait())
		case !lingered:
			p.pause(linger)
			lingered = true
		default:
			p.sleep()
			lingered = false
		}
	}
	p.inject(p.waiting())
}

func (p *Path) stopped() bool {
	select {
	case <-p.stop:
		return true
	default:
		return false
	}
}

func (p *Path) pause(d time.Duration) {
	p.timer.Reset(d)
	select {
	case <-p.timer.C:
	case <-p.stop:
	}
}

// sleep waits for a packet. One that is sent after waiting was asked finds asleep set.
func (p *Path) sleep() {
	p.asleep.Store(true)
	if p.waiting() == 0 {
		select {
		case <-p.wake:
		case <-p.stop:
		}
	}
	p.asleep.Store(false)
}

func (p *Path) waiting() (n int) {
	for _, s := range p.senders {
		n += s.waiting()
	}
	return n
}

// inject gives up to n packets to the kernel, each ring's in their order. It begins with another ring each time, or a flood on the first
// would use up the rate.
func (p *Path) inject(n int) {
	p.first++
	for i := range p.senders {
		s := p.senders[(p.first+i)%len(p.senders)]
		for left := min(n, s.waiting()); left > 0; {
			take := min(left, Batch)
			for i := range take {
				to, frame := s.at(i)
				p.ifaces[to].pending = append(p.ifaces[to].pending, frame)
			}
			for i := range p.ifaces {
				p.flush(&p.ifaces[i])
			}
			s.release(take)
			left -= take
			n -= take
		}
	}
}

func (p *Path) flush(f *iface) {
	if len(f.pending) == 0 {
		return
	}
	n, err := f.injector.Inject(f.pending)
	p.injected.Add(uint64(n))
	p.failed.Add(uint64(len(f.pending) - n))
	f.pending = f.pending[:0]

	// Said once per change, however many packets it concerns.
	if failing := err != nil; failing != f.failing {
		f.failing = failing
		if failing {
			p.log.Warn("the host path drops packets", "error", err)
		} else {
			p.log.Info("the host path works again")
		}
	}
}
