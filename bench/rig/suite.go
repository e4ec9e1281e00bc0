package rig

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Suite makes comparisons: all candidates take turns, so that what the machine is busy with hits all alike, and every other run goes backwards,
// so that a machine which becomes steadily slower or faster favours none.
type Suite struct {
	Plan []Comparison
	Runs int
	// Trial measures a candidate once; nil: the package's own.
	Trial func(context.Context, Candidate, Load) (Sample, error)
}

// Series are the samples of one candidate under one load.
type Series struct {
	Candidate string   `json:"candidate"`
	Load      Load     `json:"load"`
	Samples   []Sample `json:"samples"`
}

// Median returns the middle of a figure over the samples.
func (s *Series) Median(figure func(Sample) float64) float64 {
	var all []float64
	for _, sample := range s.Samples {
		all = append(all, figure(sample))
	}
	return median(all)
}

// ratio is the median, over the runs in which both were measured, of a figure of a's to one of b's: what the machine was busy with in a run has
// slowed both. NaN: there is no such run.
func ratio[A, B runner](a []A, ofA func(A) float64, b []B, ofB func(B) float64) float64 {
	return paired(a, ofA, b, ofB, func(x, y float64) float64 { return x / y })
}

// paired is the median of what both make of the two figures of a run. A figure of 0 was not found, and is left out.
func paired[A, B runner](a []A, ofA func(A) float64, b []B, ofB func(B) float64, both func(x, y float64) float64) float64 {
	var all []float64
	for _, one := range a {
		for _, other := range b {
			if one.number() == other.number() && ofB(other) != 0 {
				all = append(all, both(ofA(one), ofB(other)))
			}
		}
	}
	if len(all) == 0 {
		return math.NaN()
	}
	return median(all)
}

// runner is a sample of either kind.
type runner interface{ number() int }

func median(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	if n := len(all); n%2 == 0 {
		return (all[n/2-1] + all[n/2]) / 2
	}
	return all[len(all)/2]
}

// Report is what a suite measured, and where.
type Report struct {
	Machine string    `json:"machine"`
	Kernel  string    `json:"kernel"`
	Begin   time.Time `json:"begin"`
	Took    float64   `json:"took_s"`
	Runs    int       `json:"runs"`
	Series  []*Series `json:"series"`

	TCPSeries  []*TCPSeries `json:"tcp,omitempty"`
	Idle       []float64    `json:"idle,omitempty"` // share of a CPU that weir uses with a million connections and no packet, 0 to 1
	Benchmarks []*Benchmark `json:"benchmarks,omitempty"`
	Goals      []Goal       `json:"goals,omitempty"`
}

// Run makes all trials and tells progress about each. A trial that fails is one sample less; when ctx ends, the rest is left out. What there is
// is returned with the errors.
func (s *Suite) Run(ctx context.Context, progress func(string)) (*Report, error) {
	trial := s.Trial
	if trial == nil {
		trial = Trial
	}
	r := &Report{Begin: time.Now(), Runs: s.Runs}
	r.Machine, r.Kernel = machine()
	defer func() { r.Took = time.Since(r.Begin).Seconds() }()
	type place struct {
		Candidate
		*Series
	}
	var all []place
	var errs []error
	for _, comparison := range s.Plan {
		for _, c := range comparison.Candidates {
			series := &Series{Candidate: c.Name, Load: comparison.Load}
			all, r.Series = append(all, place{c, series}), append(r.Series, series)
		}
	}
	for run := range s.Runs {
		for i := range all {
			done := run*len(all) + i
			p := all[i]
			if run%2 == 1 {
				p = all[len(all)-1-i]
			}
			left := "?"
			if done > 0 {
				left = (time.Since(r.Begin) / time.Duration(done) * time.Duration(s.Runs*len(all)-done)).Round(time.Second).String()
			}
			progress(fmt.Sprintf("run %d of %d: %s, %s (%s left)", run+1, s.Runs, p.Series.Load, p.Name, left))
			sample, err := trial(ctx, p.Candidate, p.Series.Load)
			if err != nil {
				errs = append(errs, err)
				if ctx.Err() != nil {
					return r, errors.Join(errs...)
				}
				continue
			}
			sample.Run = run
			p.Samples = append(p.Samples, sample)
		}
	}
	return r, errors.Join(errs...)
}

// Add appends what a later suite measured.
func (r *Report) Add(later *Report) {
	r.Series = append(r.Series, later.Series...)
	r.Took += later.Took
}
