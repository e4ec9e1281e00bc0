package e2e

import (
	"net/netip"
	"testing"

	"weir/internal/lab"
	"weir/lb"
)

// ways are those that TestEveryModeByEveryWay does not go: IPv6 in every mode, and every tunnel.
var ways = map[string]struct {
	vip    string
	mode   lb.Mode
	tunnel string
	cross  bool
}{
	"DR of IPv6":              {"2001:db8::101", lb.DR, "", false},
	"NAT of IPv6":             {"2001:db8::102", lb.NAT, "", false},
	"FULLNAT of IPv6":         {"2001:db8::103", lb.FULLNAT, "", false},
	"FULLNAT of IPv6 to IPv4": {"2001:db8::110", lb.FULLNAT, "", true},
	"FULLNAT of IPv4 to IPv6": {"192.0.2.110", lb.FULLNAT, "", true},
	"IPv6 in IPv6":            {"2001:db8::104", lb.TUN, "", false},
	"IPv6 in IPv4":            {"2001:db8::105", lb.TUN, "", true},
	"IPv4 in IPv6":            {"192.0.2.105", lb.TUN, "", true},
	"IPv4 in GUE":             {"192.0.2.106", lb.TUN, "--tun-type gue --tun-port 6080 --tun-nocsum", false},
	"IPv4 in GUE over IPv6":   {"192.0.2.107", lb.TUN, "--tun-type gue --tun-port 6080 --tun-csum", true},
	"IPv6 in GUE":             {"2001:db8::106", lb.TUN, "--tun-type gue --tun-port 6080 --tun-csum", false},
	"IPv6 in GUE over IPv4":   {"2001:db8::107", lb.TUN, "--tun-type gue --tun-port 6080 --tun-remcsum", true},
	"IPv4 in GRE":             {"192.0.2.108", lb.TUN, "--tun-type gre --tun-csum", false},
	"IPv4 in GRE over IPv6":   {"192.0.2.109", lb.TUN, "--tun-type gre --tun-nocsum", true},
	"IPv6 in GRE":             {"2001:db8::108", lb.TUN, "--tun-type gre --tun-nocsum", false},
	"IPv6 in GRE over IPv4":   {"2001:db8::109", lb.TUN, "--tun-type gre --tun-csum", true},
}

func TestIPv6AndEveryTunnel(t *testing.T) {
	for name, plan := range arms {
		t.Run(name, func(t *testing.T) {
			var extra []netip.Addr
			for _, way := range ways {
				extra = append(extra, netip.MustParseAddr(way.vip))
				plan.VIPs = append(plan.VIPs, way.vip)
			}
			d := newLab(t, plan)
			serveEchoes(t, d, extra...)
			bulk := serveBulk(t, d, bulkBytes)
			var all []lab.Service
			web, echo, sizes, streams := map[string]lab.Service{}, map[string]lab.Service{}, map[string]lab.Service{}, map[string]lab.Service{}
			for what, way := range ways {
				on := func(proto lb.Proto, port, serverPort uint16, weights ...int) lab.Service {
					s := lab.Service{Proto: proto, VIP: netip.AddrPortFrom(netip.MustParseAddr(way.vip), serverPort), Mode: way.mode, Weights: weights,
						Tunnel: way.tunnel, Cross: way.cross}
					if way.mode == lb.NAT || way.mode == lb.FULLNAT {
						s.VIP, s.ServerPort = netip.AddrPortFrom(s.VIP.Addr(), port), serverPort
					}
					all = append(all, s)
					return s
				}
				web[what] = on(lb.TCP, 8000, lab.HTTPAltPort, 1, 2, 3)
				echo[what] = on(lb.UDP, 8007, lab.EchoAltPort, 5, 0, 1)
				sizes[what] = on(lb.UDP, 8008, echoPort, 1, 1, 1)
				streams[what] = on(lb.TCP, 8001, bulkPort, 1, 1, 1)
			}
			var flags []string
			if plan.OneArm { // with two arms outer packets come from the director's own address
				flags = []string{"--tunnel-source", "10.77.0.0/16", "--tunnel-source", "fd00:77::/64"}
			}
			d.start(all, flags...)
			for what, way := range ways {
				t.Run(what, func(t *testing.T) {
					before, err := d.Decapsulated()
					if err != nil {
						t.Fatal(err)
					}
					d.wantTally(t, web[what], 60, d.Requests(t.Context(), web[what].VIP, 60))
					d.wantTally(t, echo[what], 60, d.Echoes(t.Context(), echo[what].VIP, 60))
					wantEverySize(t, d, sizes[what].VIP)
					wantBulk(t, d, streams[what].VIP, bulk)
					after, err := d.Decapsulated()
					if err != nil {
						t.Fatal(err)
					}
					if unwrapped := after > before+1000; unwrapped != (way.mode == lb.TUN) {
						t.Errorf("%d packets came in a tunnel", after-before)
					}
				})
			}
		})
	}
}
