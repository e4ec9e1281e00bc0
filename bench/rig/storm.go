package rig

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Spread is how durations are distributed.
type Spread struct {
	Count               int
	P50, P99, P999, Max time.Duration
}

func spread(all []time.Duration) Spread {
	if len(all) == 0 {
		return Spread{}
	}
	slices.Sort(all)
	at := func(share float64) time.Duration { return all[min(len(all)-1, int(share*float64(len(all))))] }
	return Spread{Count: len(all), P50: at(0.5), P99: at(0.99), P999: at(0.999), Max: all[len(all)-1]}
}

// stormClients make changes at the same time, each of servers and services of its own.
const stormClients = 4

// spares are servers that come and go, one of each client's.
func spares() (all []server) {
	for c := range stormClients {
		all = append(all, server{netip.AddrFrom4([4]byte{10, 0, 0, byte(100 + c)}), gatewayMAC})
	}
	return all
}

// storm makes changes at the plan's rate: half of them to the service whose connections are watched. It returns how long each answer took.
func (t *changeTest) storm(ctx context.Context) (answers []time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, t.plan.Time)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for c := range stormClients {
		wg.Go(func() {
			mine, failed := t.stormClient(ctx, c)
			mu.Lock()
			defer mu.Unlock()
			answers = append(answers, mine...)
			if err == nil {
				err = failed
			}
		})
	}
	wg.Wait()
	return answers, err
}

func (t *changeTest) stormClient(ctx context.Context, c int) (answers []time.Duration, err error) {
	gap := time.Duration(float64(time.Second) * stormClients / t.plan.Rate)
	next := time.Now()
	for i := 0; ; i++ {
		next = next.Add(gap)
		if sleep(ctx, time.Until(next)); ctx.Err() != nil {
			return answers, nil
		}
		began := time.Now()
		// Not ctx: a change that is under way when the time is over is waited for.
		if _, err := t.client.Change(context.Background(), change(t.stormChange(c, i)...)); err != nil {
			return answers, err
		}
		answers = append(answers, time.Since(began))
	}
}

// stormChange is a client's change number i. Ten in a row leave everything as it was, but for weights. A server with connections is removed and
// added again in one change only: between two, its packets are dropped, as IPVS has it.
func (t *changeTest) stormChange(c, i int) []string {
	round, weight := i/10, i%9
	mine := t.listed[c+stormClients*(round%(len(t.listed)/stormClients))]
	service := (round*stormClients + c) % (t.plan.Services / stormClients * stormClients)
	server := t.serverOf(behindRouter, service, round%t.plan.Servers)
	watched := fmt.Sprintf("-t %s -r %s:%d", vip, mine.addr, serverPort)
	spare := fmt.Sprintf("-t %s -r %s:%d", vip, spares()[c].addr, serverPort)
	other := fmt.Sprintf("-t %s -r %s", vipOf(service), server)
	switch i % 10 {
	case 0:
		return []string{"-a " + spare + " -m"}
	case 1, 2:
		return []string{fmt.Sprintf("-e %s -m -w %d -x %d", watched, weight, round%2*1000)}
	case 3:
		return []string{"-d " + watched, fmt.Sprintf("-a %s -m -w %d", watched, weight)}
	case 4:
		return []string{fmt.Sprintf("-E -t %s -s %s", vip, []string{"wrr", "wlc"}[round%2])}
	case 5:
		return []string{"-d " + spare}
	case 6:
		return []string{fmt.Sprintf("-e %s -m -w %d", other, weight)}
	case 7:
		return []string{"-d " + other}
	case 8:
		return []string{fmt.Sprintf("-a %s -m -w %d", other, weight)}
	}
	lines := []string{fmt.Sprintf("-D -t %s", vipOf(service)), fmt.Sprintf("-A -t %s -s wlc", vipOf(service))}
	for v := range t.plan.Servers {
		lines = append(lines, fmt.Sprintf("-a -t %s -r %s -m -w 5", vipOf(service), t.serverOf(behindRouter, service, v)))
	}
	return lines
}
