// Command vm is what the QEMU guest of `make bench-vm` runs: weir with what only a kernel with these modules has, which is servers that
// unwrap tunnels themselves and VLAN devices, and then weir beside real IPVS under the kernel's pktgen. It needs a machine of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"weir/bench/rig"
	"weir/lb"
)

// Where run.sh puts them.
const (
	weirPath   = "/bin/weir"
	barePath   = "/bin/bare"
	pktgenPath = "/bin/pktgen.sh"
)

// program is one run, with what its command line says.
type program struct {
	runs  int
	time  time.Duration
	only  string
	json  bool
	begin time.Time
	out   io.Writer
}

func main() {
	p := program{begin: time.Now(), out: os.Stdout}
	pflag.IntVar(&p.runs, "runs", 3, "trials of each candidate under each load")
	pflag.DurationVar(&p.time, "time", 3*time.Second, "that each trial measures")
	pflag.StringVar(&p.only, "only", "", "pktgen or checks: only `WHAT`")
	pflag.BoolVar(&p.json, "json", false, "print JSON with every sample after the tables")
	pflag.Parse()
	ctx := context.Background() // run.sh bounds the guest's time
	var err error
	if p.only != "pktgen" {
		err = p.checks(ctx)
	}
	if p.only != "checks" {
		err = errors.Join(err, p.pktgen(ctx))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "vm: %v\n", err)
		os.Exit(1)
	}
}

// say tells progress.
func (p *program) say(what string) {
	fmt.Fprintf(os.Stderr, "[%3.0f s] %s\n", time.Since(p.begin).Seconds(), what)
}

// checks goes through what needs the kernel's modules, all of it whatever fails.
func (p *program) checks(ctx context.Context) (all error) {
	check := func(what string, f func() error) {
		p.say(what)
		err := f()
		word := "ok"
		if err != nil {
			word = "WRONG"
			all = errors.Join(all, fmt.Errorf("%s: %w", what, err))
		}
		fmt.Fprintf(p.out, "%-5s  %s\n", word, what)
	}
	for _, t := range tunnels {
		check(fmt.Sprintf("TUN to servers whose kernel unwraps %s by %s", t.name, t.device), func() error { return t.check(ctx) })
	}
	for _, mode := range []lb.Mode{lb.DR, lb.NAT, lb.FULLNAT} {
		check(fmt.Sprintf("%s between VLAN devices on one trunk", mode), func() error { return checkVLANs(ctx, mode) })
	}
	return all
}

// pktgen measures weir and IPVS in turn, under every load that both know.
func (p *program) pktgen(ctx context.Context) error {
	if lines := rig.Absent(); len(lines) > 0 {
		return errors.New(strings.Join(lines, "; "))
	}
	if out, err := exec.Command("modprobe", "pktgen").CombinedOutput(); err != nil {
		return fmt.Errorf("modprobe pktgen: %w: %s", err, out)
	}
	programs := rig.Programs{Weir: weirPath, Bare: barePath}
	var plan []rig.Comparison
	for _, mode := range []lb.Mode{lb.DR, lb.NAT, lb.TUN} {
		for _, flows := range []int{1000, 65_536} {
			load := rig.DefaultLoad(p.time)
			load.Mode, load.Flows = mode, flows
			plan = append(plan, rig.Comparison{Load: load, Candidates: rig.All(programs, mode, rig.UDP)})
		}
	}
	suite := rig.Suite{Plan: rig.Only(plan, rig.IPVS.Name, "weir"), Runs: p.runs, Trial: func(ctx context.Context, c rig.Candidate, l rig.Load) (rig.Sample, error) {
		return rig.Pktgen(ctx, pktgenPath, c, l)
	}}
	report, err := suite.Run(ctx, p.say)
	fmt.Fprintln(p.out, "\nThis is software emulation: of the figures below only the ratios mean anything.")
	report.Print(p.out)
	if p.json {
		err = errors.Join(err, report.JSON(p.out))
	}
	return err
}
