package rig

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Paging is how the connection table is listed while packets are forwarded.
type Paging struct {
	Filled      time.Duration // how long it took to open the connections
	First       time.Duration // until weiradm connections has printed the first one
	Commands    []Command
	Listed      int   // connections that weiradm printed
	Before      int64 // bytes of memory weir had before, at most
	After       int64 // and after all of it
	Stretch     Stretch
	Connections int // in the table at the end
}

const (
	// fillRate is slow enough for most connections to be opened at once.
	fillRate = 250_000
	// fillTime is when it does not matter any more that a few are missing.
	fillTime = 100 * time.Second
)

// paging fills a table and lists it in several ways.
func (t *changeTest) paging(ctx context.Context) (p *Paging, err error) {
	p = &Paging{}
	n := t.plan.Connections
	if err := t.start("--assign-addresses", "--connections", strconv.Itoa(n+n/20+1000)); err != nil {
		return p, err
	}
	// UDP: a connection with its first packet. None ends before the last is there.
	t.Traffic = UDP
	if _, err := t.client.Change(ctx, change(append(t.trafficRules(), "--set 900 120 3600")...)); err != nil {
		return p, err
	}
	t.progress(fmt.Sprintf("%d connections", n))
	t.Flows = n
	began := time.Now()
	for opened := 0; opened < n; {
		late := time.Since(began) > fillTime
		if late && opened > n/20*19 {
			break // the table says how many there are
		} else if late {
			return p, fmt.Errorf("%d of %d connections opened in %s", opened, n, time.Since(began))
		}
		src, err := t.send(ctx, order{packets: t.packets(), count: n, rate: fillRate}) // once more for those whose packet was lost
		if err == nil {
			err = src.wait()
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return p, err
		}
		sleep(ctx, drain)
		s, err := t.client.Status(ctx)
		if err != nil {
			return p, err
		}
		opened = s.Table.Used
	}
	p.Filled, p.Before = time.Since(began), maxRSS(t.weir.Pid)
	p.Stretch, err = t.stretch(ctx, func(ctx context.Context) ([]time.Duration, error) { return nil, t.pageThrough(ctx, p) })
	if err != nil {
		return p, err
	}
	p.After = maxRSS(t.weir.Pid)
	s, err := t.client.Status(ctx)
	p.Connections = s.Table.Used
	return p, errors.Join(err, t.stop())
}

func (t *changeTest) pageThrough(ctx context.Context, p *Paging) (err error) {
	t.progress("weiradm connections: the first")
	if p.First, err = t.firstLine(ctx); err != nil {
		return err
	}
	client := netip.AddrPortFrom(plus(firstClient.Addr(), (t.plan.Connections-1)/64512), 2000)
	for _, args := range [][]string{{"connections", "--limit", "1"}, {"connections", "--count"}, {"connections", "--client", client.String()},
		{"connections"}} {
		t.progress("weiradm " + strings.Join(args, " "))
		c, err := t.weiradm(ctx, "", args...)
		if err != nil {
			return err
		}
		p.Commands = append(p.Commands, c)
	}
	return nil
}

// firstLine returns how long weiradm takes to print the first connection of all.
func (t *changeTest) firstLine(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, t.programs.Weiradm, "--socket", t.director.Socket(), "connections")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(out)
	lines.Scan() // the head
	found := lines.Scan()
	took := time.Since(began)
	cancel()
	_ = cmd.Wait() // killed
	if !found {
		return 0, errors.New("weiradm connections printed none")
	}
	return took, nil
}
