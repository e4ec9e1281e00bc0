package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"weir/internal/testnet"
	"weir/lb"
)

const (
	clientVLAN, serverVLAN = 10, 20

	vlanLIP      = "10.0.0.201"
	vlanRequests = 20
)

// checkVLANs brings connections through weir on one trunk, between a client on one of the kernel's VLAN devices and servers on another.
//
//	client, eth0.10 ── director, eth0 with eth0.10 and eth0.20 ── servers, eth0.20; for their direct answers eth0.10
func checkVLANs(ctx context.Context, mode lb.Mode) error {
	return testnet.Run(func(r testnet.Reporter) error {
		n := testnet.New(r)
		wire := n.Namespace("switch")
		wire.Bridge("lan")
		// An MTU with room for the tag: a veth counts it, as XDP sees it.
		host := func(role string) *testnet.Namespace {
			ns := n.Namespace(role)
			n.Veth(testnet.End{NS: ns, MTU: testnet.ServerMTU}, testnet.End{NS: wire, Name: role, Bridge: "lan", MTU: testnet.ServerMTU})
			return ns
		}
		vlan := func(ns *testnet.Namespace, id int, addr string) {
			name := fmt.Sprintf("eth0.%d", id)
			for _, command := range []string{
				fmt.Sprintf("link add link eth0 name %s mtu 1500 type vlan id %d", name, id),
				fmt.Sprintf("link set %s up", name),
				fmt.Sprintf("addr add %s dev %s", addr, name),
			} {
				if out, err := ns.Run("ip", strings.Fields(command)...); err != nil {
					r.Fatalf("%v: %s", err, out)
				}
			}
		}
		client, director := host("client"), host("director")
		vlan(client, clientVLAN, "192.0.2.10/24")
		client.Route("10.0.0.0/24", "192.0.2.1")
		vlan(director, clientVLAN, "192.0.2.1/24")
		vlan(director, serverVLAN, "10.0.0.1/24")
		director.Forward()
		rules := []string{fmt.Sprintf("-A -t %s:80 -s rr", vip4)}
		flags := map[lb.Mode]string{lb.DR: "-g", lb.NAT: "-m", lb.FULLNAT: "-F"}
		for i := range 2 {
			role, addr := fmt.Sprintf("server%d", i+1), fmt.Sprintf("10.0.0.%d", 11+i)
			s := host(role)
			vlan(s, serverVLAN, addr+"/24")
			vlan(s, clientVLAN, fmt.Sprintf("192.0.2.%d/32", 201+i))
			s.Route("0.0.0.0/0", "10.0.0.1")
			if mode == lb.DR {
				s.Sysctl("net.ipv4.conf.all.arp_ignore", "1")
				s.Sysctl("net.ipv4.conf.all.arp_announce", "2")
				s.AddAddr("lo", vip4+"/32")
				s.Route("192.0.2.0/24", fmt.Sprintf("eth0.%d", clientVLAN))
			}
			l, err := s.Listen("tcp", ":80")
			if err != nil {
				return err
			}
			r.Cleanup(func() { l.Close() })
			go sayWho(l, role)
			rules = append(rules, fmt.Sprintf("-a -t %s:80 -r %s:80 %s", vip4, addr, flags[mode]))
		}
		args := []string{"--interface", "eth0", "--assign-addresses", "--admin-socket", ""}
		if mode == lb.FULLNAT {
			args = append(args, "--local-address", vlanLIP)
		}
		for _, rule := range rules {
			args = append(args, "--rule", rule)
		}
		weir := director.Start(weirPath, args...)
		if err := weir.WaitOutput("msg=ready", time.Minute); err != nil {
			return err
		}
		saw := map[lb.Mode]string{lb.DR: "192.0.2.10", lb.NAT: "192.0.2.10", lb.FULLNAT: vlanLIP}[mode]
		answers := map[string]int{}
		for range vlanRequests {
			c, err := client.DialContext(ctx, "tcp", vip4+":80")
			if err != nil {
				return err
			}
			b, err := io.ReadAll(c)
			c.Close()
			if err != nil {
				return err
			}
			answers[string(b)]++
		}
		for _, role := range []string{"server1", "server2"} {
			if answers[role+" saw "+saw] != vlanRequests/2 {
				return fmt.Errorf("the answers were %v, want half of them from %s, who saw %s", answers, role, saw)
			}
		}
		return weir.Stop(10 * time.Second)
	})
}

// sayWho answers each connection with who took it and whom it saw.
func sayWho(l net.Listener, name string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
		fmt.Fprintf(c, "%s saw %s", name, strings.TrimPrefix(host, "::ffff:"))
		c.Close()
	}
}
