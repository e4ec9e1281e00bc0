// Package rig measures forwarders: weir, and what it is compared with, one after the other on the same generator, wires and sink.
//
//	suite := rig.Suite{Plan: rig.Full(rig.Programs{Weir: "bin/weir", Bare: "bin/bare"}, time.Second), Runs: 5}
//	report, err := suite.Run(ctx, progress)
//	report.Print(os.Stdout)
//
// Each trial has a network of its own, made for it and removed after it: nothing of one candidate is left for the next.
//
//	two arms:  generator, clients ── director ── servers, sink        one arm:  generator, clients, servers, sink ── director
//
// The generator injects frames by BPF_PROG_RUN, the sink counts and drops them in XDP: both cost a small part of what any forwarder
// does, and neither has a queue of its own in front of the director's that would hide a loss.
package rig

import (
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"

	"weir/bpf"
	"weir/internal/testnet"
)

// The addresses of a trial. Clients are 10.64.0.1 and up, as many as the flows need at 64,512 ports each.
var (
	vip         = netip.MustParseAddrPort("192.0.2.10:53")
	local       = netip.MustParseAddr("10.0.0.254") // the first of FULLNAT's local addresses; more are below it
	firstClient = netip.MustParseAddrPort("10.64.0.1:1024")
	clientNet   = netip.MustParsePrefix("10.64.0.0/10")
)

// The same over IPv6, which is weir's only: the clients' addresses differ in their last four bytes.
var (
	vip6         = netip.MustParseAddrPort("[2001:db8:2::10]:53")
	local6       = netip.MustParseAddr("fd00:10::fffe")
	firstClient6 = netip.MustParseAddrPort("[2001:db8:64::1]:1024")
	clientNet6   = netip.MustParsePrefix("2001:db8:64::/64")
)

const (
	serverPort = 5353 // of those modes that translate ports
	frontAddr  = "192.0.2.1"
	backAddr   = "10.0.0.1"
	frontAddr6 = "2001:db8:2::1"
	backAddr6  = "fd00:10::1"
)

// ends are a trial's addresses of one IP version.
type ends struct {
	vip, firstClient netip.AddrPort
	clients          netip.Prefix
	local            netip.Addr
	back             string
}

func (l *Load) ends() ends {
	if l.IPv6 {
		return ends{vip6, firstClient6, clientNet6, local6, backAddr6}
	}
	return ends{vip, firstClient, clientNet, local, backAddr}
}

// network is one trial's: the director between the generator's wire and the sink's.
type network struct {
	*testnet.Net
	clients, director, servers *testnet.Namespace
	front, back                *testnet.Device // the director's; the same with one arm
	in, out                    *testnet.Device // their other ends: where the generator injects and where the sink is
	sink                       *bpf.Sink
}

// server is one real server: an address and a MAC of its own, on the sink's wire.
type server struct {
	addr netip.Addr
	mac  net.HardwareAddr
}

func serverList(n int) (all []server) {
	for i := range n {
		all = append(all, server{netip.AddrFrom4([4]byte{10, 0, 0, byte(11 + i)}), net.HardwareAddr{2, 0, 0, 0, 1, byte(i)}})
	}
	return all
}

// servers returns the load's, of its IP version.
func (l *Load) servers() []server {
	all := serverList(l.Servers)
	if l.IPv6 {
		addr := netip.MustParseAddr(backAddr6)
		for i := range all {
			addr = addr.Next()
			all[i].addr = addr
		}
	}
	return all
}

// gatewayMAC is where kernel forwarders send what is for the clients.
var gatewayMAC = net.HardwareAddr{2, 0, 0, 0, 2, 0}

// build makes the network, with a permanent neighbour for every server: nothing is asked for while a trial runs.
func build(r testnet.Reporter, arms int, servers []server) *network {
	n := testnet.New(r)
	t := &network{Net: n, clients: n.Namespace("clients"), director: n.Namespace("director")}
	t.director.Forward()
	frontAddrs, backAddrs := []string{frontAddr + "/24"}, []string{backAddr + "/24"}
	if servers[0].addr.Is6() {
		frontAddrs, backAddrs = append(frontAddrs, frontAddr6+"/64"), append(backAddrs, backAddr6+"/64")
	}
	if arms == 1 {
		t.servers = t.clients
		t.front, t.in = n.Veth(testnet.End{NS: t.director, Addrs: append(frontAddrs, backAddrs...), MTU: testnet.ServerMTU},
			testnet.End{NS: t.clients, MTU: testnet.ServerMTU})
		t.back, t.out = t.front, t.in
	} else {
		t.servers = n.Namespace("servers")
		t.front, t.in = n.Veth(testnet.End{NS: t.director, Addrs: frontAddrs}, testnet.End{NS: t.clients})
		t.back, t.out = n.Veth(testnet.End{NS: t.director, Name: "eth1", Addrs: backAddrs, MTU: testnet.ServerMTU},
			testnet.End{NS: t.servers, MTU: testnet.ServerMTU})
	}
	for _, s := range servers {
		t.neighbour(r, t.back, s.addr, s.mac)
	}
	err := t.servers.Do(func() (err error) {
		t.sink, err = bpf.NewSink(t.out.Index, bpf.SinkOptions{SampleOneIn: 64, Latency: true})
		return err
	})
	if err != nil {
		r.Fatalf("%v", err)
	}
	r.Cleanup(func() { t.sink.Close() })
	return t
}

func (t *network) neighbour(r testnet.Reporter, d *testnet.Device, addr netip.Addr, mac net.HardwareAddr) {
	err := d.NS.Do(func() error {
		return netlink.NeighSet(&netlink.Neigh{LinkIndex: d.Index, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: mac})
	})
	if err != nil {
		r.Fatalf("neighbour %s: %v", addr, err)
	}
}

// interfaces returns the names of the director's interfaces.
func (t *network) interfaces() []string {
	if t.front == t.back {
		return []string{t.front.Name}
	}
	return []string{t.front.Name, t.back.Name}
}

// readyWithin bounds how long a candidate takes to start.
const readyWithin = 30 * time.Second

// Layout says which CPUs a trial's parts have.
type Layout string

const (
	// OwnCPU gives the director's process (or the kernel thread that forwards) the last CPU, and generator and interrupts the first.
	OwnCPU Layout = "own-cpu"
	// OneCPU has everything on the first CPU; the generator runs when nobody else wants to.
	OneCPU Layout = "one-cpu"
)
