package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"weir/bench/rig"
)

const changesUsage = `weirlab changes measures how a director takes changes while it forwards: many rules loaded at once, one change among them, many
changes a second, big listings, and a full connection table being paged through; in network namespaces of its own. It needs root, some
minutes, and 4 GiB of memory for 10,000,000 connections.

Usage: weirlab changes [flags]

Flags:
`

// changes is the verb, which has flags of its own.
func changes(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	plan := rig.DefaultChangePlan()
	fs, w := changesFlags(&plan)
	if err := fs.Parse(args); err != nil {
		return usageError{fmt.Errorf("%w (see weirlab changes --help)", err)}
	}
	if w.help {
		fmt.Fprint(stdout, changesUsage, strings.ReplaceAll(fs.FlagUsagesWrapped(110), "[=true|false]", "             "))
		return nil
	}
	if w.quick {
		only := plan.Only
		plan = rig.QuickChangePlan()
		plan.Only = only
	}
	var problems []error
	for _, c := range []struct {
		ok     bool
		format string
		args   []any
	}{
		{fs.NArg() == 0, "%q: changes takes flags only", []any{fs.Args()}},
		{plan.Services >= 4 && plan.Services <= 100_000, "--services %d: allowed are 4 to 100000", []any{plan.Services}},
		{plan.Servers >= 1 && plan.Servers <= 80, "--servers %d: allowed are 1 to 80", []any{plan.Servers}},
		{plan.Services*plan.Servers <= 1_000_000, "--services %d --servers %d: at most 1000000 servers in all", []any{plan.Services, plan.Servers}},
		{plan.Singles >= 1, "--singles %d: allowed are 1 and more", []any{plan.Singles}},
		{plan.Rate >= 1 && plan.Rate <= 10_000, "--rate %v: allowed are 1 to 10000", []any{plan.Rate}},
		{plan.Time >= 100*time.Millisecond && plan.Time <= time.Hour, "--time %s: allowed are 100ms to 1h", []any{plan.Time}},
		{plan.Packets >= 1000 && plan.Packets <= 1e7, "--packets %v: allowed are 1000 to 1e7", []any{plan.Packets}},
		{plan.Flows >= 1 && plan.Flows <= 1_000_000, "--flows %d: allowed are 1 to 1000000", []any{plan.Flows}},
		{plan.Connections >= 0 && plan.Connections <= 16_000_000, "--connections %d: allowed are 0 to 16000000", []any{plan.Connections}},
	} {
		if !c.ok {
			problems = append(problems, fmt.Errorf(c.format, c.args...))
		}
	}
	for _, part := range plan.Only {
		if !slices.Contains(rig.ChangeParts, part) {
			problems = append(problems, fmt.Errorf("--only %q: allowed are %s", part, strings.Join(rig.ChangeParts, ", ")))
		}
	}
	if len(problems) > 0 {
		return usageError{errors.Join(problems...)}
	}
	if os.Geteuid() != 0 {
		return errors.New("network namespaces and AF_XDP need root: try sudo weirlab changes")
	}
	var programs rig.Programs
	var err error
	if programs.Weir, err = findWeir(w.weir); err != nil {
		return err
	}
	programs.Weiradm = filepath.Join(filepath.Dir(programs.Weir), "weiradm")
	p := newProgress(stderr)
	report, err := rig.Changes(ctx, programs, plan, p.say)
	p.end()
	if w.json {
		return errors.Join(err, report.JSON(stdout))
	}
	report.Print(stdout)
	return err
}
