package sched

import (
	"math"
	"net/netip"
	"testing"

	"weir/lb"
)

// TestTwosRecording repeats IPVS's recorded runs many times and asks whether the recorded counts may come from the same
// distribution: chi-square for independent draws, the spread of the repetitions where counts steer the draws.
func TestTwosRecording(t *testing.T) {
	var rec struct {
		Format        string
		Distributions []struct {
			Name, Kind  string
			Weights     []int32
			Connections int
			Received    map[string]int
			None        int
			FinalState  [][]any `json:"final_state"`
		}
	}
	readGzip(t, "testdata/twos.json.gz", &rec)
	if rec.Format != "ipvs-twos-1" || len(rec.Distributions) == 0 {
		t.Fatalf("format %q", rec.Format)
	}
	const repetitions = 40
	for _, d := range rec.Distributions {
		t.Run(d.Name, func(t *testing.T) {
			sum, squares := make([]float64, len(d.Weights)), make([]float64, len(d.Weights))
			for seed := range uint64(repetitions) {
				got, none := twosRun(t, d.Name, d.Kind, d.Weights, d.Connections, seed)
				if none != d.None {
					t.Fatalf("%d connections without a server, in IPVS %d", none, d.None)
				}
				for i, n := range got {
					sum[i] += float64(n)
					squares[i] += float64(n) * float64(n)
				}
			}
			chi := 0.0
			for i := range d.Weights {
				name := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 20, 0, byte(i + 1)}), 80).String()
				recorded, mean := float64(d.Received[name]), sum[i]/repetitions
				if mean > 0 {
					chi += (recorded - mean) * (recorded - mean) / mean
				}
				deviation := math.Sqrt(max(0, squares[i]/repetitions-mean*mean))
				if math.Abs(recorded-mean) > 4*deviation+2 {
					t.Errorf("server %d: %.1f on average, deviation %.1f, in IPVS %.0f", i+1, mean, deviation, recorded)
				}
			}
			if chi > 16.3 { // 0.1% for 3 degrees of freedom, the most there are
				t.Errorf("chi-square %.1f", chi)
			}
		})
	}
}

// twosRun makes the connections of one recorded run and returns how many each server got.
func twosRun(t *testing.T, name, kind string, weights []int32, connections int, seed uint64) (got []int, none int) {
	f := newFarm(weights...)
	if name == "one-busy" {
		f.get(1).Load.Active.Store(100)
	}
	s := f.start(t, "twos").(*twos)
	s.random.Seed(seed, 24)
	got = make([]int, len(weights))
	for i := range connections {
		c := s.Pick(&Request{Flow: lb.Flow{}})
		if c == nil {
			none++
			continue
		}
		got[number(c)-1]++
		switch {
		case kind == "udp" || name == "reset-every-second" && i%2 == 1:
			c.Load.Inactive.Add(1)
		case kind == "tcp":
			c.Load.Active.Add(1)
		}
	}
	return got, none
}
