package rig

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"weir/lb"
)

// Goal is a figure that weir is to reach, and what a report has of it.
type Goal struct {
	What     string `json:"what"`
	Goal     string `json:"goal"`
	Measured string `json:"measured"` // empty: the report has not what is needed
	Reached  bool   `json:"reached"`
}

// goals collects them.
type goals struct {
	*Report
	list []Goal
}

// Judge compares the medians of a full run with what they are to be; a ratio is the median of what the two had to each other in each run (see
// ratio). There is a row for each goal, also for those not measured.
func (r *Report) Judge() {
	g := &goals{Report: r}
	g.inMemory()
	g.endToEnd()
	g.noLoss()
	g.latency()
	g.overTCP()
	g.many()
	r.Goals = g.list
}

// add judges a value that is to be at least, or with a negative sign at most, the bound; NaN: there is none.
func (g *goals) add(what string, value, bound, sign float64, format string) {
	goal := Goal{What: what, Goal: "at least " + fmt.Sprintf(format, bound)}
	if sign < 0 {
		goal.Goal = "at most " + fmt.Sprintf(format, bound)
	}
	if !math.IsNaN(value) {
		goal.Measured, goal.Reached = fmt.Sprintf(format, value), sign*value >= sign*bound
	}
	g.list = append(g.list, goal)
}

const (
	atLeast = 1.0
	atMost  = -1.0
)

func (g *goals) inMemory() {
	for _, row := range []struct {
		flows int
		ns    float64
	}{{1024, 30}, {65_536, 45}, {1_000_000, 100}} {
		name := fmt.Sprintf("Worker/mode=NAT/flows=%d", row.flows)
		g.add(fmt.Sprintf("worker in memory, NAT, %s flows, a packet", count(row.flows)), g.bench(name, "ns/op"), row.ns, atMost, "%.0f ns")
	}
	worst := math.NaN()
	for _, b := range g.Benchmarks {
		if strings.HasPrefix(b.Name, "Worker/") {
			worst = larger(worst, g.bench(b.Name, "allocs/op"))
		}
	}
	g.add("worker in memory, every mode, allocations a packet", worst, 0, atMost, "%.0f")
}

// bench is NaN where there is no such benchmark.
func (g *goals) bench(name, unit string) float64 {
	if v, ok := g.benchmark(name, unit); ok {
		return v
	}
	return math.NaN()
}

// larger is max, for which NaN is nothing.
func larger(a, b float64) float64 {
	if math.IsNaN(a) || b > a {
		return b
	}
	return a
}

// best returns the series with the largest median among the candidates that word means (isOf), each in its first series under that load, nil if
// there is none; whether a rate was given or searched for does not count.
func (r *Report) best(load Load, word string, figure func(Sample) float64) (found *Series) {
	seen := map[string]bool{}
	for _, s := range r.Series {
		l := s.Load
		l.Rate, l.Search, l.Time = load.Rate, load.Search, load.Time
		if len(s.Samples) > 0 && l == load && isOf(s.Candidate, word) && !seen[s.Candidate] {
			seen[s.Candidate] = true
			if found == nil || s.Median(figure) > found.Median(figure) {
				found = s
			}
		}
	}
	return found
}

// to compares the figures of two series, run by run; NaN where one is missing.
func (s *Series) to(other *Series, figure func(Sample) float64) float64 {
	if s == nil || other == nil {
		return math.NaN()
	}
	return ratio(s.Samples, figure, other.Samples, figure)
}

// isOf reports whether a candidate is meant: weir itself and no other build of it, or what the word begins.
func isOf(candidate, word string) bool {
	return candidate == word || word != "weir" && strings.HasPrefix(candidate, word)
}

func (g *goals) endToEnd() {
	own := DefaultLoad(0)
	g.ratio("DR, own CPU, 1,000 flows: to the best bare AF_XDP forwarder", own, "bare AF_XDP", 0.9)
	nat := own
	nat.Mode, nat.Flows = lb.NAT, 65_536
	g.ratio("NAT, own CPU, 65,536 flows: to nftables DNAT", nat, "nftables DNAT", 1.3)
	full := nat
	full.Mode = lb.FULLNAT
	g.ratio("FULLNAT, own CPU, 65,536 flows: to nftables masquerade", full, "nftables DNAT + masquerade", 1.3)
	one := nat
	one.Layout, one.Flows = OneCPU, 1_000_000
	g.ratio("NAT, all on one CPU, 1,000,000 flows: to nftables DNAT", one, "nftables DNAT", 1.2)
	for _, mode := range []lb.Mode{lb.DR, lb.NAT} {
		four := own
		four.Mode, four.Size = mode, LeastIPv6
		six := four
		six.IPv6 = true
		g.add(fmt.Sprintf("%s, own CPU, 1,000 flows: IPv6 to IPv4", mode), g.best(six, "weir", Sample.Mpps).to(g.best(four, "weir", Sample.Mpps), Sample.Mpps), 0.85, atLeast, "%.2f ×")
	}
	for _, mode := range everyMode {
		few, many := own, own
		few.Mode, many.Mode, many.Flows = mode, mode, 1_000_000
		g.add(fmt.Sprintf("%s, own CPU: 1,000,000 flows to 1,000", mode), g.best(many, "weir", Sample.Mpps).to(g.best(few, "weir", Sample.Mpps), Sample.Mpps), 0.75, atLeast, "%.2f ×")
	}
}

// ratio compares weir with the best peer under the same load.
func (g *goals) ratio(what string, load Load, peer string, bound float64) {
	g.add(what, g.best(load, "weir", Sample.Mpps).to(g.best(load, peer, Sample.Mpps), Sample.Mpps), bound, atLeast, "%.2f ×")
}

func (g *goals) noLoss() {
	noLoss := func(m Sample) float64 { return m.NoLoss / 1e6 }
	searched := func(word string) (found *Series) {
		for _, s := range g.Series {
			if l := s.Load; len(s.Samples) > 0 && l.Search && l.Mode == lb.DR && l.Layout == OwnCPU && l.Arms == 2 && isOf(s.Candidate, word) &&
				(found == nil || s.Median(noLoss) > found.Median(noLoss)) {
				found = s
			}
		}
		return found
	}
	weir := searched("weir")
	g.add("DR, own CPU: highest rate at 0.1 % loss to the bare forwarder's", weir.to(searched("bare AF_XDP"), noLoss), 0.95, atLeast, "%.2f ×")
	flooded, offered := math.NaN(), math.NaN()
	if weir != nil {
		flooded = ratio(weir.Samples, Sample.Mpps, weir.Samples, noLoss)
		offered = ratio(weir.Samples, Sample.OfferedMpps, weir.Samples, noLoss)
	}
	g.add("DR, own CPU: forwarded of a flood, to the highest rate at 0.1 % loss", flooded, 0.9, atLeast, "%.2f ×")
	g.add("that flood, to the same rate", offered, 3, atLeast, "%.1f ×")
}

func (g *goals) latency() {
	p50 := func(m Sample) float64 { return float64(m.Latency.P50) / 1e3 }
	p99 := func(m Sample) float64 { return float64(m.Latency.P99) / 1e3 }
	// The samples of weir and of the best peer.
	samples := func(word string, quantile func(Sample) float64) (best []Sample) {
		least := math.NaN()
		for _, s := range g.Series {
			if l := s.Load; len(s.Samples) > 0 && l.Rate > 0 && l.Mode == lb.NAT && isOf(s.Candidate, word) {
				if us := s.Median(quantile); math.IsNaN(least) || us < least {
					least, best = us, s.Samples
				}
			}
		}
		return best
	}
	minus := func(x, y float64) float64 { return x - y }
	g.add("NAT at half the slower one's rate: p50, more than nftables DNAT's",
		paired(samples("weir", p50), p50, samples("nftables DNAT", p50), p50, minus), 10, atMost, "%.0f us")
	g.add("the same: p99, to nftables DNAT's", ratio(samples("weir", p99), p99, samples("nftables DNAT", p99), p99), 2, atMost, "%.2f ×")
}

func (g *goals) overTCP() {
	samples := func(candidate string) []TCPSample {
		for _, s := range g.TCPSeries {
			if s.Candidate == candidate {
				return s.Samples
			}
		}
		return nil
	}
	requests := func(s TCPSample) float64 { return s.Requests }
	connections := func(s TCPSample) float64 { return s.Connections }
	gbits := func(s TCPSample) float64 { return s.Gbits }
	for _, row := range []struct {
		what, peer string
		figure     func(TCPSample) float64
		bound      float64
	}{
		{"requests a second, kept alive: to a bare AF_XDP wire", wireName, requests, 0.9},
		{"requests a second, a connection each: to a bare AF_XDP wire", wireName, connections, 0.9},
		{"one connection's throughput: to a bare AF_XDP wire", wireName, gbits, 0.9},
		{"new connections a second: to HAProxy", haproxyName, connections, 1},
		{"new connections a second: to nginx stream", nginxName, connections, 1},
	} {
		g.add("TCP through NAT, "+row.what, ratio(samples(weirNATName), row.figure, samples(row.peer), row.figure), row.bound, atLeast, "%.2f ×")
	}
}

func (g *goals) many() {
	slowest := math.NaN()
	for _, mode := range []string{"DR", "NAT", "FULLNAT"} {
		rate := 1e9 / g.bench("Open/mode="+mode, "ns/op") / 1e6
		if math.IsNaN(slowest) || rate < slowest {
			slowest = rate
		}
	}
	g.add("new connections in memory, one worker, the slowest mode", slowest, 1, atLeast, "%.2f million/s")
	entry, process := math.NaN(), math.NaN()
	for _, mode := range []string{"DR", "NAT"} {
		entry = larger(entry, g.bench("Resident/mode="+mode, "B/connection"))
		process = larger(process, g.bench("Resident/mode="+mode, "process-MiB"))
	}
	g.add("10,000,000 connections: memory of each, index included", entry, 128, atMost, "%.0f bytes")
	g.add("10,000,000 connections: the process", process/1024, 2, atMost, "%.2f GiB")
	idle := math.NaN()
	if len(g.Idle) > 0 {
		idle = 100 * median(slices.Clone(g.Idle))
	}
	g.add("idle with 1,000,000 connections: of a CPU", idle, 1, atMost, "%.2f %%")
}

// printGoals writes them as a table.
func printGoals(w io.Writer, list []Goal) {
	fmt.Fprintln(w, "\nWhat is to be reached (medians)")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "goal\t\tmeasured\treached")
	for _, g := range list {
		measured, reached := g.Measured, "no"
		switch {
		case measured == "":
			measured, reached = "-", "not measured"
		case g.Reached:
			reached = "yes"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", g.What, g.Goal, measured, reached)
	}
	t.Flush()
}
