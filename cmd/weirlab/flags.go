package main

import (
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"weir/bench/rig"
	"weir/internal/complete"
)

// labWords are flags of demo, up and down as they were given.
type labWords struct {
	weir, family string
	help         bool
}

// labFlags are those of all commands but bench and changes.
func labFlags() (*pflag.FlagSet, *labWords) {
	w := &labWords{}
	fs := pflag.NewFlagSet("weirlab", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&w.weir, "weir", "", "`PATH` of the weir to run (default: the one beside this program)")
	fs.StringVar(&w.family, "family", "4", "IP `VERSION` that demo shows: 4, 6 or both")
	fs.BoolVarP(&w.help, "help", "h", false, "print this help and exit")
	complete.Allow(fs, "family", "4", "6", "both")
	return fs, w
}

// versions returns what --family names, nil if it is nothing.
func (w *labWords) versions() []int {
	return map[string][]int{"4": {4}, "6": {6}, "both": {4, 6}}[w.family]
}

// benchWords are flags of bench as they were given: read when all are known.
type benchWords struct {
	weir, bare, layout, mode, family, traffic, size string
	quick, help                                     bool
}

// versions returns what --family names, nil if it is nothing.
func (w *benchWords) versions() []int { return (&labWords{family: w.family}).versions() }

// benchFlags are bench's; what needs no reading goes to o and l.
func benchFlags(o *benchOptions, l *rig.Load) (*pflag.FlagSet, *benchWords) {
	w := &benchWords{}
	fs := pflag.NewFlagSet("weirlab bench", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.SortFlags = false
	fs.StringVar(&w.weir, "weir", "", "`PATH` of the weir to run (default: the one beside this program)")
	fs.StringArrayVar(&o.programs.Against, "against", nil, "`PATH` of another build of weir to measure beside it; repeatable")
	fs.StringVar(&w.bare, "bare", "", "`PATH` of the bare forwarder (default: the one beside this program)")
	fs.IntVar(&o.runs, "runs", 5, "trials of each candidate under each load")
	fs.DurationVar(&o.time, "time", time.Second, "that each trial measures")
	fs.BoolVar(&o.json, "json", false, "print JSON with every sample instead of tables")
	fs.StringVar(&o.save, "save", "", "`FILE` that gets the same JSON beside what is printed")
	fs.StringVar(&o.memory, "benchmarks", "", "`FILE` with what go test -bench printed in bench/, for the table of goals")
	fs.BoolVar(&w.quick, "quick", false, "one run of 200 ms each of some: shows that it works, not how fast")
	fs.BoolVar(&o.tcp, "tcp", false, "only TCP: requests, connections and bytes per second (wrk, iperf3, nginx, HAProxy)")
	fs.StringSliceVar(&o.only, "only", nil, "candidates whose names contain one of these `WORDS`, commas between them")
	fs.StringVar(&w.layout, "layout", string(l.Layout), "own-cpu: the director has the last CPU, generator and interrupts the first; one-cpu: all share one")
	fs.StringVar(&w.mode, "mode", l.Mode.String(), "dr, nat, fullnat or tun; several, commas between them, are measured in turn")
	fs.StringVar(&w.family, "family", "4", "IP `VERSION`: 4, 6 (weir alone, frames of 84 bytes at least, no --rate) or both, in turn")
	fs.IntVar(&l.Arms, "arms", l.Arms, "interfaces of the director: 1 or 2")
	fs.IntVar(&l.Flows, "flows", l.Flows, "connections: 1 to 1000000")
	fs.StringVar(&w.traffic, "traffic", string(l.Traffic), "udp, tcp-syn, tcp-ack or tcp-mix (a SYN to ten ACKs); of TCP the servers' answers are missing")
	fs.StringVar(&w.size, "size", strconv.Itoa(l.Size), "of frames in bytes, FCS included: 64 to 1518; or imix, 7 of 64, 4 of 594 and one of 1518")
	fs.IntVar(&l.Servers, "servers", l.Servers, "1 to 100")
	fs.Float64Var(&l.Rate, "rate", 0, "packets per second, evenly, and their latency; 0: as many as the generator can")
	fs.BoolVar(&l.Search, "search", false, "find the highest rate with at most 0.1 % loss too")
	fs.BoolVarP(&w.help, "help", "h", false, "print this help and exit")
	complete.Allow(fs, "layout", string(rig.OwnCPU), string(rig.OneCPU))
	complete.Allow(fs, "mode", "dr", "nat", "fullnat", "tun")
	complete.Allow(fs, "family", "4", "6", "both")
	var traffics []string
	for _, t := range rig.Traffics {
		traffics = append(traffics, string(t))
	}
	complete.Allow(fs, "traffic", traffics...)
	return fs, w
}

// changeWords are flags of changes beside its plan's.
type changeWords struct {
	weir              string
	quick, json, help bool
}

// changesFlags are those of changes.
func changesFlags(plan *rig.ChangePlan) (*pflag.FlagSet, *changeWords) {
	w := &changeWords{}
	fs := pflag.NewFlagSet("weirlab changes", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.SortFlags = false
	fs.StringVar(&w.weir, "weir", "", "`PATH` of the weir to run, with weiradm beside it (default: the one beside this program)")
	fs.IntVar(&plan.Services, "services", plan.Services, "that are loaded: 4 to 100000")
	fs.IntVar(&plan.Servers, "servers", plan.Servers, "of each service: 1 to 80, at most 1000000 in all")
	fs.IntVar(&plan.Singles, "singles", plan.Singles, "changes that are timed one after the other")
	fs.Float64Var(&plan.Rate, "rate", plan.Rate, "changes a second under load: 1 to 10000")
	fs.DurationVar(&plan.Time, "time", plan.Time, "of the load with changes, and of the one without")
	fs.Float64Var(&plan.Packets, "packets", plan.Packets, "a second: 1000 to 1e7")
	fs.IntVar(&plan.Flows, "flows", plan.Flows, "connections that they belong to: 1 to 1000000")
	fs.IntVar(&plan.Connections, "connections", plan.Connections, "in the table that is paged through; 0: none is, at most 16000000")
	fs.StringSliceVar(&plan.Only, "only", nil, "of these `PARTS`, commas between them: "+strings.Join(rig.ChangeParts, ", ")+"; the paging is --connections'")
	fs.BoolVar(&w.quick, "quick", false, "little of everything: shows in seconds that it works, not how fast")
	fs.BoolVar(&w.json, "json", false, "print JSON instead of tables")
	fs.BoolVarP(&w.help, "help", "h", false, "print this help and exit")
	complete.Allow(fs, "only", rig.ChangeParts...)
	return fs, w
}
