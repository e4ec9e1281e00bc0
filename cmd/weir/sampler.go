package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"weir/control/api"
	"weir/control/web"
	"weir/dataplane"
	"weir/dataplane/reason"
)

// sampler remembers what the workers had counted a moment ago, so that a status can say how much it is a second.
type sampler struct {
	workers []*sampledWorker // complete before the first sample

	mu       sync.Mutex
	at       time.Time     // of the latest sample
	interval time.Duration // between the two latest
}

type sampledWorker struct {
	worker *dataplane.Worker
	thread atomic.Int32 // its kernel thread; 0 until it runs
	cpu    int          // where it is pinned, or anyCPU

	// Guarded by sampler.mu: the latest sample, and its difference to the one before.
	last, change       dataplane.Counters
	lastCPU, changeCPU time.Duration
}

// worker adds a worker, pinned to a CPU or to none; its thread is to be stored when it is known.
func (s *sampler) worker(w *dataplane.Worker, cpu int) *atomic.Int32 {
	v := &sampledWorker{worker: w, cpu: cpu}
	s.workers = append(s.workers, v)
	return &v.thread
}

// sample is to be called every few seconds.
func (s *sampler) sample(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.at.IsZero() {
		s.interval = now.Sub(s.at)
	}
	s.at = now
	for _, w := range s.workers {
		count, cpu := w.worker.Counters(), cpuTime(w.thread.Load())
		w.change = count
		w.change.Sub(w.last)
		w.changeCPU = cpu - w.lastCPU
		w.last, w.lastCPU = count, cpu
	}
}

// cpuTime returns the CPU time that a thread of this process has used (Documentation/scheduler/sched-stats.rst), 0 if unknown.
func cpuTime(thread int32) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/schedstat", thread))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), " ")
	ns, err := strconv.ParseInt(first, 10, 64)
	if err != nil {
		return 0
	}
	return time.Duration(ns)
}

// fill writes workers, packets and reasons into a status.
func (s *sampler) fill(out *api.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seconds := s.interval.Seconds()
	perSecond := func(n uint64) uint64 {
		if seconds == 0 {
			return 0
		}
		return uint64(float64(n)/seconds + 0.5)
	}
	var sum, change dataplane.Counters
	for i, w := range s.workers {
		now := w.worker.Counters()
		sum.Add(now)
		change.Add(w.change)
		v := api.Worker{Number: i, Received: now.Received, Batches: now.Batches, PerSecond: perSecond(w.change.Received)}
		if now.Batches > 0 {
			v.Batch = float64(now.Received) / float64(now.Batches)
		}
		if seconds > 0 {
			v.CPU = min(1, w.changeCPU.Seconds()/seconds)
		}
		if w.cpu != anyCPU {
			v.PinnedTo = &w.cpu
		}
		out.Workers = append(out.Workers, v)
	}
	out.Packets = packets(&sum, func(n uint64) uint64 { return n })
	out.PerSecond = packets(&change, perSecond)
	out.Stops = []api.Stop{}
	for _, stop := range sum.Stops() {
		r := stop.Reason
		out.Stops = append(out.Stops, api.Stop{Reason: r.String(), Packets: stop.Count, PerSecond: perSecond(change.Reasons[r]), ToHost: r.ToHost(), Help: r.Help()})
	}
	slices.SortStableFunc(out.Stops, func(a, b api.Stop) int {
		return cmp.Or(cmp.Compare(b.PerSecond, a.PerSecond), cmp.Compare(b.Packets, a.Packets))
	})
}

// totals is what all workers have counted.
func (s *sampler) totals() (t web.Totals) {
	var sum dataplane.Counters
	for _, w := range s.workers {
		sum.Add(w.worker.Counters())
	}
	t.Traffic = api.Traffic{Conns: sum.Connections, InPackets: sum.ToServer, OutPackets: sum.ToClient, InBytes: sum.BytesIn, OutBytes: sum.BytesOut}
	for _, stop := range sum.Stops() {
		if !stop.Reason.ToHost() && stop.Reason != reason.FragmentHeld { // held is not dropped yet
			t.Dropped += stop.Count
		}
	}
	return t
}

func packets(c *dataplane.Counters, f func(uint64) uint64) api.Packets {
	return api.Packets{
		Received: f(c.Received), ToServer: f(c.ToServer), ToClient: f(c.ToClient), ToHost: f(c.ToHost), Answered: f(c.Answered),
		BytesIn: f(c.BytesIn), BytesOut: f(c.BytesOut), Connections: f(c.Connections),
	}
}
