// Command vm is what the QEMU guest of `make bench-vm` runs: weir beside real IPVS under the kernel's pktgen, and weir with what only a kernel
// with these modules has: servers that unwrap tunnels themselves, and VLAN devices. It needs a machine of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/spf13/pflag"

	"weir/bench/rig"
	"weir/lb"
)

func main() {
	runs := pflag.Int("runs", 3, "trials of each candidate under each load")
	duration := pflag.Duration("time", 3*time.Second, "that each trial measures")
	json := pflag.Bool("json", false, "print JSON with every sample, too")
	pflag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	begin := time.Now()
	say := func(what string) { fmt.Fprintf(os.Stderr, "[%3.0f s] %s\n", time.Since(begin).Seconds(), what) }

	report, err := compare(ctx, *runs, *duration, say)
	if report != nil {
		report.Print(os.Stdout)
	}
	if report != nil && *json {
		err = errors.Join(err, report.JSON(os.Stdout))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "vm: %v\n", err)
		os.Exit(1)
	}
}

// compare measures weir and IPVS in turn, under every load that both know.
func compare(ctx context.Context, runs int, d time.Duration, say func(string)) (*rig.Report, error) {
	if lines := rig.Absent(); len(lines) > 0 {
		return nil, errors.New(lines[0])
	}
	if out, err := exec.Command("modprobe", "pktgen").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("modprobe pktgen: %w: %s", err, out)
	}
	programs := rig.Programs{Weir: "/bin/weir", Bare: "/bin/bare"}
	var plan []rig.Comparison
	for _, mode := range []lb.Mode{lb.DR, lb.NAT, lb.TUN} {
		for _, flows := range []int{1000, 65_536} {
			load := rig.DefaultLoad(d)
			load.Mode, load.Flows = mode, flows
			plan = append(plan, rig.Comparison{Load: load, Candidates: rig.All(programs, mode, rig.UDP)})
		}
	}
	suite := rig.Suite{Plan: rig.Only(plan, "IPVS", "weir"), Runs: runs, Trial: func(ctx context.Context, c rig.Candidate, l rig.Load) (rig.Sample, error) {
		return rig.Pktgen(ctx, "/bin/pktgen.sh", c, l)
	}}
	return suite.Run(ctx, say)
}
