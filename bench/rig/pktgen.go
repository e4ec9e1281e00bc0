package rig

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// pktgenSettle is how long pktgen has sent when the clock starts: long enough for the flows, which it picks at random, to have come by.
const pktgenSettle = time.Second

// Pktgen measures one candidate once, as Trial does, under the kernel's own generator in place of bpf.Generator. It needs that module, and
// the path of bench/pktgen/pktgen.sh. There is no latency, and no search.
func Pktgen(ctx context.Context, script string, c Candidate, load Load) (Sample, error) {
	return trial(c, load, func(s *setting, run *running) (Sample, error) { return s.pktgen(ctx, script, run) })
}

func (s *setting) pktgen(ctx context.Context, script string, run *running) (m Sample, err error) {
	p := s.clients.Start("bash", script, "-i", s.in.Name, "-m", s.front.MAC.String(), "-d", vip.Addr().String(), "-p", strconv.Itoa(int(vip.Port())),
		"-s", firstClient.Addr().String(), "-f", strconv.Itoa(s.Flows), "-z", strconv.Itoa(s.Size), "-r", strconv.Itoa(int(s.Rate)), "-T", "0")
	if err := p.WaitOutput("sending", readyWithin); err != nil {
		return m, err
	}
	sleep(ctx, pktgenSettle+time.Duration(s.Flows)*20*time.Microsecond)
	before, err := s.readPktgen(run)
	if err == nil {
		sleep(ctx, s.Time)
		m, err = s.readPktgen(run)
	}
	err = errors.Join(err, ctx.Err(), p.Signal(unix.SIGTERM), p.Wait(10*time.Second))
	if err != nil {
		return m, fmt.Errorf("%w: %s", err, strings.TrimSpace(p.Output()))
	}
	sleep(ctx, drain)
	if m = m.since(before); m.Forwarded == 0 {
		return m, errors.New("not a packet reached the servers")
	}
	m.Load = loadAverage()
	m.Checked, err = s.check(run)
	return m, err
}

// readPktgen takes all counters. What pktgen has sent is what its interface has, taken or dropped by the other end (drivers/net/veth.c).
func (s *setting) readPktgen(run *running) (Sample, error) {
	m, err := s.read(nil, run)
	sent := s.in.Counters()
	m.Offered = sent.TxPackets + sent.TxDropped
	return m, err
}
