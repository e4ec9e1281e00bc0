package rig

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"weir/bpf"
	"weir/internal/testnet"
	"weir/internal/testpkt"
	"weir/lb"
)

// Load is what a trial sends, and through what.
type Load struct {
	Mode    lb.Mode
	Arms    int           // 1 or 2
	Flows   int           // 1 to 1,000,000, all of them known to the director before the clock starts
	Size    int           // of the frames in bytes, FCS included as in RFC 2544: 64 to 1,518
	Rate    float64       // packets per second; 0: as fast as the generator can
	Servers int           // among which the flows are balanced
	Time    time.Duration // that is measured
	Layout  Layout
}

// Sample is what a trial measured.
type Sample struct {
	Offered   uint64        `json:"offered"`   // packets sent by the generator
	Forwarded uint64        `json:"forwarded"` // packets that reached the sink
	Took      time.Duration `json:"took_ns"`
	CPU       time.Duration `json:"cpu_ns"`  // the director's CPU was busy, by /proc/stat
	Own       time.Duration `json:"own_ns"`  // the director's threads had a CPU; 0 where softirqs forward
	Load      float64       `json:"loadavg"` // of the machine: with more than about 2 of what the trial itself needs, others were at work
}

// Mpps returns what was forwarded, in millions of packets per second.
func (s Sample) Mpps() float64 { return float64(s.Forwarded) / s.Took.Seconds() / 1e6 }

// OfferedMpps is the generator's rate.
func (s Sample) OfferedMpps() float64 { return float64(s.Offered) / s.Took.Seconds() / 1e6 }

// Loss is the share of what was offered that did not arrive, 0 to 1.
func (s Sample) Loss() float64 {
	if s.Forwarded >= s.Offered {
		return 0
	}
	return 1 - float64(s.Forwarded)/float64(s.Offered)
}

// CPUNanos is the director's CPU time for each packet forwarded.
func (s Sample) CPUNanos() float64 { return float64(s.CPU) / max(1, float64(s.Forwarded)) }

// OwnNanos is the same of its threads alone.
func (s Sample) OwnNanos() float64 { return float64(s.Own) / max(1, float64(s.Forwarded)) }

// Trial measures one candidate once.
func Trial(ctx context.Context, c Candidate, load Load) (s Sample, err error) {
	cpu, err := directorCPU(load.Layout)
	if err != nil {
		return s, err
	}
	if err := pinSelf(generatorCPU); err != nil {
		return s, err
	}
	err = testnet.Run(func(r testnet.Reporter) error {
		listed := serverList(load.Servers)
		set := &setting{network: build(r, load.Arms, listed), Load: load, cpu: cpu, listed: listed, serverMAC: listed[0].mac.String()}
		run, err := c.start(set)
		if err != nil {
			return err
		}
		s, err = set.measure(ctx, run)
		if run.stop != nil {
			err = errors.Join(err, run.stop())
		}
		return err
	})
	if err != nil {
		return s, fmt.Errorf("%s: %w", c.Name, err)
	}
	return s, nil
}

// packet returns what the generator sends copies of.
func (s *setting) packet() []byte {
	return testpkt.UDP(firstClient, vip).From(gatewayMAC).To(s.front.MAC).Size(s.Size - 4).Bytes()
}

const (
	// warmUpRate is slow enough for any candidate to open a connection for each flow without loss.
	warmUpRate = 300_000
	// settle is how long the load has run when the clock starts.
	settle = 200 * time.Millisecond
	// drain is how long packets on their way are waited for.
	drain = 50 * time.Millisecond
)

// source is a generator that sends, in a goroutine of its own.
type source struct {
	*bpf.Generator
	cancel context.CancelFunc
	done   chan error
}

// send starts the generator: count packets, or without end.
func (s *setting) send(ctx context.Context, count uint64, rate float64) (*source, error) {
	ctx, cancel := context.WithCancel(ctx)
	src := &source{cancel: cancel, done: make(chan error, 1)}
	opened := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread's priority ends with it
		src.done <- s.clients.Do(func() error {
			g, err := bpf.NewGenerator(s.in.Index, s.packet(), s.Flows)
			src.Generator = g
			opened <- err
			if err != nil {
				return err
			}
			return g.Run(ctx, count, rate)
		})
	}()
	if err := <-opened; err != nil {
		cancel()
		return nil, err
	}
	return src, nil
}

// end stops the generator and waits for it.
func (s *source) end() error {
	s.cancel()
	return errors.Join(<-s.done, s.Close())
}

func (s *setting) measure(ctx context.Context, run *running) (m Sample, err error) {
	warm, err := s.send(ctx, uint64(max(s.Flows, 1000)), warmUpRate)
	if err != nil {
		return m, err
	}
	if err := errors.Join(<-warm.done, warm.Close()); err != nil {
		return m, err
	}
	src, err := s.send(ctx, 0, s.Rate)
	if err != nil {
		return m, err
	}
	sleep(ctx, settle)
	before, err := s.read(src, run)
	if err == nil {
		sleep(ctx, s.Time)
		m, err = s.read(src, run)
	}
	if err := errors.Join(err, ctx.Err(), src.end()); err != nil {
		return m, err
	}
	m.Offered -= before.Offered
	m.Forwarded -= before.Forwarded
	m.Took -= before.Took
	m.CPU -= before.CPU
	m.Own -= before.Own
	m.Load = loadAverage()
	if m.Forwarded == 0 {
		return m, fmt.Errorf("nothing of %d packets reached the servers", m.Offered)
	}
	return m, nil
}

var epoch = time.Now()

// read takes all counters, the two that matter most close together.
func (s *setting) read(src *source, run *running) (m Sample, err error) {
	if m.CPU, err = busyTime(s.cpu); err != nil {
		return m, err
	}
	m.Own = threadTime(run.pids)
	count, err := s.sink.Total()
	if err != nil {
		return m, err
	}
	m.Took, m.Forwarded = time.Since(epoch), count.Packets
	m.Offered, err = src.Sent()
	return m, err
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
