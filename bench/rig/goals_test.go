package rig

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"weir/lb"
)

// forwarded is a series of one run that forwarded so many packets a second of twice as many.
func forwarded(candidate string, load Load, pps uint64) *Series {
	return &Series{candidate, load, []Sample{{Offered: 2 * pps, Forwarded: pps, Took: time.Second, NoLoss: float64(pps)}}}
}

func goalOf(t *testing.T, r *Report, what string) Goal {
	t.Helper()
	r.Judge()
	for _, g := range r.Goals {
		if strings.Contains(g.What, what) {
			return g
		}
	}
	t.Fatalf("no goal %q", what)
	return Goal{}
}

func TestGoalsAreJudgedByTheBestPeer(t *testing.T) {
	nat := DefaultLoad(time.Second)
	nat.Mode, nat.Flows, nat.Search = lb.NAT, 65_536, true
	const what = "NAT, own CPU, 65,536 flows"
	r := &Report{Series: []*Series{forwarded("nftables DNAT, numgen", nat, 1_000_000), forwarded("nftables DNAT, jhash", nat, 900_000),
		forwarded("weir", nat, 1_350_000), forwarded("weir, another build", nat, 5_000_000)}}
	if g := goalOf(t, r, what); g.Measured != "1.35 ×" || !g.Reached || g.Goal != "at least 1.30 ×" {
		t.Errorf("%+v", g)
	}
	r.Series[2].Samples[0].Forwarded = 1_250_000
	if g := goalOf(t, r, what); g.Measured != "1.25 ×" || g.Reached {
		t.Errorf("%+v", g)
	}
	other := nat
	other.Layout = OneCPU
	r.Series[2].Load = other
	if g := goalOf(t, r, what); g.Measured != "" || g.Reached {
		t.Errorf("judged by another load: %+v", g)
	}
}

// A machine that is half as fast in one run than in the others slows both alike; and runs that only one of the two has are left out.
func TestRatiosAreThoseOfTheSameRun(t *testing.T) {
	series := func(candidate string, kpps ...uint64) *Series {
		s := &Series{Candidate: candidate, Load: DefaultLoad(time.Second)}
		for run, n := range kpps {
			if n > 0 {
				s.Samples = append(s.Samples, Sample{Run: run, Forwarded: n * 1000, Took: time.Second})
			}
		}
		return s
	}
	// By itself weir's median is 1,000, and the peer's 800: 1.25.
	r := &Report{Series: []*Series{series("bare AF_XDP", 1000, 800, 400, 2000), series("weir", 1100, 0, 440, 1000)}}
	if g := goalOf(t, r, "best bare AF_XDP forwarder"); g.Measured != "1.10 ×" {
		t.Errorf("%+v", g)
	}
}

func TestACapacityNotFoundIsNone(t *testing.T) {
	load := DefaultLoad(time.Second)
	load.Search = true
	r := &Report{Series: []*Series{forwarded("weir", load, 1_000_000)}}
	r.Series[0].Samples[0].NoLoss = 0
	if g := goalOf(t, r, "that flood"); g.Measured != "" || g.Reached {
		t.Errorf("%+v", g)
	}
}

func TestNothingIsReachedThatWasNotMeasured(t *testing.T) {
	r := &Report{}
	r.Judge()
	if len(r.Goals) < 20 {
		t.Errorf("%d goals", len(r.Goals))
	}
	for _, g := range r.Goals {
		if g.Reached || g.Measured != "" {
			t.Errorf("%+v", g)
		}
	}
	var out bytes.Buffer
	r.Print(&out)
	if n := strings.Count(out.String(), "not measured"); n != len(r.Goals) {
		t.Errorf("%d of %d goals are not measured in\n%s", n, len(r.Goals), out.String())
	}
}

func TestBenchmarksAreReadAsTheyWerePrinted(t *testing.T) {
	const printed = `goos: linux
cpu: AMD EPYC
BenchmarkWorker/mode=NAT/flows=1024-2   	 5000000	        29.00 ns/op	       0 B/op	       0 allocs/op
BenchmarkWorker/mode=NAT/flows=1024-2   	 5000000	        33.00 ns/op	       0 B/op	       0 allocs/op
BenchmarkWorker/mode=NAT/flows=1024-2   	 5000000	        28.00 ns/op	       0 B/op	       0 allocs/op
BenchmarkOpen/mode=DR-2   	 1	       500.0 ns/op	   2000000 connections/s	       1 allocs/op
BenchmarkOpen/mode=NAT-2   	 1	       800.0 ns/op	   1250000 connections/s	       1 allocs/op
BenchmarkOpen/mode=FULLNAT-2   	 1	       1250.0 ns/op	   800000 connections/s	       1 allocs/op
PASS
`
	r := &Report{}
	if err := r.ReadBenchmarks(strings.NewReader(printed)); err != nil {
		t.Fatal(err)
	}
	if g := goalOf(t, r, "NAT, 1,024 flows"); g.Measured != "29 ns" || !g.Reached {
		t.Errorf("%+v", g)
	}
	if g := goalOf(t, r, "allocations"); g.Measured != "0" || !g.Reached {
		t.Errorf("%+v", g)
	}
	if g := goalOf(t, r, "new connections in memory"); g.Measured != "0.80 million/s" || g.Reached {
		t.Errorf("%+v", g)
	}
	if err := r.ReadBenchmarks(strings.NewReader("PASS\n")); err == nil {
		t.Error("no benchmark is no error")
	}
}

func TestAnIdleDirectorIsMeasured(t *testing.T) {
	shares, err := Idle(t.Context(), programs, 10_000, 1, time.Second, func(string) {})
	if err != nil || len(shares) != 1 || shares[0] > 0.5 {
		t.Errorf("%v, %v", shares, err)
	}
}
