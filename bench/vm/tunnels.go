package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"time"

	"weir/internal/lab"
	"weir/internal/testnet"
	"weir/lb"
)

// tunnel is a way to wrap packets, and what of a server's kernel unwraps them, as README.md tells users to set it up.
type tunnel struct {
	name    string
	options string // of the rule
	vip     string
	cross   bool // the server is reached by the IP version that the VIP is not of
	modules []string
	device  string
	setUp   []string // commands of ip
}

const (
	vip4 = "192.0.2.100"
	vip6 = "2001:db8::100"
)

var tunnels = []tunnel{
	{name: "IP in IP", vip: vip4, modules: []string{"ipip"}, device: "tunl0"},
	{name: "IPv6 in IPv4", vip: vip6, cross: true, modules: []string{"sit"}, device: "sit0"},
	{name: "IPv6 in IPv6", vip: vip6, modules: []string{"ip6_tunnel"}, device: "ip6tnl0"},
	{name: "IPv4 in IPv6", vip: vip4, cross: true, modules: []string{"ip6_tunnel"}, device: "ip6tnl0",
		setUp: []string{"-6 tunnel change ip6tnl0 mode any"}}, // it begins with IPv6 in IPv6 only (net/ipv6/ip6_tunnel.c, ip6_fb_tnl_dev_init)
	{name: "GRE", options: "--tun-type gre", vip: vip4, modules: []string{"ip_gre"}, device: "gre0"},
	{name: "GRE with checksums", options: "--tun-type gre --tun-csum", vip: vip4, modules: []string{"ip_gre"}, device: "gre1",
		setUp: []string{"link add gre1 type gre local RIP icsum"}}, // gre0 takes none with a checksum (net/ipv4/ip_tunnel.c, ip_tunnel_rcv)
	{name: "GUE", options: "--tun-type gue --tun-port 6080", vip: vip4, modules: []string{"ipip", "fou"}, device: "tunl0",
		setUp: []string{"fou add port 6080 gue"}},
	{name: "GUE with checksums", options: "--tun-type gue --tun-port 6080 --tun-csum", vip: vip4, modules: []string{"ipip", "fou"}, device: "tunl0",
		setUp: []string{"fou add port 6080 gue"}},
}

const (
	tunnelRequests = 60
	tunnelDownload = 256 << 10
)

// check brings HTTP and UDP through weir to servers whose kernels unwrap the tunnel, and looks whether everything was answered, and by that way.
func (u *tunnel) check(ctx context.Context) error {
	for _, module := range u.modules {
		if out, err := exec.Command("modprobe", module).CombinedOutput(); err != nil {
			return fmt.Errorf("modprobe %s: %w: %s", module, err, out)
		}
	}
	return testnet.Run(func(r testnet.Reporter) error {
		l := lab.New(r, testnet.New(r), testnet.Plan{VIPs: []string{vip4, vip6}})
		if err := l.ByKernel(u.device, u.setUp...); err != nil {
			return err
		}
		vip := netip.MustParseAddr(u.vip)
		service := func(p lb.Proto, port uint16) lab.Service {
			return lab.Service{Proto: p, VIP: netip.AddrPortFrom(vip, port), Mode: lb.TUN, Weights: []int{1, 1, 1}, Tunnel: u.options, Cross: u.cross}
		}
		web, echo := service(lb.TCP, lab.HTTPPort), service(lb.UDP, lab.EchoPort)
		weir, err := l.StartWeir(ctx, weirPath, nil, []lab.Service{web, echo})
		if err != nil {
			return err
		}
		before, err := l.Received(u.device)
		if err != nil {
			return err
		}
		for _, t := range []struct {
			what  string
			tally *lab.Tally
			want  int
		}{
			{"requests", l.Requests(ctx, web.VIP, tunnelRequests), tunnelRequests},
			{"download", l.Download(ctx, web.VIP, tunnelDownload), 1},
			{"datagrams", l.Echoes(ctx, echo.VIP, tunnelRequests), tunnelRequests},
		} {
			answers := 0
			for _, n := range t.tally.PerServer {
				answers += n
			}
			if answers != t.want {
				return fmt.Errorf("%s: %d of %d were answered, %d errors, the first: %v", t.what, answers, t.want, t.tally.Errors, t.tally.First)
			}
		}
		after, err := l.Received(u.device)
		if got := after - before; err == nil && got < 5*tunnelRequests { // a request's SYN, ACK, request, ACK of the answer and FIN at least
			err = fmt.Errorf("only %d packets came by %s", got, u.device)
		}
		return errors.Join(err, weir.Stop(10*time.Second))
	})
}
