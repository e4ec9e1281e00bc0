package rig

import (
	"fmt"
	"io"
	"regexp"

	"golang.org/x/perf/benchfmt"
)

// Benchmark is what one of the benchmarks in memory printed, each of its units with every value: "ns/op", "allocs/op" and its own.
type Benchmark struct {
	Name   string               `json:"name"` // without Benchmark and the number of CPUs
	Values map[string][]float64 `json:"values"`
}

// cpusOfName is what the testing package appends to a benchmark's name.
var cpusOfName = regexp.MustCompile(`-\d+$`)

// ReadBenchmarks adds what `go test -bench` has printed.
func (r *Report) ReadBenchmarks(in io.Reader) error {
	known := map[string]*Benchmark{}
	reader := benchfmt.NewReader(in, "benchmarks")
	for reader.Scan() {
		switch line := reader.Result().(type) {
		case *benchfmt.SyntaxError:
			return line
		case *benchfmt.Result:
			name := cpusOfName.ReplaceAllString(string(line.Name), "")
			b := known[name]
			if b == nil {
				b = &Benchmark{Name: name, Values: map[string][]float64{}}
				known[name], r.Benchmarks = b, append(r.Benchmarks, b)
			}
			for _, v := range line.Values {
				value, unit := v.Value, v.Unit
				if v.OrigUnit != "" { // as it was printed, not in seconds
					value, unit = v.OrigValue, v.OrigUnit
				}
				b.Values[unit] = append(b.Values[unit], value)
			}
		}
	}
	if err := reader.Err(); err != nil {
		return err
	}
	if len(known) == 0 {
		return fmt.Errorf("no benchmark in what go test printed")
	}
	return nil
}

// benchmark returns the median of a unit, and whether there is one.
func (r *Report) benchmark(name, unit string) (float64, bool) {
	for _, b := range r.Benchmarks {
		if values := b.Values[unit]; b.Name == name && len(values) > 0 {
			return median(append([]float64(nil), values...)), true
		}
	}
	return 0, false
}
