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
	memory   string // file with what go test -bench printed
	save     string // file for the report as JSON
}

// bench is the verb, which has flags of its own.
func bench(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseBench(args, stdout)
	if err != nil || o == nil {
		return err
	}
	p := newProgress(stderr)
	for _, line := range rig.Absent() {
		fmt.Fprintln(stderr, line)
	}
	suite := rig.Suite{Plan: o.plan, Runs: o.runs}
	report, err := suite.Run(ctx, p.say)
	// What fails is left out: the rest of half an hour is not lost.
	if o.full && ctx.Err() == nil {
		suite.Plan = rig.Only(rig.AtHalf(report, o.programs, o.time), o.only...)
		more, failed := suite.Run(ctx, p.say)
		report.Add(more)
		err = errors.Join(err, failed)
	}
	if o.full && ctx.Err() == nil {
		var failed error
		report.Idle, failed = rig.Idle(ctx, o.programs, rig.IdleConnections, o.runs, o.time, p.say)
		err = errors.Join(err, failed)
	}
	if o.tcp && ctx.Err() == nil {
		err = errors.Join(err, report.TCP(ctx, o.programs, o.runs, o.time, o.only, p.say))
	}
	p.end()
	if o.full {
		err = errors.Join(err, o.judge(report))
	}
	if o.save != "" {
		err = errors.Join(err, save(o.save, report))
	}
	if o.json {
		return errors.Join(err, report.JSON(stdout))
	}
	report.Print(stdout)
	return err
}

// judge adds the benchmarks in memory, if there are any, and says what of the goals was reached.
func (o *benchOptions) judge(report *rig.Report) error {
	if o.memory != "" {
		f, err := os.Open(o.memory)
		if err != nil {
			return fmt.Errorf("--benchmarks: %w", err)
		}
		defer f.Close()
		if err := report.ReadBenchmarks(f); err != nil {
			return fmt.Errorf("--benchmarks %s: %w", o.memory, err)
		}
	}
	report.Judge()
	return nil
}

func save(path string, report *rig.Report) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("--save: %w", err)
	}
	return errors.Join(report.JSON(f), f.Close())
}

// parseBench reads the command line; nil options: all has been said.
func parseBench(args []string, stdout io.Writer) (*benchOptions, error) {
	o, l := &benchOptions{}, rig.DefaultLoad(0)
	fs, w := benchFlags(o, &l)
	loadFlags := []string{"layout", "mode", "family", "arms", "flows", "traffic", "size", "servers", "rate", "search"}
	if err := fs.Parse(args); err != nil {
		return nil, usageError{fmt.Errorf("%w (see weirlab bench --help)", err)}
	}
	if w.help {
		// A switch is given or not: that it could be spelled --switch=true helps nobody.
		fmt.Fprint(stdout, benchUsage, strings.ReplaceAll(fs.FlagUsagesWrapped(110), "[=true|false]", "             "))
		return nil, nil
	}
	o.full = !slices.ContainsFunc(loadFlags, fs.Changed)
	if w.quick {
		o.runs, o.time = 1, 200*time.Millisecond
	}
	l.Layout, l.Time, l.Traffic = rig.Layout(w.layout), o.time, rig.Traffic(w.traffic)
	if l.Size = rig.IMIX; w.size != "imix" {
		var err error
		if l.Size, err = strconv.Atoi(w.size); err != nil {
			l.Size = -1
		}
	}
	modes, known := modesOf(w.mode)
	versions := w.versions()
	six := slices.Contains(versions, 6)
	least := 64
	if six {
		least = rig.LeastIPv6
		if !fs.Changed("size") {
			l.Size = least
		}
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
		{l.Layout == rig.OwnCPU || l.Layout == rig.OneCPU, "--layout %q: allowed are %s and %s", []any{w.layout, rig.OwnCPU, rig.OneCPU}},
		{known, "--mode %q: allowed are dr, nat, fullnat and tun", []any{w.mode}},
		{versions != nil, "--family %q: allowed are 4, 6 and both", []any{w.family}},
		{!six || l.Rate == 0 && l.Size != rig.IMIX, "--family %s: --rate and imix are for IPv4", []any{w.family}},
		{l.Arms == 1 || l.Arms == 2, "--arms %d: allowed are 1 and 2", []any{l.Arms}},
		{l.Flows >= 1 && l.Flows <= 1_000_000, "--flows %d: allowed are 1 to 1000000", []any{l.Flows}},
		{slices.Contains(rig.Traffics, l.Traffic), "--traffic %q: allowed are %s", []any{w.traffic, rig.Traffics}},
		{l.Size == rig.IMIX || l.Size >= least && l.Size <= 1518, "--size %q: allowed are %d to 1518 and imix", []any{w.size, least}},
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
	if o.programs.Weir, err = findWeir(w.weir); err != nil {
		return nil, err
	}
	if o.programs.Bare, err = findBare(w.bare); err != nil {
		return nil, err
	}
	if o.full {
		o.plan = rig.Full(o.programs, o.time)
	} else {
		for _, l.Mode = range modes {
			for _, version := range versions {
				l.IPv6 = version == 6
				o.plan = append(o.plan, rig.Comparison{Load: l, Candidates: rig.For(o.programs, l)})
			}
		}
	}
	if w.quick && o.full {
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

// modesOf reads the modes that --mode names.
func modesOf(words string) (all []lb.Mode, ok bool) {
	for word := range strings.SplitSeq(words, ",") {
		i := slices.IndexFunc(lab.Modes, func(m lb.Mode) bool { return strings.EqualFold(m.String(), word) })
		if i < 0 {
			return nil, false
		}
		all = append(all, lab.Modes[i])
	}
	return all, true
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
