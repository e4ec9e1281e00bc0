package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weir/bpf"
	"weir/internal/lab"
	"weir/internal/testnet"
	"weir/lb"
)

const narrowMTU = 1300

// behind attaches a host to one of the lab's switches by way of two routers, with a link of narrowMTU between them: what is too long for
// it, neither end of the way can know.
//
//	switch ── near ── narrow ── far ── host
func behind(d *director, sw *testnet.Namespace, bridge, nearAddr, gateway string, role, network string, addrs ...string) (near *testnet.Namespace, host *testnet.Namespace, dev *testnet.Device) {
	near, far := d.Namespace(role+"-near"), d.Namespace(role+"-far")
	host = d.Namespace(role)
	d.far = far
	near.Forward()
	far.Forward()
	d.Veth(testnet.End{NS: near, Addrs: []string{nearAddr}}, testnet.End{NS: sw, Name: role, Bridge: bridge})
	d.Veth(testnet.End{NS: near, Name: "eth1", Addrs: []string{"172.16.0.1/30"}, MTU: narrowMTU},
		testnet.End{NS: far, Addrs: []string{"172.16.0.2/30"}, MTU: narrowMTU})
	prefix := netip.MustParsePrefix(network)
	last := prefix.Addr().Next() // the far router's
	dev, _ = d.Veth(testnet.End{NS: host, Addrs: addrs}, testnet.End{NS: far, Name: "eth1", Addrs: []string{fmt.Sprintf("%s/%d", last, prefix.Bits())}})
	route(d, near, network, "172.16.0.2")
	if gateway != "" {
		route(d, near, "default", gateway)
	}
	route(d, far, "default", "172.16.0.1")
	host.Route("0.0.0.0/0", last.String())
	return near, host, dev
}

// route adds a route that has no MTU of its own, unlike Namespace.Route's.
func route(d *director, ns *testnet.Namespace, prefix, gateway string) {
	d.t.Helper()
	if out, err := ns.Run("ip", "route", "add", prefix, "via", gateway); err != nil {
		d.t.Fatalf("%s: %v: %s", ns.Role, err, out)
	}
}

// remoteClient puts a client behind a narrow link, with an address for each mode: servers remember what they have learnt about one.
func remoteClient(d *director, bridge string) (client *testnet.Namespace, from map[lb.Mode]string) {
	const network = "198.51.100.0/24"
	from = map[lb.Mode]string{}
	var addrs []string
	for i, mode := range lab.Modes {
		from[mode] = fmt.Sprintf("198.51.100.%d", 11+i)
		addrs = append(addrs, from[mode]+"/24")
	}
	near, client, _ := behind(d, d.FrontPort.NS, bridge, "192.0.2.240/24", "", "remote", network, addrs...)
	near.Sysctl("net.ipv4.conf.all.proxy_arp", "1") // for servers that answer past the director
	d.Director.Route(network, "192.0.2.240")
	for _, host := range d.Servers {
		for _, vip := range d.vipList() {
			host.RouteFrom(vip, network, host.Direct.Name)
		}
	}
	return client, from
}

// A client behind a narrow link downloads in every mode: what the servers send is too long, and the router that says so says it to the VIP.
func TestDownloadsOverANarrowPathComplete(t *testing.T) {
	for name, plan := range arms {
		t.Run(name, func(t *testing.T) {
			d := newLab(t, plan)
			bridge := "front"
			if plan.OneArm {
				bridge = "lan"
			}
			client, from := remoteClient(d, bridge)
			bulk := serveBulk(t, d, bulkBytes)
			services := map[lb.Mode]lab.Service{}
			var all []lab.Service
			for _, mode := range lab.Modes {
				services[mode] = service(lb.TCP, mode, 8001, bulkPort, 1, 1, 1)
				all = append(all, services[mode])
			}
			d.start(all)
			for _, mode := range lab.Modes {
				t.Run(mode.String(), func(t *testing.T) {
					for range 3 { // a server each
						wantExchange(t, client, from[mode]+":0", services[mode].VIP, bulk)
					}
				})
			}
		})
	}
}

func wantExchange(t *testing.T, client *testnet.Namespace, from string, to netip.AddrPort, server <-chan error) {
	t.Helper()
	c, err := client.DialFrom(t.Context(), "tcp", from, to.String())
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if err := errors.Join(exchange(c, 'C', 'S', bulkBytes), c.Close(), <-server); err != nil {
		t.Fatal(err)
	}
}

// A server behind a narrow link takes uploads: the router on the way says to weir's own address, or to the client about an address
// it never heard of, that something is too long. The client must be told about the VIP, and about its own packet.
func TestUploadsOverANarrowPathComplete(t *testing.T) {
	for _, mode := range []lb.Mode{lb.NAT, lb.FULLNAT, lb.TUN} {
		t.Run(mode.String(), func(t *testing.T) {
			d := newLab(t, arms["two arms"])
			const network, rip = "10.9.0.0/24", "10.9.0.2"
			vip := vips[mode]
			near, server, dev := behind(d, d.BackPort.NS, "back", "10.0.0.240/24", testnet.DIP, "remote", network, rip+"/24")
			d.Director.Route(network, "10.0.0.240")
			// Answers from a VIP go past the director, as those of the lab's servers do.
			d.Veth(testnet.End{NS: near, Name: "eth2", Addrs: []string{"192.0.2.240/32"}}, testnet.End{NS: d.FrontPort.NS, Name: "remote-direct", Bridge: "front"})
			if mode == lb.TUN {
				near.RouteFrom(vip, testnet.ClientNet, "eth2")
				server.AddAddr("lo", vip.String()+"/32")
				var decap *bpf.Decap
				if err := server.Do(func() (err error) {
					decap, err = bpf.AttachDecap(dev.Index, lb.MustParseAddr(rip))
					return err
				}); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { decap.Close() })
			}
			host := &testnet.Host{Namespace: server, IP: netip.MustParseAddr(rip)}
			results := make(chan error, 10)
			accept(t, host, bulkPort, func(c net.Conn) {
				c.SetDeadline(time.Now().Add(20 * time.Second))
				results <- exchange(c, 'S', 'C', bulkBytes)
			})
			to := netip.AddrPortFrom(vip, bulkPort)
			flags := []string{"--rule", fmt.Sprintf("-A -t %s -s rr", to), "--rule", fmt.Sprintf("-a -t %s -r %s:%d %s", to, rip, bulkPort, flagOf(mode)),
				"--rule", fmt.Sprintf("-A -u %s -s rr", to), "--rule", fmt.Sprintf("-a -u %s -r %s:%d %s", to, rip, bulkPort, flagOf(mode))}
			if mode == lb.FULLNAT {
				flags = append(flags, "--local-address", lab.LIP.String())
			}
			d.start(nil, flags...)
			wantExchange(t, d.Client.Namespace, "", to, results)
			if mode != lb.TUN {
				wantHopsSeen(t, d, to)
			}
		})
	}
}

func flagOf(mode lb.Mode) string {
	return map[lb.Mode]string{lb.DR: "-g", lb.NAT: "-m", lb.FULLNAT: "-F", lb.TUN: "-i"}[mode]
}

// wantHopsSeen sends datagrams that end on their way, as traceroute does: the client's kernel finds the socket by what is quoted, and
// hears of every hop but the last, which has the server behind it: that one refuses.
func wantHopsSeen(t *testing.T, d *director, to netip.AddrPort) {
	t.Helper()
	c, err := d.Client.Dial("udp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	option := func(name, value int) {
		t.Helper()
		var failed error
		if err := raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, name, value) }); err != nil || failed != nil {
			t.Fatal(err, failed)
		}
	}
	option(unix.IP_RECVERR, 1)
	for ttl, want := range []error{1: unix.EHOSTUNREACH, 2: unix.EHOSTUNREACH, 3: unix.EHOSTUNREACH, 4: unix.ECONNREFUSED} {
		if ttl == 0 {
			continue
		}
		option(unix.IP_TTL, ttl)
		c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Write(bytes.Repeat([]byte("x"), 20)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAtLeast(c, make([]byte, 16), 1); !errors.Is(err, want) {
			t.Errorf("TTL %d: %v, want %v", ttl, err, want)
		}
	}
}

// The same over IPv6, where routers never cut anything: NAT, FULLNAT and the tunnels need the error more than ever.
func TestIPv6OverANarrowPathCompletes(t *testing.T) {
	modes := map[lb.Mode]string{lb.DR: "2001:db8::101", lb.NAT: "2001:db8::102", lb.FULLNAT: "2001:db8::103", lb.TUN: "2001:db8::104"}
	plan := arms["two arms"]
	for _, vip := range modes {
		plan.VIPs = append(plan.VIPs, vip)
	}
	d := newLab(t, plan)
	const network = "2001:db8:51::/64"
	near, far, client := d.Namespace("remote-near"), d.Namespace("remote-far"), d.Namespace("remote")
	near.Forward()
	far.Forward()
	d.Veth(testnet.End{NS: near, Addrs: []string{"2001:db8::240/64"}}, testnet.End{NS: d.FrontPort.NS, Name: "remote", Bridge: "front"})
	d.Veth(testnet.End{NS: near, Name: "eth1", Addrs: []string{"fd00:99::1/64"}, MTU: narrowMTU},
		testnet.End{NS: far, Addrs: []string{"fd00:99::2/64"}, MTU: narrowMTU})
	addrs, from := []string{}, map[lb.Mode]string{}
	for i, mode := range lab.Modes {
		from[mode] = fmt.Sprintf("2001:db8:51::%d", 11+i)
		addrs = append(addrs, from[mode]+"/64")
	}
	d.Veth(testnet.End{NS: client, Addrs: addrs}, testnet.End{NS: far, Name: "eth1", Addrs: []string{"2001:db8:51::1/64"}})
	route(d, near, network, "fd00:99::2")
	route(d, far, "default", "fd00:99::1")
	route(d, client, "default", "2001:db8:51::1")
	d.Director.Route(network, "2001:db8::240")
	// Servers that answer past the director have only neighbours on that link: the router answers for what is behind it.
	near.Sysctl("net.ipv6.conf.all.proxy_ndp", "1")
	for _, mode := range lab.Modes {
		if out, err := near.Run("ip", "neigh", "add", "proxy", from[mode], "dev", "eth0"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	for _, host := range d.Servers {
		for _, vip := range modes {
			host.RouteFrom(netip.MustParseAddr(vip), network, host.Direct.Name)
		}
	}
	bulk := serveBulk(t, d, bulkBytes)
	var all []lab.Service
	services := map[lb.Mode]lab.Service{}
	for mode, vip := range modes {
		s := lab.Service{Proto: lb.TCP, VIP: netip.AddrPortFrom(netip.MustParseAddr(vip), bulkPort), Mode: mode, Weights: []int{1, 1, 1}}
		services[mode] = s
		web := s
		web.VIP = netip.AddrPortFrom(s.VIP.Addr(), lab.HTTPAltPort)
		all = append(all, s, web)
	}
	d.start(all)
	for _, mode := range lab.Modes {
		t.Run(mode.String(), func(t *testing.T) {
			for range 3 { // a server each
				wantExchange(t, client, netip.AddrPortFrom(netip.MustParseAddr(from[mode]), 0).String(), services[mode].VIP, bulk)
			}
			// The director's kernel answers echoes, of any size; its first long answer tells it of the narrow way.
			for _, row := range []struct {
				args, want string
			}{
				{fmt.Sprintf("-M do -c 1 -s %d", narrowMTU-48), "1 received"},
				{fmt.Sprintf("-M do -c 1 -s %d", narrowMTU-47), fmt.Sprintf("mtu: %d|mtu = %[1]d|mtu=%[1]d", narrowMTU)},
				{"-M dont -c 3 -i 0.3 -s 9000", "[123] received"},
			} {
				args := slices.Concat([]string{"-6", "-n", "-W", "5", "-I", from[mode]}, strings.Fields(row.args), []string{modes[mode]})
				if out, _ := client.Run("ping", args...); !regexp.MustCompile(row.want).MatchString(out) {
					t.Errorf("ping %s:\n%s\nwant %q", row.args, out, row.want)
				}
			}
			url := fmt.Sprintf("http://%s", netip.AddrPortFrom(services[mode].VIP.Addr(), lab.HTTPAltPort))
			out, err := client.Run("curl", "-6", "--silent", "--show-error", "--fail", "--max-time", "20", "--interface", from[mode], "--output", os.DevNull,
				"--write-out", "%{size_download}", url+"/download/2000000")
			if err != nil || out != "2000000" {
				t.Errorf("curl %s: %v: %s bytes came down", url, err, out)
			}
		})
	}
}
