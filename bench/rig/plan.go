package rig

import (
	"slices"
	"strings"
	"time"

	"weir/lb"
)

// Comparison is candidates under one load.
type Comparison struct {
	Load       Load
	Candidates []Candidate
}

// All returns every candidate that knows the mode and the traffic and is not Absent, limits first, weir last.
func All(p Programs, mode lb.Mode, traffic Traffic) []Candidate {
	all := []Candidate{
		Redirect,
		Bare(p.Bare, "bare AF_XDP, as it comes"),
		Bare(p.Bare, "bare AF_XDP, bursts of 64", "--burst", "64"),
		Bare(p.Bare, "bare AF_XDP, bursts of 256", "--burst", "256"),
		IPForward,
		StatelessDR,
		DNAT("nftables DNAT, numgen", "numgen inc"),
		DNAT("nftables DNAT, jhash", "jhash ip saddr . udp sport"),
		Masquerade,
		IPVS,
		Weir(p.Weir, "weir"),
	}
	for _, path := range p.Against {
		all = append(all, Weir(path, "weir, "+path))
	}
	return slices.DeleteFunc(all, func(c Candidate) bool {
		return !slices.Contains(c.Modes, mode) || c.UDPOnly && traffic != UDP ||
			c.absent != nil && c.absent() != nil
	})
}

// For returns those of All that know the load.
func For(p Programs, l Load) []Candidate {
	return slices.DeleteFunc(All(p, l.Mode, l.Traffic), func(c Candidate) bool { return l.IPv6 && !c.IPv6 })
}

// Only leaves those candidates whose names contain one of the words, all when there are none, and those comparisons that have any then.
func Only(plan []Comparison, words ...string) (left []Comparison) {
	for _, c := range plan {
		if c.Candidates = named(c.Candidates, words...); len(c.Candidates) > 0 {
			left = append(left, c)
		}
	}
	return left
}

func named(all []Candidate, words ...string) []Candidate {
	return slices.DeleteFunc(slices.Clone(all), func(c Candidate) bool { return !matches(c.Name, words) })
}

func matches(name string, words []string) bool {
	return len(words) == 0 || slices.ContainsFunc(words, func(w string) bool { return strings.Contains(name, w) })
}

// Quick leaves what takes seconds: no search, and no comparison of a million flows.
func Quick(plan []Comparison) (left []Comparison) {
	for _, c := range plan {
		if c.Load.Search = false; c.Load.Flows < 1_000_000 {
			left = append(left, c)
		}
	}
	return left
}

// DefaultLoad is what a load is where nothing else is said.
func DefaultLoad(t time.Duration) Load {
	return Load{Layout: OwnCPU, Mode: lb.DR, Arms: 2, Flows: 1000, Traffic: UDP, Size: 64, Servers: 8, Time: t}
}

// Full is the plan of `make bench`: what weir is to be measured by.
func Full(p Programs, t time.Duration) (plan []Comparison) {
	add := func(c []Candidate, change func(*Load)) {
		load := DefaultLoad(t)
		change(&load)
		plan = append(plan, Comparison{load, c})
	}
	weir := named(All(p, lb.DR, UDP), "weir")
	// A million flows beside the same candidate's own figure with few, one right after the other.
	many := func(mode lb.Mode) { add(weir, func(l *Load) { l.Mode, l.Flows = mode, 1_000_000 }) }
	// In DR beside the limits; the highest rate without loss beside that of the best bare forwarder.
	add(All(p, lb.DR, UDP), func(*Load) {})
	many(lb.DR)
	add(named(All(p, lb.DR, UDP), "bursts of 256", "weir"), func(l *Load) { l.Search = true })
	add(named(All(p, lb.DR, UDP), "bare", "weir"), func(l *Load) { l.Arms = 1 })
	// NAT and FULLNAT beside netfilter.
	add(All(p, lb.NAT, UDP), func(l *Load) { l.Mode, l.Flows, l.Search = lb.NAT, 65_536, true })
	add(All(p, lb.FULLNAT, UDP), func(l *Load) { l.Mode, l.Flows = lb.FULLNAT, 65_536 })
	add(All(p, lb.NAT, UDP), func(l *Load) { l.Mode = lb.NAT })
	many(lb.NAT)
	for _, mode := range []lb.Mode{lb.FULLNAT, lb.TUN} {
		add(weir, func(l *Load) { l.Mode = mode })
		many(mode)
	}
	// All on one CPU.
	for _, flows := range []int{1000, 65_536, 1_000_000} {
		add(All(p, lb.NAT, UDP), func(l *Load) { l.Mode, l.Flows, l.Layout = lb.NAT, flows, OneCPU })
	}
	// IPv6 beside IPv4, in frames of one size.
	for _, mode := range []lb.Mode{lb.DR, lb.NAT} {
		for _, six := range []bool{false, true} {
			add(weir, func(l *Load) { l.Mode, l.IPv6, l.Size = mode, six, LeastIPv6 })
		}
	}
	return plan
}

// AtHalf is the plan of latencies: weir and nftables in NAT, both at half of the slower one's highest rate without loss, as an earlier report
// has it. None when it has not.
func AtHalf(r *Report, p Programs, t time.Duration) []Comparison {
	slowest := 0.0
	var load Load
	for _, s := range r.Series {
		if !s.Load.Search || s.Load.Mode != lb.NAT || len(s.Samples) == 0 {
			continue
		}
		if rate := s.Median(func(m Sample) float64 { return m.NoLoss }); slowest == 0 || rate < slowest {
			slowest, load = rate, s.Load
		}
	}
	if slowest == 0 {
		return nil
	}
	load.Rate, load.Search, load.Time = slowest/2, false, t
	return []Comparison{{load, All(p, lb.NAT, UDP)}}
}
