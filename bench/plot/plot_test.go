package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/bench/rig"
	"weir/lb"
)

// report writes a report of the given series and returns its path.
func report(t *testing.T, series ...*rig.Series) string {
	t.Helper()
	b, err := json.Marshal(rig.Report{Machine: "a machine", Kernel: "7.0", Series: series})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "report.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func series(candidate string, flows int, rate float64, forwarded ...uint64) *rig.Series {
	l := rig.DefaultLoad(time.Second)
	l.Mode, l.Flows, l.Rate = lb.NAT, flows, rate
	s := &rig.Series{Candidate: candidate, Load: l}
	for _, n := range forwarded {
		sample := rig.Sample{Offered: 2 * n, Forwarded: n, Took: time.Second}
		if rate > 0 {
			sample.Latency = &rig.Latency{P50: 5 * time.Microsecond, P99: 40 * time.Microsecond, P999: time.Millisecond, Max: 2 * time.Millisecond, Count: n}
		}
		s.Samples = append(s.Samples, sample)
	}
	return s
}

// textIn returns the text in an SVG, which it thereby shows to be XML.
func textIn(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all strings.Builder
	d := xml.NewDecoder(f)
	for {
		token, err := d.Token()
		if err == io.EOF {
			return all.String()
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if chars, ok := token.(xml.CharData); ok {
			all.Write(chars)
		}
	}
}

func TestFiguresShowWhatWasMeasured(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "plots")
	first := report(t, series("IPVS", 1000, 0, 800_000), series("weir", 1000, 0, 1_000_000), series("weir", 65_536, 0, 900_000))
	// The same load again, so that the median is between the runs; and one of a given rate.
	second := report(t, series("weir", 1000, 0, 1_200_000), series("weir", 1000, 250_000, 250_000))
	if err := run([]string{"-o", dir, first, second}, io.Discard); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"rate.svg":    {"a machine, Linux 7.0", "IPVS", "weir", "NAT, 1,000 flows, 64-byte UDP", "0.80", "1.10", "million packets per second"},
		"latency.svg": {"weir", "0.25 Mpps", "p50", "p99.9", "microseconds"},
		"flows.svg":   {"weir, NAT", "flows", "10k"},
	} {
		got := textIn(t, filepath.Join(dir, name))
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s does not show %q: %s", name, w, got)
			}
		}
	}
	if got := textIn(t, filepath.Join(dir, "flows.svg")); strings.Contains(got, "IPVS") {
		t.Errorf("flows.svg shows a candidate that was measured with one number of flows: %s", got)
	}
}

func TestWhatNoReportHasIsLeftOut(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	if err := run([]string{"-o", dir, report(t, series("weir", 1000, 0, 1_000_000), series("IPVS", 1000, 0, 1))}, &out); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "latency.svg")); err == nil || !strings.Contains(out.String(), "latency.svg is left out") {
		t.Errorf("%v, %s", err, out.String())
	}
}

func TestMistakesAreNamed(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken.json")
	if err := os.WriteFile(broken, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"want a report":   nil,
		"broken.json":     {broken},
		"no such file":    {"/nowhere.json"},
		"have no samples": {report(t)},
		"--loud":          {"--loud"},
	} {
		if err := run(append([]string{"-o", t.TempDir()}, args...), io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", args, err)
		}
	}
}
