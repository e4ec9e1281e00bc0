package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"weir/bench/rig"
	"weir/internal/lab"
	"weir/lb"
)

const benchUsage = `weirlab bench measures how much weir forwards, beside what it is compared with, in network namespaces of its own. Candidates
take turns; the tables have medians, and every trial's packets are looked at on arrival. It needs root, and a machine that has nothing
else to do: the last column shows whether it had.

Usage: weirlab bench [flags]

Without one of the flags of a load (--layout to --search) it measures all that bench/RESULTS.md has, in some minutes.

Flags:
`

// benchOptions are what bench's command line says.
type benchOptions struct {
	programs rig.Programs
	runs     int
	json     bool
	plan     []rig.Comparison
	full     bool // the plan is the full one: latencies follow
	tcp      bool
	only     []string
	time     time.Duration
}

// bench is the verb, which has flags of its own.
func bench(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseBench(args, stdout)
	if err != nil || o == nil {
		return err
	}
	p := newProgress(stderr)
	suite := rig.Suite{Plan: o.plan, Runs: o.runs}
	report, err := suite.Run(ctx, p.say)
	if o.full && err == nil {
		var more *rig.Report
		suite.Plan = rig.AtHalf(report, o.programs, o.time)
		more, err = suite.Run(ctx, p.say)
		report.Add(more)
	}
	if o.tcp && err == nil {
		err = report.TCP(ctx, o.programs, o.runs, o.time, o.only, p.say)
	}
	p.end()
	if o.json {
		return errors.Join(err, report.JSON(stdout))
	}
	report.Print(stdout)
	return err
}

// parseBench reads the command line; nil options: all has been said.
func parseBench(args []string, stdout io.Writer) (*benchOptions, error) {
	o := &benchOptions{}
	fs := pflag.NewFlagSet("weirlab bench", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.SortFlags = false
	weir := fs.String("weir", "", "`PATH` of the weir to run (default: the one beside this program)")
	fs.StringArrayVar(&o.programs.Against, "against", nil, "`PATH` of another build of weir to measure beside it; repeatable")
	bare := fs.String("bare", "", "`PATH` of the bare forwarder (default: the one beside this program)")
	fs.IntVar(&o.runs, "runs", 5, "trials of each candidate under each load")
	fs.DurationVar(&o.time, "time", time.Second, "that each trial measures")
	fs.BoolVar(&o.json, "json", false, "print JSON with every sample instead of tables")
	quick := fs.Bool("quick", false, "one run of 200 ms each of some: shows that it works, not how fast")
	fs.BoolVar(&o.tcp, "tcp", false, "only TCP: requests, connections and bytes per second (wrk, iperf3, nginx, HAProxy)")
	fs.StringSliceVar(&o.only, "only", nil, "candidates whose names contain one of these `WORDS`, commas between them")
	l := rig.DefaultLoad(0)
	loadFlags := []string{"layout", "mode", "arms", "flows", "traffic", "size", "servers", "rate", "search"}
	layout := fs.String("layout", string(l.Layout), "own-cpu: the director has the last CPU, generator and interrupts the first; one-cpu: all share one")
	mode := fs.String("mode", l.Mode.String(), "dr, nat, fullnat or tun")
	fs.IntVar(&l.Arms, "arms", l.Arms, "interfaces of the director: 1 or 2")
	fs.IntVar(&l.Flows, "flows", l.Flows, "connections: 1 to 1000000")
	traffic := fs.String("traffic", string(l.Traffic), "udp, tcp-syn, tcp-ack or tcp-mix (a SYN to ten ACKs); of TCP the servers' answers are missing")
	size := fs.String("size", strconv.Itoa(l.Size), "of frames in bytes, FCS included: 64 to 1518; or imix, 7 of 64, 4 of 594 and one of 1518")
	fs.IntVar(&l.Servers, "servers", l.Servers, "1 to 100")
	fs.Float64Var(&l.Rate, "rate", 0, "packets per second, evenly, and their latency; 0: as many as the generator can")
	fs.BoolVar(&l.Search, "search", false, "find the highest rate with at most 0.1 % loss too")
	help := fs.BoolP("help", "h", false, "print this help and exit")
	if err := fs.Parse(args); err != nil {
		return nil, usageError{fmt.Errorf("%w (see weirlab bench --help)", err)}
	}
	if *help {
		// A switch is given or not: that it could be spelled --switch=true helps nobody.
		fmt.Fprint(stdout, benchUsage, strings.ReplaceAll(fs.FlagUsagesWrapped(110), "[=true|false]", "             "))
		return nil, nil
	}
	o.full = !slices.ContainsFunc(loadFlags, fs.Changed)
	if *quick {
		o.runs, o.time = 1, 200*time.Millisecond
	}
	l.Layout, l.Time, l.Traffic = rig.Layout(*layout), o.time, rig.Traffic(*traffic)
	if l.Size = rig.IMIX; *size != "imix" {
		var err error
		if l.Size, err = strconv.Atoi(*size); err != nil {
			l.Size = -1
		}
	}
	if i := slices.IndexFunc(lab.Modes, func(m lb.Mode) bool { return strings.EqualFold(m.String(), *mode) }); i >= 0 {
		l.Mode = lab.Modes[i]
	} else {
		l.Mode = 0
	}
	var problems []error
	for _, c := range []struct {
		ok     bool
		format string
		args   []any
	}{
		{fs.NArg() == 0, "%q: bench takes flags only", []any{fs.Args()}},
		{o.runs >= 1 && o.runs <= 100, "--runs %d: allowed are 1 to 100", []any{o.runs}},
		{o.time >= 100*time.Millisecond && o.time <= time.Minute, "--time %s: allowed are 100ms to 1m", []any{o.time}},
		{l.Layout == rig.OwnCPU || l.Layout == rig.OneCPU, "--layout %q: allowed are %s and %s", []any{*layout, rig.OwnCPU, rig.OneCPU}},
		{l.Mode != 0, "--mode %q: allowed are dr, nat, fullnat and tun", []any{*mode}},
		{l.Arms == 1 || l.Arms == 2, "--arms %d: allowed are 1 and 2", []any{l.Arms}},
		{l.Flows >= 1 && l.Flows <= 1_000_000, "--flows %d: allowed are 1 to 1000000", []any{l.Flows}},
		{slices.Contains(rig.Traffics, l.Traffic), "--traffic %q: allowed are %s", []any{*traffic, rig.Traffics}},
		{l.Size == rig.IMIX || l.Size >= 64 && l.Size <= 1518, "--size %q: allowed are 64 to 1518 and imix", []any{*size}},
		{l.Servers >= 1 && l.Servers <= 100, "--servers %d: allowed are 1 to 100", []any{l.Servers}},
		{l.Rate == 0 || l.Rate >= 1000 && l.Rate <= 1e8, "--rate %v: allowed are 0 and 1000 to 1e8", []any{l.Rate}},
		{l.Layout == rig.OwnCPU || l.Rate == 0 && !l.Search, "--layout one-cpu: a given rate and the search need a CPU for the generator", nil},
	} {
		if !c.ok {
			problems = append(problems, fmt.Errorf(c.format, c.args...))
		}
	}
	if len(problems) > 0 {
		return nil, usageError{errors.Join(problems...)}
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("network namespaces and AF_XDP need root: try sudo weirlab bench")
	}
	var err error
	if o.programs.Weir, err = findWeir(*weir); err != nil {
		return nil, err
	}
	if o.programs.Bare, err = findBare(*bare); err != nil {
		return nil, err
	}
	if o.full {
		o.plan = rig.Full(o.programs, o.time)
	} else {
		o.plan = []rig.Comparison{{Load: l, Candidates: rig.All(o.programs, l.Mode, l.Traffic)}}
	}
	if *quick && o.full {
		o.plan, o.full = rig.Quick(o.plan), false
	}
	o.plan = rig.Only(o.plan, o.only...)
	if o.tcp {
		o.plan, o.full = nil, false
	} else if o.tcp = o.full; len(o.plan) == 0 {
		return nil, usageError{fmt.Errorf("--only %s: no candidate's name contains that", strings.Join(o.only, ","))}
	}
	return o, nil
}

// findBare returns the path of the bare forwarder: the one named, or the one beside this program.
func findBare(named string) (string, error) {
	path := named
	if path == "" {
		self, err := os.Executable()
		if err != nil {
			return "", err
		}
		path = filepath.Join(filepath.Dir(self), "bare")
	}
	if st, err := os.Stat(path); err != nil || st.IsDir() || st.Mode()&0o111 == 0 {
		return "", fmt.Errorf("%s is not the bare forwarder: go build -o %s weir/bench/bare, or name it with --bare", path, path)
	}
	return filepath.Abs(path)
}
