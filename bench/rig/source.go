package rig

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"weir/bpf"
)

// order is what a source is to send.
type order struct {
	packets [][]byte // in turn
	count   int      // packets; 0: without end
	rate    float64  // per second; 0: as fast as it can
	even    bool     // one by one, with the time in some of them; else in bursts
}

// stampOneIn is how many packets there are to one that carries the time: reading it costs some 30 ns, at the sink on the director's CPU.
const stampOneIn = 8

// sharedBatch is how many packets arrive at once where the generator has only the time that nobody else wants: a NIC that coalesces its
// interrupts brings about as many. With 64, being woken costs a director in user space a sixth of its rate (weir, DR: 0.82 to 0.97 Mpps).
const sharedBatch = 192

// source is a generator that sends, in a goroutine of its own.
type source struct {
	generator *bpf.Generator
	cancel    context.CancelFunc
	done      chan error
}

// send starts a source.
func (s *setting) send(ctx context.Context, o order) (*source, error) {
	ctx, cancel := context.WithCancel(ctx)
	src := &source{cancel: cancel, done: make(chan error, 1)}
	opened := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread's priority ends with it
		src.done <- s.clients.Do(func() (err error) {
			src.generator, err = bpf.NewGenerator(s.in.Index, s.Flows, o.packets...)
			opened <- err
			if err != nil {
				return err
			}
			if s.Layout == OneCPU {
				src.generator.Batch = sharedBatch
				if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0); err != nil {
					return fmt.Errorf("SCHED_IDLE: %w", err)
				}
			}
			if !o.even {
				return src.generator.Run(ctx, uint64(o.count), o.rate)
			}
			if err := src.generator.Stamp(stampOneIn); err != nil {
				return err
			}
			return src.generator.Stream(ctx, o.rate)
		})
	}()
	if err := <-opened; err != nil {
		cancel()
		return nil, err
	}
	return src, nil
}

// wait waits until all has been sent.
func (s *source) wait() error {
	defer s.cancel()
	return errors.Join(<-s.done, s.generator.Close())
}

// end stops the generator and waits for it.
func (s *source) end() error {
	s.cancel()
	return s.wait()
}

// stop is end, and returns how many packets were sent.
func (s *source) stop() (uint64, error) {
	s.cancel()
	err := <-s.done
	sent, err2 := s.generator.Sent()
	return sent, errors.Join(err, err2, s.generator.Close())
}
