// Command plot draws what `weirlab bench --json` has measured: the rate of each candidate, its latency, and the rate against the number of
// flows, each as an SVG. Reports of several runs are put together: samples of a candidate under a load that occurs in more than one add up.
package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/pflag"

	"weir/bench/rig"
	"weir/lb"
)

const usage = `plot draws what weirlab bench --json has measured, as rate.svg, latency.svg and flows.svg.

Usage: plot [flags] REPORT.json...

Flags:
`

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "plot: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	fs := pflag.NewFlagSet("plot", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	dir := fs.StringP("output", "o", "bench/plots", "`DIR` to write into; it is made when missing")
	help := fs.BoolP("help", "h", false, "print this help and exit")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *help {
		fmt.Fprint(stdout, usage, fs.FlagUsages())
		return nil
	}
	if fs.NArg() == 0 {
		return errors.New("want a report at least (see plot --help)")
	}
	all, err := read(fs.Args())
	if err != nil {
		return err
	}
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}
	for _, figure := range []struct {
		name string
		draw func(*measured) (*figure, error)
	}{{"rate.svg", rates}, {"latency.svg", latencies}, {"flows.svg", flows}} {
		drawn, err := figure.draw(all)
		path := filepath.Join(*dir, figure.name)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", figure.name, err)
		case drawn == nil:
			fmt.Fprintf(stdout, "%s is left out: the reports have nothing for it\n", figure.name)
			continue
		}
		if err := drawn.write(path); err != nil {
			return err
		}
		fmt.Fprintln(stdout, path)
	}
	return nil
}

// measured is what all reports have.
type measured struct {
	where  string // machine, kernel and date of the first
	series []*rig.Series
}

func read(paths []string) (*measured, error) {
	all := &measured{}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var r rig.Report
		if err := json.Unmarshal(b, &r); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if all.where == "" {
			all.where = fmt.Sprintf("%s, Linux %s, %s", r.Machine, r.Kernel, r.Begin.UTC().Format("2006-01-02"))
		}
		for _, s := range r.Series {
			if len(s.Samples) > 0 {
				all.add(s)
			}
		}
	}
	if len(all.series) == 0 {
		return nil, errors.New("the reports have no samples")
	}
	return all, nil
}

// add puts a series to those of the same candidate and load.
func (m *measured) add(s *rig.Series) {
	s.Load.Time, s.Load.Search = 0, false // how long and what else was measured makes no other load
	for _, have := range m.series {
		if have.Candidate == s.Candidate && have.Load == s.Load {
			have.Samples = append(have.Samples, s.Samples...)
			return
		}
	}
	m.series = append(m.series, s)
}

// modes in the order that everything of ours has them in.
var modes = []lb.Mode{lb.DR, lb.NAT, lb.FULLNAT, lb.TUN}

// byLoad returns the series that want chooses, those of one load together: by mode, arms, layout and flows.
func (m *measured) byLoad(want func(rig.Load) bool) (groups [][]*rig.Series) {
	at := map[rig.Load]int{}
	for _, s := range m.series {
		if !want(s.Load) {
			continue
		}
		i, ok := at[s.Load]
		if !ok {
			i, at[s.Load] = len(groups), len(groups)
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], s)
	}
	slices.SortStableFunc(groups, func(a, b []*rig.Series) int {
		x, y := a[0].Load, b[0].Load
		return cmp.Or(slices.Index(modes, x.Mode)-slices.Index(modes, y.Mode), y.Arms-x.Arms, -cmp.Compare(x.Layout, y.Layout), x.Flows-y.Flows)
	})
	return groups
}
