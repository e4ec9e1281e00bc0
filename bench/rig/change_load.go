package rig

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weir/bpf"
	"weir/control/api"
	"weir/internal/testnet"
)

// Stretch is a time in which packets of established connections were sent.
type Stretch struct {
	Sent, Arrived       uint64
	Received, Forwarded uint64 // of them, by weir's workers
	Losses              Losses
	Took, CPU           time.Duration // CPU: of weir meanwhile
	Changes             int           // that were answered
	Answer              Spread        // how long that took
	LoadAvg             float64       // of the machine in the last minute
}

// Lost is how many packets did not arrive.
func (s Stretch) Lost() int64 { return int64(s.Sent) - int64(s.Arrived) }

// Losses are packets that did not arrive, by where they were lost.
type Losses struct {
	Wire    uint64 // in front of the director's interface: its receiving ring was full, or the redirect found no room
	Socket  uint64 // of those, by the AF_XDP socket: its ring was full, or it had no frame
	Stopped uint64 // by workers, for any reason
	Room    uint64 // by weir, the transmit ring being full
	Behind  uint64 // behind the director, in front of the servers' interface
}

func (l Losses) since(before Losses) Losses {
	return Losses{l.Wire - before.Wire, l.Socket - before.Socket, l.Stopped - before.Stopped, l.Room - before.Room, l.Behind - before.Behind}
}

// trafficRules are the service that the packets are for.
func (t *changeTest) trafficRules() (lines []string) {
	lines = append(lines, fmt.Sprintf("-A %s -s wrr", t.service(vip)))
	for _, s := range t.listed {
		lines = append(lines, fmt.Sprintf("-a %s -r %s:%d -m -w 1", t.service(vip), s.addr, serverPort))
	}
	return lines
}

// underLoad opens connections, and sends their packets without and with changes.
func (t *changeTest) underLoad(ctx context.Context, r *ChangeReport) (err error) {
	if _, err = t.client.Change(ctx, change(t.trafficRules()...)); err != nil {
		return err
	}
	t.progress(fmt.Sprintf("%d connections", t.plan.Flows))
	if err := t.open(ctx); err != nil {
		return err
	}
	t.progress(fmt.Sprintf("%.0f packets/s for %s", t.plan.Packets, t.plan.Time))
	if r.Quiet, err = t.stretch(ctx, func(ctx context.Context) ([]time.Duration, error) {
		sleep(ctx, t.plan.Time)
		return nil, nil
	}); err != nil {
		return err
	}
	t.progress(fmt.Sprintf("%.0f packets/s and %.0f changes/s for %s", t.plan.Packets, t.plan.Rate, t.plan.Time))
	if r.Changing, err = t.stretch(ctx, t.storm); err != nil {
		return err
	}
	_, err = t.check(&running{})
	return err
}

// open establishes all connections: a SYN-RECV is one by the client's ACK. It begins again for those whose packet was lost.
func (t *changeTest) open(ctx context.Context) error {
	for began := time.Now(); ; {
		for _, packets := range [][][]byte{t.opening(), t.packets()} {
			src, err := t.send(ctx, order{packets: packets, count: t.plan.Flows, rate: min(t.plan.Packets, warmUpRate)})
			if err == nil {
				err = src.wait()
			}
			if err = errors.Join(err, ctx.Err()); err != nil {
				return err
			}
			sleep(ctx, 3*drain)
		}
		n, err := t.client.Count(ctx, api.Filter{State: "ESTABLISHED"})
		switch {
		case err != nil || n == t.plan.Flows:
			return err
		case time.Since(began) > readyWithin:
			return fmt.Errorf("%d of %d connections are established", n, t.plan.Flows)
		}
	}
}

// generatorNice is the generator's: it stands for a NIC, which sends at its rate whoever else wants the director's CPUs.
const generatorNice = -15

// send is setting's for a machine whose CPUs director, generator and whoever makes changes share as it comes.
func (t *changeTest) send(ctx context.Context, o order) (*source, error) {
	ctx, cancel := context.WithCancel(ctx)
	src := &source{cancel: cancel, done: make(chan error, 1)}
	opened := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread's priority ends with it
		src.done <- t.clients.Do(func() (err error) {
			if src.generator, err = bpf.NewGenerator(t.in.Index, t.Flows, o.packets...); err == nil {
				err = unix.Setpriority(unix.PRIO_PROCESS, 0, generatorNice)
			}
			if opened <- err; err != nil {
				return err
			}
			return pace(ctx, src.generator, o.count, o.rate)
		})
	}()
	if err := <-opened; err != nil {
		cancel()
		return nil, err
	}
	return src, nil
}

// mostAtOnce packets leave together: fewer than wait in a socket's ring of 2,048.
const mostAtOnce = 1500

// pace sends count packets (0: without end) at a rate, in bursts of 10 ms and more: each run of a generator begins and ends with a grace period of RCU
// (bpf_dispatcher_update in kernel/bpf/dispatcher.c). Generator.Run, whose bursts are of 5 ms at most, sends 9,500 packets a second where 50,000 are
// asked for, which makes it 26 ms a run (AMD EPYC, Linux 6.18, 2026-11-28).
func pace(ctx context.Context, g *bpf.Generator, count int, rate float64) error {
	const rest = 10 * time.Millisecond
	due, last := 0.0, time.Now()
	for sent := 0; (count == 0 || sent < count) && ctx.Err() == nil; {
		now := time.Now()
		due, last = min(due+now.Sub(last).Seconds()*rate, mostAtOnce), now
		n := int(due)
		if count > 0 {
			n = min(n, count-sent)
		}
		if err := g.Send(n); err != nil {
			return err
		}
		sent, due = sent+n, due-float64(n)
		if least := min(rest.Seconds()*rate, mostAtOnce); due+time.Since(last).Seconds()*rate < least {
			sleep(ctx, rest)
		}
	}
	return nil
}

// stretch sends packets of the connections while f runs.
func (t *changeTest) stretch(ctx context.Context, f func(context.Context) ([]time.Duration, error)) (s Stretch, err error) {
	before, err := t.sink.Total()
	status, err2 := t.client.Status(ctx)
	lost, err3 := t.losses(&status)
	if err = errors.Join(err, err2, err3); err != nil {
		return s, err
	}
	cpu := threadTime([]int{t.weir.Pid})
	src, err := t.send(ctx, order{packets: t.packets(), rate: t.plan.Packets})
	if err != nil {
		return s, err
	}
	began := time.Now()
	answers, err := f(ctx)
	s.Took, s.CPU = time.Since(began), threadTime([]int{t.weir.Pid})-cpu
	s.Sent, err2 = src.stop()
	if err = errors.Join(err, err2, ctx.Err()); err != nil {
		return s, err
	}
	sleep(ctx, 10*drain) // what waits in a ring while somebody else has the CPU
	after, err := t.sink.Total()
	then, err2 := t.client.Status(ctx)
	s.Received, s.Forwarded = then.Packets.Received-status.Packets.Received, then.Packets.ToServer-status.Packets.ToServer
	s.Arrived, s.Changes, s.Answer, s.LoadAvg = after.Packets-before.Packets, len(answers), spread(answers), loadAverage()
	all, err3 := t.losses(&then)
	s.Losses = all.since(lost)
	return s, errors.Join(err, err2, err3)
}

// losses are all since the director and its interfaces began.
func (t *changeTest) losses(s *api.Status) (l Losses, err error) {
	for _, i := range s.Interfaces {
		l.Socket += i.RxDropped + i.RxRingFull
		l.Room += i.NoRoom
	}
	for _, stop := range s.Stops {
		l.Stopped += stop.Packets
	}
	for _, end := range []struct {
		d    *testnet.Device
		lost *uint64
	}{{t.front, &l.Wire}, {t.out, &l.Behind}} {
		if err := end.d.NS.Do(func() error {
			link, err := netlink.LinkByIndex(end.d.Index)
			if err == nil {
				*end.lost = link.Attrs().Statistics.RxDropped
			}
			return err
		}); err != nil {
			return l, fmt.Errorf("%s: %w", end.d.Name, err)
		}
	}
	return l, nil
}
