package rig

import (
	"context"
	"errors"
	"fmt"
	"time"

	"weir/internal/testnet"
	"weir/lb"
)

// Load is what a trial sends, and through what.
type Load struct {
	Layout  Layout
	Mode    lb.Mode
	IPv6    bool `json:",omitempty"`
	Arms    int  // 1 or 2
	Flows   int  // 1 to 1,000,000, all of them known to the director before the clock starts
	Traffic Traffic
	Size    int           // of the frames in bytes, FCS included as in RFC 2544: 64 to 1,518; or IMIX
	Servers int           // among which the flows are balanced
	Rate    float64       // packets per second, with latency; 0: as fast as the generator can
	Search  bool          // also for the highest rate with at most 0.1 % loss
	Time    time.Duration // that is measured
}

// Sample is what a trial measured.
type Sample struct {
	Run       int           `json:"run"`       // of the suite, from 0: samples of one run were taken close together
	Offered   uint64        `json:"offered"`   // packets sent by the generator
	Forwarded uint64        `json:"forwarded"` // packets that reached the sink
	Took      time.Duration `json:"took_ns"`
	CPU       time.Duration `json:"cpu_ns"`            // the director's CPU was busy, by /proc/stat
	Own       time.Duration `json:"own_ns"`            // the director's threads had a CPU; 0 where softirqs forward
	NoLoss    float64       `json:"no_loss_pps"`       // highest rate with at most 0.1 % loss; 0: not searched for
	Latency   *Latency      `json:"latency,omitempty"` // of one packet in eight, at a given rate
	Checked   int           `json:"checked"`           // packets that were looked at and right
	Load      float64       `json:"loadavg"`           // of the machine in the last minute: two busy CPUs are the trial's own
}

// Latency is from when the generator has made a packet to when the sink drops it.
type Latency struct {
	P50, P99, P999, Max time.Duration
	Count               uint64
}

func (s Sample) number() int { return s.Run }

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
func Trial(ctx context.Context, c Candidate, load Load) (Sample, error) {
	return trial(c, load, func(s *setting, run *running) (Sample, error) { return s.measure(ctx, run) })
}

// trial has measure look at a candidate that runs.
func trial(c Candidate, load Load, measure func(*setting, *running) (Sample, error)) (s Sample, err error) {
	cpu, err := directorCPU(load.Layout)
	if err != nil {
		return s, err
	}
	if err := pinSelf(generatorCPU); err != nil {
		return s, err
	}
	err = testnet.Run(func(r testnet.Reporter) error {
		set := newSetting(r, load, cpu)
		run, err := c.start(set)
		if err != nil {
			return err
		}
		s, err = measure(set, run)
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

func newSetting(r testnet.Reporter, load Load, cpu int) *setting {
	listed := load.servers()
	return &setting{network: build(r, load.Arms, listed), Load: load, reporter: r, cpu: cpu, listed: listed}
}

const (
	// settle is how long the load has run when the clock starts.
	settle = 200 * time.Millisecond
	// drain is how long packets on their way are waited for.
	drain = 30 * time.Millisecond
)

func (s *setting) measure(ctx context.Context, run *running) (m Sample, err error) {
	if err := s.warmUp(ctx); err != nil {
		return m, err
	}
	if s.Rate > 0 {
		m, err = s.paced(ctx, run, s.Rate, s.Time)
	} else {
		m, err = s.flood(ctx, run)
	}
	if err != nil {
		return m, err
	}
	if all, err := s.sink.Total(); err != nil || all.Packets == 0 {
		return m, errors.Join(err, errors.New("not a packet reached the servers"))
	}
	if s.Search {
		if m.NoLoss, err = s.search(ctx, run, m.Mpps()*1e6); err != nil {
			return m, err
		}
	}
	m.Load = loadAverage()
	m.Checked, err = s.check(run)
	return m, err
}

// flood measures a stretch in the middle of a load without end.
func (s *setting) flood(ctx context.Context, run *running) (m Sample, err error) {
	src, err := s.send(ctx, order{packets: s.packets()})
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
	sleep(ctx, drain)
	return m.since(before), nil
}

// paced measures a load from its first packet to its last: every loss is one of the director.
func (s *setting) paced(ctx context.Context, run *running, rate float64, t time.Duration) (m Sample, err error) {
	hist, err := s.sink.Latency()
	if err != nil {
		return m, err
	}
	before, err := s.read(nil, run)
	if err != nil {
		return m, err
	}
	src, err := s.send(ctx, order{packets: s.packets(), rate: rate, even: true})
	if err != nil {
		return m, err
	}
	sleep(ctx, t)
	sent, err := src.stop()
	if err != nil {
		return m, errors.Join(err, ctx.Err())
	}
	took := time.Since(epoch) - before.Took
	sleep(ctx, drain)
	if m, err = s.read(nil, run); err != nil {
		return m, errors.Join(err, ctx.Err())
	}
	after, err := s.sink.Latency()
	if err != nil {
		return m, err
	}
	m = m.since(before)
	m.Offered, m.Took = sent, took
	hist = after.Sub(hist)
	m.Latency = &Latency{P50: hist.Quantile(0.5), P99: hist.Quantile(0.99), P999: hist.Quantile(0.999), Max: hist.Quantile(1), Count: hist.Count()}
	return m, ctx.Err()
}

const (
	tolerated  = 0.001 // RFC 2544 asks for none; virtual machines lose a millisecond now and then
	searchTime = 300 * time.Millisecond
	searchStep = 0.02 // to what share of the rate it is known in the end
)

// search finds the highest rate with no more loss than is tolerated, by halving (RFC 2544 26.1). A rate that fails is tried once more: on a
// virtual machine a CPU is away for some milliseconds now and then, which says nothing about the director.
func (s *setting) search(ctx context.Context, run *running, flooded float64) (float64, error) {
	low, high := 0.0, flooded*1.15
	for high-low > searchStep*high && ctx.Err() == nil {
		rate := (low + high) / 2
		if low == 0 {
			rate = flooded * 0.9
		}
		passed := 0.0
		for range 2 {
			m, err := s.paced(ctx, run, rate, searchTime)
			if err != nil {
				return 0, err
			}
			if m.Loss() <= tolerated {
				passed = m.OfferedMpps() * 1e6
				break
			}
		}
		switch {
		case passed == 0 && low == 0:
			high, flooded = rate, flooded*0.7
		case passed == 0:
			high = rate
		case passed < rate*0.97: // the generator cannot keep more
			return passed, nil
		default:
			low = rate
		}
		if high < 1000 {
			return 0, ctx.Err()
		}
	}
	return low, ctx.Err()
}

var epoch = time.Now()

// read takes all counters, the two that matter most close together. Without a source, what was offered is left out.
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
	if src != nil {
		m.Offered, err = src.generator.Sent()
	}
	return m, err
}

func (s Sample) since(before Sample) Sample {
	s.Offered -= before.Offered
	s.Forwarded -= before.Forwarded
	s.Took -= before.Took
	s.CPU -= before.CPU
	s.Own -= before.Own
	return s
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
