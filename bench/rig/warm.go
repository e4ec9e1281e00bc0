package rig

import (
	"context"
	"fmt"
	"time"
)

const (
	// warmUpRate is slow enough for any candidate, on a machine that does nothing else, to open a connection for each flow.
	warmUpRate = 500_000
	// warmUpLeast is the slowest that it comes to where packets are lost.
	warmUpLeast = 20_000
	// warmUpTime bounds how long a packet of each flow is sent again and again, until nearly every one has arrived in one round or another.
	warmUpTime = 30 * time.Second
	// warmUpMissed is the share of the flows that may be left.
	warmUpMissed = 0.01
)

// warmUp brings a candidate to where it stays: each flow has opened its connection, and has sent once more. The second packet of a UDP flow costs
// weir some 100 to 200 ns more than all that follow, since it changes the connection's state (conntrack.Seen; bench/RESULTS.md), and with a million flows
// nearly all that is measured would be second packets.
func (s *setting) warmUp(ctx context.Context) error {
	rate := float64(warmUpRate)
	for _, packets := range [][][]byte{s.opening(), s.packets()} {
		var err error
		if rate, err = s.reachAll(ctx, packets, rate); err != nil {
			return err
		}
	}
	return nil
}

// reachAll sends packets of every flow until hardly one is left of which none arrived. It begins with that rate, and returns the one at which
// enough arrived.
func (s *setting) reachAll(ctx context.Context, packets [][]byte, rate float64) (float64, error) {
	missed, start := 1.0, time.Now()
	n := max(s.Flows, 1000)
	for time.Since(start) < warmUpTime {
		before, err := s.sink.Total()
		if err != nil {
			return 0, err
		}
		src, err := s.send(ctx, order{packets: packets, count: n, rate: rate})
		if err != nil {
			return 0, err
		}
		if err := src.wait(); err != nil {
			return 0, err
		}
		sleep(ctx, drain)
		after, err := s.sink.Total()
		if err != nil {
			return 0, err
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		arrived := float64(after.Packets-before.Packets) / float64(n)
		if missed *= max(0, 1-arrived); missed <= warmUpMissed {
			return rate, nil
		}
		rate = max(warmUpLeast, rate*max(0.5, 0.9*arrived))
	}
	return 0, fmt.Errorf("of %s flows, %.0f %% did not get a packet through in %s: the machine is too busy", count(s.Flows), 100*missed, warmUpTime)
}
