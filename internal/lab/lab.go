// Package lab is a client, a director and three real servers as network namespaces of this machine, and the traffic that shows whether
// weir brings the one to the others.
//
//	l := lab.New(r, testnet.New(r), testnet.Plan{}, lab.Service{…}, …)
//	d, err := l.StartWeir(ctx, "bin/weir", nil, services)
//	tally := l.Requests(ctx, services[0].VIP, 1000)
package lab

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"weir/bpf"
	"weir/internal/testnet"
	"weir/lb"
	"weir/sched"
)

// LIP and LIP6 are the addresses that FULLNAT talks to the lab's servers from.
var (
	LIP  = netip.MustParseAddr("10.0.0.201")
	LIP6 = netip.MustParseAddr("fd00:10::201")
)

// Ports that every server listens on. The second one of each protocol is for services that translate ports.
const (
	HTTPPort    = 80
	HTTPAltPort = 8080
	EchoPort    = 7
	EchoAltPort = 7007
)

// Lab is a topology whose servers serve.
type Lab struct {
	*testnet.Topology
	decaps  []*bpf.Decap
	dialled atomic.Uint32 // the client's TCP connections
}

// New builds the topology in an empty network and starts its servers: HTTP and UDP echo, on their own addresses and on the VIPs of the plan,
// unwrapping what arrives in a tunnel.
func New(r testnet.Reporter, n *testnet.Net, plan testnet.Plan) *Lab {
	r.Helper()
	l := &Lab{Topology: testnet.NewTopology(n, plan)}
	for _, host := range l.Servers {
		if err := serve(r, host, plan.VIPs); err != nil {
			r.Fatalf("%s: %v", host.Name, err)
		}
		if err := l.decapsulate(host); err != nil {
			r.Fatalf("%s: %v", host.Name, err)
		}
		d := l.decaps[len(l.decaps)-1]
		r.Cleanup(func() { d.Close() })
	}
	return l
}

func (l *Lab) decapsulate(host *testnet.Host) error {
	return host.Do(func() error {
		d, err := bpf.AttachDecap(host.Dev.Index, lb.AddrFrom(host.IP), lb.AddrFrom(host.IP6))
		l.decaps = append(l.decaps, d)
		return err
	})
}

// Decapsulated returns how many packets the servers took out of a tunnel.
func (l *Lab) Decapsulated() (n uint64, err error) {
	for _, d := range l.decaps {
		one, err := d.Count()
		if err != nil {
			return 0, err
		}
		n += one
	}
	return n, nil
}

// Service is a virtual service in front of all the lab's servers.
type Service struct {
	Proto      lb.Proto
	VIP        netip.AddrPort
	Mode       lb.Mode
	Scheduler  string // wrr when empty
	Weights    []int  // of the servers, in their order
	ServerPort uint16 // the VIP's when 0
	Tunnel     string // TUN: options as in "--tun-type gre --tun-csum"
	Cross      bool   // TUN, FULLNAT: the servers are reached by the IP version that the VIP is not of
}

// LIPFor returns the LIP that a service's servers see as their client.
func (l *Lab) LIPFor(s Service) netip.Addr {
	if l.server(s, 0).Is6() {
		return LIP6
	}
	return LIP
}

var (
	protoFlags = map[lb.Proto]string{lb.TCP: "-t", lb.UDP: "-u", lb.SCTP: "--sctp-service"}
	modeFlags  = map[lb.Mode]string{lb.DR: "-g", lb.NAT: "-m", lb.FULLNAT: "-F", lb.TUN: "-i"}
)

func (s Service) scheduler() string {
	if s.Scheduler == "" {
		return "wrr"
	}
	return s.Scheduler
}

func (s Service) serverPort() uint16 {
	if s.ServerPort == 0 {
		return s.VIP.Port()
	}
	return s.ServerPort
}

// Rules returns the service in ipvsadm's grammar.
func (l *Lab) Rules(s Service) []string {
	rules := []string{fmt.Sprintf("-A %s %s -s %s", protoFlags[s.Proto], s.VIP, s.scheduler())}
	for i, w := range s.Weights {
		rules = append(rules, fmt.Sprintf("-a %s %s -r %s %s -w %d", protoFlags[s.Proto], s.VIP,
			netip.AddrPortFrom(l.server(s, i), s.serverPort()), strings.TrimSpace(modeFlags[s.Mode]+" "+s.Tunnel), w))
	}
	return rules
}

// server returns the address that a service reaches a server by.
func (l *Lab) server(s Service, i int) netip.Addr {
	if s.VIP.Addr().Is6() != s.Cross {
		return l.Servers[i].IP6
	}
	return l.Servers[i].IP
}

// Want returns how many of n connections each server should get, by asking the scheduler itself. It holds for schedulers that look at
// nothing but weights: rr and wrr.
func (l *Lab) Want(s Service, n int) ([]int, error) {
	scheduler, err := sched.New(s.scheduler(), nil)
	if err != nil {
		return nil, err
	}
	// As ipvsadm would: a service without servers, to which one after the other is added in front.
	list := &sched.List{}
	scheduler.Update(list)
	for i, w := range s.Weights {
		added := &sched.Server{ID: lb.NewServerID(uint32(i+1), 0), Serial: uint64(i + 1), Addr: lb.AddrFrom(l.server(s, i)),
			Port: s.serverPort(), Weight: int32(w), Load: &lb.Load{}}
		list = &sched.List{Servers: slices.Insert(slices.Clone(list.Servers), 0, added)}
		scheduler.Update(list)
	}
	want := make([]int, len(s.Weights))
	for range n {
		if picked := scheduler.Pick(&sched.Request{}); picked != nil {
			want[picked.ID.Slot()-1]++
		}
	}
	return want, nil
}

// Socket is where the director's weir listens for weiradm.
func (l *Lab) Socket() string { return l.Director.Socket() }

// StartWeir runs the daemon on the director, with the given services and further flags, and returns when it is ready. It is told to stop when
// ctx is done. What it logs goes to log too, unless that is nil.
func (l *Lab) StartWeir(ctx context.Context, weir string, log io.Writer, services []Service, flags ...string) (*testnet.Process, error) {
	var args []string
	for _, name := range l.Interfaces() {
		args = append(args, "--interface", name)
	}
	var locals []string
	for _, s := range services {
		for _, rule := range l.Rules(s) {
			args = append(args, "--rule", rule)
		}
		if lip := l.LIPFor(s).String(); s.Mode == lb.FULLNAT && !slices.Contains(locals, lip) {
			locals = append(locals, lip)
			args = append(args, "--local-address", lip)
		}
	}
	args = append(append(args, "--assign-addresses", "--admin-socket", l.Socket()), flags...)
	p := l.Director.StartTee(log, weir, args...)
	context.AfterFunc(ctx, func() { p.Signal(syscall.SIGTERM) })
	return p, p.WaitOutput("msg=ready", time.Minute)
}
