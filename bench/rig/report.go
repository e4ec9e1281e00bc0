package rig

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// String says what a load is, in the order of the table's head.
func (l Load) String() string {
	rate := "flood"
	if l.Rate > 0 {
		rate = fmt.Sprintf("%.2f Mpps", l.Rate/1e6)
	}
	arms := map[int]string{1: "one arm", 2: "two arms"}[l.Arms]
	size := "IMIX"
	if l.Size != IMIX {
		size = fmt.Sprintf("%d B", l.Size)
	}
	if l.Traffic != UDP {
		size = string(l.Traffic) + " " + size
	}
	if l.IPv6 {
		size = "IPv6 " + size
	}
	return fmt.Sprintf("%s, %s, %s, %s flows, %s, %s", l.Layout, l.Mode, arms, count(l.Flows), size, rate)
}

// count writes 1000000 as 1,000,000.
func count(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Print writes a table for each load: medians, and what each candidate forwards beside the first one.
func (r *Report) Print(w io.Writer) {
	fmt.Fprintf(w, "%s, Linux %s, %s; medians of %d runs\n", r.Machine, r.Kernel, r.Begin.UTC().Format("2006-01-02 15:04 UTC"), r.Runs)
	var t *tabwriter.Writer
	var first *Series
	for _, s := range r.Series {
		if len(s.Samples) == 0 {
			continue
		}
		if first == nil || s.Load != first.Load {
			if t != nil {
				t.Flush()
			}
			first = s
			fmt.Fprintf(w, "\n%s\n", s.Load)
			t = tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
			fmt.Fprintln(t, "\toffered Mpps\tforwarded Mpps\tlow - high\tloss\tCPU ns/packet\tof its threads\tno-loss Mpps\tp50\tp99\tp99.9\tmax\tratio\tloadavg\t")
		}
		low, high := s.Samples[0].Mpps(), s.Samples[0].Mpps()
		for _, m := range s.Samples {
			low, high = min(low, m.Mpps()), max(high, m.Mpps())
		}
		mpps := s.Median(Sample.Mpps)
		fmt.Fprintf(t, "%s\t%.2f\t%.3f\t%.3f - %.3f\t%.2f %%\t%.0f\t%.0f\t%s\t%s\t%.2f\t%.1f\t\n", s.Candidate, s.Median(Sample.OfferedMpps), mpps, low, high,
			100*s.Median(Sample.Loss), s.Median(Sample.CPUNanos), s.Median(Sample.OwnNanos), s.noLoss(), s.latency(), mpps/first.Median(Sample.Mpps),
			s.Median(func(m Sample) float64 { return m.Load }))
	}
	if t != nil {
		t.Flush()
	}
	if len(r.TCPSeries) > 0 {
		r.printTCP(w)
	}
	if len(r.Goals) > 0 {
		printGoals(w, r.Goals)
	}
}

func (r *Report) printTCP(w io.Writer) {
	fmt.Fprintln(w, "\nTCP, two arms, all CPUs; wrk with 64 connections, iperf3 with one")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\trequests/s\tnew connections/s\tGbit/s\tloadavg\t")
	for _, s := range r.TCPSeries {
		fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.2f\t%.1f\t\n", s.Candidate, s.Median(func(m TCPSample) float64 { return m.Requests }),
			s.Median(func(m TCPSample) float64 { return m.Connections }), s.Median(func(m TCPSample) float64 { return m.Gbits }),
			s.Median(func(m TCPSample) float64 { return m.Load }))
	}
	t.Flush()
}

// noLoss and latency are a table's cells: "-" where it was not measured.
func (s *Series) noLoss() string {
	if !s.Load.Search {
		return "-"
	}
	return fmt.Sprintf("%.3f", s.Median(func(m Sample) float64 { return m.NoLoss / 1e6 }))
}

func (s *Series) latency() string {
	if s.Samples[0].Latency == nil {
		return "-\t-\t-\t-"
	}
	var cells []string
	for _, get := range []func(*Latency) time.Duration{
		func(l *Latency) time.Duration { return l.P50 },
		func(l *Latency) time.Duration { return l.P99 },
		func(l *Latency) time.Duration { return l.P999 },
		func(l *Latency) time.Duration { return l.Max },
	} {
		us := s.Median(func(m Sample) float64 { return float64(get(m.Latency)) / 1e3 })
		cells = append(cells, fmt.Sprintf("%.1f us", us))
	}
	return strings.Join(cells, "\t")
}

// JSON writes the report with every sample.
func (r *Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// machine returns what a figure depends on.
func machine() (cpu, kernel string) {
	b, _ := os.ReadFile("/proc/cpuinfo")
	cpu = "unknown CPU"
	for line := range strings.Lines(string(b)) {
		if name, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(name) == "model name" {
			cpu = strings.TrimSpace(value)
			break
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		kernel = unix.ByteSliceToString(u.Release[:])
	}
	return fmt.Sprintf("%s, %d CPUs", cpu, runtime.NumCPU()), kernel
}
