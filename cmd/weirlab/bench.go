package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"weir/bench/rig"
	"weir/lb"
)

const benchUsage = `weirlab bench measures how much weir forwards, beside what it is compared with, in network namespaces of its own. Candidates take
turns; the table has medians. It needs root, and a machine that has nothing else to do: the last column shows whether it had.

Usage: weirlab bench [flags]

Flags:
`

// bench is the verb with flags of its own.
func bench(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := pflag.NewFlagSet("weirlab bench", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.SortFlags = false
	weir := fs.String("weir", "", "`PATH` of the weir to run (default: the one beside this program)")
	bare := fs.String("bare", "", "`PATH` of the bare forwarder (default: the one beside this program)")
	runs := fs.Int("runs", 5, "trials of each candidate under each load")
	duration := fs.Duration("time", time.Second, "that each trial measures")
	asJSON := fs.Bool("json", false, "print JSON with every sample instead of the table")
	quick := fs.Bool("quick", false, "one run of 300 ms each: shows that everything works, not how fast")
	help := fs.BoolP("help", "h", false, "print this help and exit")
	if err := fs.Parse(args); err != nil {
		return usageError{fmt.Errorf("%w (see weirlab bench --help)", err)}
	}
	if *help {
		fmt.Fprint(stdout, benchUsage, fs.FlagUsages())
		return nil
	}
	if *quick {
		*runs, *duration = 1, 300*time.Millisecond
	}
	switch {
	case fs.NArg() > 0:
		return usageError{fmt.Errorf("%q: bench takes flags only (see weirlab bench --help)", fs.Arg(0))}
	case *runs < 1 || *runs > 100:
		return usageError{fmt.Errorf("--runs %d: allowed are 1 to 100", *runs)}
	case *duration < 100*time.Millisecond || *duration > time.Minute:
		return usageError{fmt.Errorf("--time %s: allowed are 100ms to 1m", *duration)}
	}
	if os.Geteuid() != 0 {
		return errors.New("network namespaces and AF_XDP need root: try sudo weirlab bench")
	}
	var programs rig.Programs
	var err error
	if programs.Weir, err = findWeir(*weir); err != nil {
		return err
	}
	if programs.Bare, err = findBare(*bare); err != nil {
		return err
	}
	suite := rig.Suite{
		Candidates: []rig.Candidate{
			rig.Bare(programs.Bare, "bare, as it comes"),
			rig.Bare(programs.Bare, "bare, bursts of 256", "--burst", "256"),
			rig.Weir(programs.Weir, "weir"),
		},
		Loads: []rig.Load{{Mode: lb.DR, Arms: 2, Flows: 1000, Size: 64, Servers: 8, Time: *duration, Layout: rig.OwnCPU}},
		Runs:  *runs,
	}
	p := newProgress(stderr)
	report, err := suite.Run(ctx, p.say)
	p.end()
	if *asJSON {
		return errors.Join(err, report.JSON(stdout))
	}
	report.Print(stdout)
	return err
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
