package rig

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"weir/internal/testnet"
	"weir/lb"
)

// IdleConnections is how many live connections the director has whose idleness is measured.
const IdleConnections = 1_000_000

// idleSettles is how long weir is left alone before it is measured: what was to be done after the last packet is done then.
const idleSettles = 2 * time.Second

// Idle returns the share of a CPU, 0 to 1, that weir uses with that many connections and without a packet, for each of so many runs of that
// time, 2 seconds at least.
func Idle(ctx context.Context, p Programs, connections, runs int, t time.Duration, progress func(string)) (shares []float64, err error) {
	load := DefaultLoad(t)
	load.Mode, load.Flows = lb.NAT, connections
	cpu, err := directorCPU(load.Layout)
	if err != nil {
		return nil, err
	}
	if err := pinSelf(generatorCPU); err != nil {
		return nil, err
	}
	for run := range runs {
		progress(fmt.Sprintf("run %d of %d: weir, idle with %s connections", run+1, runs, count(connections)))
		err := testnet.Run(func(r testnet.Reporter) error {
			set := newSetting(r, load, cpu)
			run, err := Weir(p.Weir, "weir").start(set)
			if err != nil {
				return err
			}
			if err := set.warmUp(ctx); err != nil {
				return err
			}
			sleep(ctx, idleSettles)
			before, start := threadTime(run.pids), time.Now()
			sleep(ctx, max(t, 2*time.Second))
			shares = append(shares, (threadTime(run.pids)-before).Seconds()/time.Since(start).Seconds())
			return run.stop()
		})
		if err := cmp.Or(err, ctx.Err()); err != nil {
			return shares, fmt.Errorf("weir, idle: %w", err)
		}
	}
	return shares, nil
}
