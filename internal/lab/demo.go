package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"weir/internal/testnet"
	"weir/lb"
)

// What the demonstration sends in each mode.
const (
	demoRequests = 1000
	demoDownload = 64 << 20
	demoEchoes   = 1000
)

// Modes are those the demonstration shows, in its order.
var Modes = []lb.Mode{lb.DR, lb.NAT, lb.FULLNAT, lb.TUN}

var demoWeights = []int{1, 2, 3}

// Row is one kind of traffic in one mode: what came, beside what should have.
type Row struct {
	Mode    lb.Mode
	Is6     bool // over IPv6
	Traffic string
	Count   int   // connections or datagrams sent
	Want    []int // answers by server, in their order; nil when any one server may have answered
	Got     []int
	Bytes   int64
	Errors  int
	First   error
	Saw     []netip.Addr // as clients, by the servers
	Replies Replies
	Decaps  uint64 // packets that the servers took out of a tunnel
}

// sawWant returns who the servers should see as their client.
func (r *Row) sawWant() netip.Addr {
	switch {
	case r.Mode == lb.FULLNAT && r.Is6:
		return LIP6
	case r.Mode == lb.FULLNAT:
		return LIP
	case r.Is6:
		return netip.MustParseAddr(testnet.ClientIP6)
	}
	return netip.MustParseAddr(testnet.ClientIP)
}

// name is the row's mode, with the IP version if that is 6.
func (r *Row) name() string {
	if r.Is6 {
		return r.Mode.String() + " IPv6"
	}
	return r.Mode.String()
}

// Problem returns what is wrong with the row, in one line; nil when nothing is.
func (r *Row) Problem() error {
	name := fmt.Sprintf("%s, %s", r.name(), r.Traffic)
	answers := 0
	for _, n := range r.Got {
		answers += n
	}
	direct := r.Mode == lb.DR || r.Mode == lb.TUN
	// Replies are far more than the ARP and the handshakes' last words that also pass an interface.
	one, other := r.Replies.ViaDirector, r.Replies.Direct
	if direct {
		one, other = other, one
	}
	switch {
	case r.Errors > 0:
		return fmt.Errorf("%s: %d errors, the first: %w", name, r.Errors, r.First)
	case answers != r.Count:
		return fmt.Errorf("%s: %d of %d were answered", name, answers, r.Count)
	case r.Want != nil && !slices.Equal(r.Got, r.Want):
		return fmt.Errorf("%s: the servers got %d, the scheduler should give %d", name, r.Got, r.Want)
	case len(r.Saw) != 1 || r.Saw[0] != r.sawWant():
		return fmt.Errorf("%s: the servers saw %s as their client, want %s", name, r.Saw, r.sawWant())
	case one < uint64(r.Bytes) || other > one/20:
		return fmt.Errorf("%s: %d bytes of replies came through the director and %d past it", name, r.Replies.ViaDirector, r.Replies.Direct)
	case (r.Mode == lb.TUN) != (r.Decaps >= uint64(r.Count)):
		return fmt.Errorf("%s: the servers took %d packets out of a tunnel", name, r.Decaps)
	}
	return nil
}

// DemoVIPs are the demonstration's services, by IP version.
var DemoVIPs = map[int]netip.Addr{4: netip.MustParseAddr("192.0.2.100"), 6: netip.MustParseAddr("2001:db8::100")}

// Demo shows the main job in every mode, for services of one or both of the IP versions 4 and 6: requests, a download and datagrams through
// weir. It tells progress what it is at.
func Demo(ctx context.Context, r testnet.Reporter, weir string, versions []int, progress func(string)) ([]Row, error) {
	var vips []netip.Addr
	var plan testnet.Plan
	for _, v := range versions {
		vips = append(vips, DemoVIPs[v])
		plan.VIPs = append(plan.VIPs, DemoVIPs[v].String())
	}
	progress("making the network: a client, a director, three servers")
	l := New(r, testnet.New(r), plan)
	var rows []Row
	for _, mode := range Modes {
		more, err := l.demoMode(ctx, weir, mode, vips, progress)
		rows = append(rows, more...)
		if ctx.Err() != nil {
			return rows, errors.New("interrupted")
		}
		if err != nil {
			return rows, fmt.Errorf("%s: %w", mode, err)
		}
	}
	return rows, nil
}

// demoServices are a mode's web and echo service on a VIP.
func demoServices(mode lb.Mode, vip netip.Addr) (web, udp Service) {
	web = Service{Proto: lb.TCP, VIP: netip.AddrPortFrom(vip, HTTPPort), Mode: mode, Weights: demoWeights}
	udp = Service{Proto: lb.UDP, VIP: netip.AddrPortFrom(vip, EchoPort), Mode: mode, Weights: demoWeights}
	if mode == lb.NAT || mode == lb.FULLNAT {
		web.ServerPort, udp.ServerPort = HTTPAltPort, EchoAltPort
	}
	return web, udp
}

func (l *Lab) demoMode(ctx context.Context, weir string, mode lb.Mode, vips []netip.Addr, progress func(string)) ([]Row, error) {
	var all []Service
	for _, vip := range vips {
		web, udp := demoServices(mode, vip)
		all = append(all, web, udp)
	}
	progress(fmt.Sprintf("%s: starting weir", mode))
	p, err := l.StartWeir(ctx, weir, nil, all)
	if err != nil {
		return nil, err
	}
	var rows []Row
	for _, vip := range vips {
		more, err := l.demoTraffic(ctx, p, mode, vip, progress)
		if rows = append(rows, more...); err != nil {
			return rows, err
		}
	}
	if err := p.Stop(10 * time.Second); err != nil {
		return rows, fmt.Errorf("stop weir: %w: %s", err, lastLine(p.Output()))
	}
	return rows, nil
}

// demoTraffic sends all there is to a mode's services on one VIP, while weir runs.
func (l *Lab) demoTraffic(ctx context.Context, weir *testnet.Process, mode lb.Mode, vip netip.Addr, progress func(string)) (rows []Row, err error) {
	web, udp := demoServices(mode, vip)
	for _, step := range []struct {
		traffic string
		count   int
		service *Service // whose scheduler says what each server gets; nil: one server gets it all
		run     func() *Tally
	}{
		{"1,000 HTTP requests", demoRequests, &web, func() *Tally { return l.Requests(ctx, web.VIP, demoRequests) }},
		{"64 MiB download", 1, nil, func() *Tally { return l.Download(ctx, web.VIP, demoDownload) }},
		{"1,000 UDP echoes", demoEchoes, &udp, func() *Tally { return l.Echoes(ctx, udp.VIP, demoEchoes) }},
	} {
		row := Row{Mode: mode, Is6: vip.Is6(), Traffic: step.traffic, Count: step.count}
		progress(fmt.Sprintf("%s: %s", row.name(), step.traffic))
		if step.service != nil {
			if row.Want, err = l.Want(*step.service, step.count); err != nil {
				return rows, err
			}
		}
		if err := l.measure(&row, step.run); err != nil {
			return rows, err
		}
		rows = append(rows, row)
		select {
		case <-weir.Done():
			return rows, fmt.Errorf("weir ended: %s", lastLine(weir.Output()))
		case <-ctx.Done():
			return rows, ctx.Err()
		default:
		}
	}
	return rows, nil
}

// measure runs the traffic and fills the row in.
func (l *Lab) measure(row *Row, run func() *Tally) error {
	decaps, err := l.Decapsulated()
	if err != nil {
		return err
	}
	replies := l.Replies()
	t := run()
	now := l.Replies()
	row.Replies = Replies{now.ViaDirector - replies.ViaDirector, now.Direct - replies.Direct}
	row.Decaps, err = l.Decapsulated()
	row.Decaps -= decaps
	row.Bytes, row.Errors, row.First = t.Bytes, t.Errors, t.First
	for _, s := range l.Servers {
		row.Got = append(row.Got, t.PerServer[s.Role])
	}
	for a := range t.Saw {
		row.Saw = append(row.Saw, a)
	}
	slices.SortFunc(row.Saw, netip.Addr.Compare)
	return err
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}
