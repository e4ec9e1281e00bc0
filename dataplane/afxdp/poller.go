package afxdp

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Poller blocks a worker until one of its queues has something, or somebody wakes it. Wait and Close belong to the worker's
// goroutine; Wake may be called from any.
type Poller struct {
	queues []*Queue
	fds    []unix.PollFd // the queues', then the wake-up's
	mu     sync.Mutex    // between Wake and Close
	wake   int
}

// While nothing arrives, frames that the device would not take yet, and queues that are down, are tried again after that long.
const (
	retryFull = time.Millisecond
	retryDown = 100 * time.Millisecond
)

// NewPoller returns a Poller over the queues, which stay the caller's.
func NewPoller(queues []*Queue) (*Poller, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	p := &Poller{queues: queues, wake: wake}
	for _, q := range queues {
		p.fds = append(p.fds, unix.PollFd{Fd: int32(q.FD()), Events: unix.POLLIN})
	}
	p.fds = append(p.fds, unix.PollFd{Fd: int32(wake), Events: unix.POLLIN})
	return p, nil
}

// Wait hands over what waits in the queues and blocks until a packet has arrived, Wake is called, or the time is over (negative:
// no limit; the time may also be cut short for reasons of the queues). It reports whether Wake was called since the last Wait.
func (p *Poller) Wait(timeout time.Duration) (woken bool) {
	limit := func(d time.Duration) {
		if timeout < 0 || timeout > d {
			timeout = d
		}
	}
	for _, q := range p.queues {
		q.Kick()
		q.Flush()
		switch {
		case q.down.Load() != 0:
			limit(retryDown)
		case q.unsent:
			limit(retryFull)
		}
	}
	deadline := time.Now().Add(timeout)
	n := p.poll(timeout)
	last := len(p.fds) - 1
	woken = p.fds[last].Revents&unix.POLLIN != 0
	if n > 0 && !woken && p.maskBroken() == n {
		// Only errors, as a socket has whose interface is gone: it would have them at once every time. Wait for the others.
		rest := retryDown
		if timeout >= 0 {
			rest = max(0, min(rest, time.Until(deadline)))
		}
		p.poll(rest)
		woken = p.fds[last].Revents&unix.POLLIN != 0
	}
	for i, q := range p.queues {
		p.fds[i].Fd = int32(q.FD())
	}
	if woken {
		var count [8]byte
		_, _ = unix.Read(p.wake, count[:]) // non-blocking; it only resets the count
	}
	return woken
}

func (p *Poller) poll(timeout time.Duration) int {
	var ts *unix.Timespec
	if timeout >= 0 {
		t := unix.NsecToTimespec(timeout.Nanoseconds())
		ts = &t
	}
	for i := range p.fds {
		p.fds[i].Revents = 0
	}
	n, err := unix.Ppoll(p.fds, ts, nil)
	if err != nil { // EINTR: the caller looks and comes back
		return 0
	}
	return n
}

// maskBroken takes the sockets that report errors and no packets out of the next poll, and returns how many they are.
func (p *Poller) maskBroken() (n int) {
	for i := range p.queues {
		if fd := &p.fds[i]; fd.Revents != 0 && fd.Revents&unix.POLLIN == 0 {
			fd.Fd = -1
			n++
		}
	}
	return n
}

// Wake makes Wait return, the one that blocks now or the next.
func (p *Poller) Wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wake >= 0 {
		one := [8]byte{1}
		_, _ = unix.Write(p.wake, one[:]) // EAGAIN at 2^64-1 wake-ups: it is readable then
	}
}

// Close frees what the poller itself has; the queues stay open. Calling it again is harmless.
func (p *Poller) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wake < 0 {
		return nil
	}
	err := unix.Close(p.wake)
	p.wake = -1
	return err
}
