package control_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"weir/conntrack"
	"weir/control"
	"weir/dataplane/reason"
	"weir/internal/testpkt"
	"weir/lb"
)

var (
	cip6 = netip.MustParseAddrPort("[2001:db8:1::7]:40000")
	vip6 = netip.MustParseAddrPort("[2001:db8:9::10]:80")
	lip6 = lb.MustParseAddr("2001:db8:20::100")
)

func from6(port uint16) netip.AddrPort { return netip.AddrPortFrom(cip6.Addr(), port) }

// both has local addresses of both families.
var both = control.Options{Locals: []lb.Addr{lb.MustParseAddr("10.0.0.100"), lip6}}

func newDirector6(t *testing.T, workers int, rules ...string) *director {
	t.Helper()
	return newDirectorWith(t, workers, conntrack.Options{Capacity: 4096}, both, rules...)
}

// serving returns rules for TCP and UDP at a VIP, with servers by a mode.
func serving(at netip.AddrPort, mode string, servers ...string) (rules []string) {
	for _, proto := range []string{"-t", "-u"} {
		rules = append(rules, fmt.Sprintf("-A %s %s -s rr", proto, at))
		for _, s := range servers {
			rules = append(rules, fmt.Sprintf("-a %s %s -r %s %s", proto, at, s, mode))
		}
	}
	return rules
}

func TestIPv6ConnectionsStayWithTheirServerInEveryMode(t *testing.T) {
	for _, mode := range []string{"-g", "-m", "-F", "-i"} {
		t.Run(strings.TrimPrefix(mode, "-"), func(t *testing.T) {
			d := newDirector6(t, 1, serving(vip6, mode, "[2001:db8:20::2]:80", "[2001:db8:20::3]:80", "[2001:db8:20::4]:80")...)
			first, shares := map[uint16]string{}, map[string]int{}
			for port := uint16(1000); port < 1030; port++ {
				server := d.client(testpkt.TCP(from6(port), vip6, testpkt.SYN)).DstMAC.String()
				first[port] = server
				shares[server]++
			}
			for _, n := range shares {
				if n != 10 {
					t.Errorf("30 connections over three servers: %v", shares)
				}
			}
			for port, server := range first {
				if got := d.client(testpkt.TCP(from6(port), vip6, testpkt.ACK).Extension(60).Text("more")).DstMAC.String(); got != server {
					t.Fatalf("client port %d went to %s and then to %s", port, server, got)
				}
			}
		})
	}
}

func TestIPv6AnswersComeBackFromTheService(t *testing.T) {
	rip := netip.MustParseAddrPort("[2001:db8:20::2]:8080")
	for _, mode := range []string{"-m", "-F"} {
		for _, proto := range []string{"TCP", "UDP"} {
			t.Run(mode+proto, func(t *testing.T) {
				d := newDirector6(t, 2, serving(vip6, mode, rip.String())...)
				build := func(src, dst netip.AddrPort, flags testpkt.Flags) testpkt.Packet {
					if proto == "TCP" {
						return testpkt.TCP(src, dst, flags)
					}
					return testpkt.UDP(src, dst).Text("x")
				}
				router := testpkt.MAC(0x99)
				asked := d.client(build(cip6, vip6, testpkt.SYN).From(router))
				if asked.Dst != rip || (mode == "-m") != (asked.Src == cip6) || mode == "-F" && asked.Src.Addr() != lip6.Netip() {
					t.Fatalf("%s -> %s", asked.Src, asked.Dst)
				}
				answer := d.server(1, build(asked.Dst, asked.Src, testpkt.SYN|testpkt.ACK))
				if answer.Src != vip6 || answer.Dst != cip6 || answer.DstMAC.String() != router.String() {
					t.Errorf("%s -> %s to %s, want %s -> %s to %s", answer.Src, answer.Dst, answer.DstMAC, vip6, cip6, router)
				}
			})
		}
	}
}

func TestFULLNATServesAcrossFamilies(t *testing.T) {
	for _, c := range []struct{ client, virtual, rip netip.AddrPort }{
		{cip6, vip6, netip.MustParseAddrPort("10.0.0.2:8080")}, {cip, vip, netip.MustParseAddrPort("[2001:db8:20::2]:8080")},
	} {
		d := newDirector6(t, 2, serving(c.virtual, "-F", c.rip.String())...)
		for _, build := range []func(src, dst netip.AddrPort) testpkt.Packet{
			func(src, dst netip.AddrPort) testpkt.Packet { return testpkt.TCP(src, dst, testpkt.SYN).MSS(1400) },
			func(src, dst netip.AddrPort) testpkt.Packet { return testpkt.UDP(src, dst).Text("x").Pad(60) },
		} {
			asked := d.client(build(c.client, c.virtual))
			if asked.Dst != c.rip || asked.Src.Addr().Is4() != c.rip.Addr().Is4() {
				t.Fatalf("%s -> %s", asked.Src, asked.Dst)
			}
			if answer := d.server(1, build(asked.Dst, asked.Src)); answer.Src != c.virtual || answer.Dst != c.client {
				t.Errorf("%s -> %s, want %s -> %s", answer.Src, answer.Dst, c.virtual, c.client)
			}
		}
	}
}

func TestErrorsCrossFamilies(t *testing.T) {
	type says struct {
		typ, code uint8
		rest      uint32
	}
	// RFC 7915 section 4.2: what an IPv6 client reads of an error of IPv4.
	six := map[says]says{
		{3, 2, 0}: {4, 1, 6}, {3, 3, 0}: {1, 4, 0}, {3, 4, 1400}: {2, 0, 1420}, {3, 4, 600}: {2, 0, 1280}, {3, 14, 0}: {}, {3, 16, 0}: {},
		{11, 0, 0}: {3, 0, 0}, {11, 1, 0}: {3, 1, 0}, {11, 2, 0}: {}, {12, 0, 0}: {},
	}
	for _, code := range []uint8{0, 1, 5, 6, 7, 8, 11, 12} {
		six[says{3, code, 0}] = says{1, 0, 0}
	}
	for _, code := range []uint8{9, 10, 13, 15} {
		six[says{3, code, 0}] = says{1, 1, 0}
	}
	four := map[says]says{ // section 5.2
		{1, 0, 0}: {3, 1, 0}, {1, 1, 0}: {3, 10, 0}, {1, 2, 0}: {3, 1, 0}, {1, 3, 0}: {3, 1, 0}, {1, 4, 0}: {3, 3, 0}, {1, 5, 0}: {},
		{2, 0, 1400}: {3, 4, 1380}, {2, 0, 1000}: {3, 4, 980}, {3, 0, 0}: {11, 0, 0}, {3, 1, 0}: {11, 1, 0}, {4, 0, 40}: {}, {4, 1, 6}: {3, 2, 0}, {4, 2, 40}: {},
	}
	for _, c := range []struct {
		client, virtual, rip             netip.AddrPort
		ofServers, ofClients             map[says]says // errors from the servers' side and from the clients'
		serverRouter, clientRouter, name string
	}{
		{cip6, vip6, netip.MustParseAddrPort("10.0.0.2:8080"), six, four, "203.0.113.99", "2001:db8:99::9", "IPv6 to IPv4"},
		{cip, vip, netip.MustParseAddrPort("[2001:db8:20::2]:8080"), four, six, "2001:db8:99::9", "203.0.113.99", "IPv4 to IPv6"},
	} {
		for _, proto := range []string{"TCP", "UDP"} {
			build := func(src, dst netip.AddrPort) testpkt.Packet {
				if proto == "TCP" {
					return testpkt.TCP(src, dst, testpkt.SYN)
				}
				return testpkt.UDP(src, dst).Text("four")
			}
			d := newDirector6(t, 2, serving(c.virtual, "-F", c.rip.String())...)
			asked := d.client(build(c.client, c.virtual))
			answered := d.server(1, build(asked.Dst, asked.Src))
			want := func(got []*testpkt.View, said, says says, sender, receiver netip.AddrPort) {
				t.Helper()
				if says.typ == 0 {
					if len(got) != 0 {
						t.Errorf("%s, %s, %v: %+v left", c.name, proto, said, got[0])
					}
					return
				}
				if len(got) != 1 {
					t.Fatalf("%s, %s, %v: %d packets left; %v", c.name, proto, said, len(got), stops(d))
				}
				v := got[0]
				q := quoted(t, &v.IP)
				if v.ICMPType != says.typ || v.ICMPCode != says.code || v.ICMPRest != says.rest || v.Dst.Addr() != sender.Addr() || v.Src.Addr() != receiver.Addr() ||
					q.Src != sender || q.Dst != receiver {
					t.Errorf("%s, %s, %v: %s -> %s %d/%d %d about %s -> %s, want %v to %s about what it sent to %s", c.name, proto, said,
						v.Src, v.Dst, v.ICMPType, v.ICMPCode, v.ICMPRest, q.Src, q.Dst, says, sender, receiver)
				}
			}
			for said, says := range c.ofServers {
				router := netip.MustParseAddr(c.serverRouter)
				out := d.send(1, 1, about(router, asked.Src.Addr(), said.typ, said.code, said.rest, asked.Frame[14:], 0))
				want(out.toClients, said, says, c.client, c.virtual)
				// The least that a router must quote of TCP has no checksum in it.
				d.send(1, 1, about(router, asked.Src.Addr(), said.typ, said.code, said.rest, asked.Frame[14:], len(asked.Header)+8))
			}
			for said, says := range c.ofClients {
				router := netip.MustParseAddr(c.clientRouter)
				out := d.send(0, 0, about(router, c.virtual.Addr(), said.typ, said.code, said.rest, answered.Frame[14:], 0))
				want(out.toServers, said, says, asked.Dst, asked.Src)
			}
		}
	}
}

func TestATunnelCarriesEitherFamilyOverEither(t *testing.T) {
	for _, in := range []struct{ client, virtual netip.AddrPort }{{cip, vip}, {cip6, vip6}} {
		for rip, source := range map[string]lb.Addr{"10.0.0.2": serverSide.Addr, "[2001:db8:20::2]": serverSide.Addr6} {
			for options, proto := range map[string]uint8{
				"": map[bool]uint8{true: 4, false: 41}[in.client.Addr().Is4()],
				"--tun-type gue --tun-port 6080 --tun-csum": 17,
				"--tun-type gre --tun-nocsum":               47,
				"--tun-type gre --tun-csum":                 47,
			} {
				t.Run(fmt.Sprintf("%s to %s %s", in.virtual, rip, options), func(t *testing.T) {
					d := newDirector6(t, 1, serving(in.virtual, "-i "+options, rip+":80")...)
					v := d.client(testpkt.TCP(in.client, in.virtual, testpkt.SYN))
					if v.Proto != proto || v.Src.Addr() != source.Netip() || v.Inner == nil || v.Inner.Src != in.client || v.Inner.Dst != in.virtual {
						t.Fatalf("outer %+v, inside %+v", v.IP, v.Inner)
					}
					other := d.client(testpkt.TCP(in.client, in.virtual, testpkt.ACK))
					if proto == 17 && (other.Src.Port() != v.Src.Port() || v.Src.Port() < 0xc000) {
						t.Errorf("one flow went by the source ports %d and %d", v.Src.Port(), other.Src.Port())
					}
				})
			}
		}
	}
}

func TestGUESpreadsFlowsByItsSourcePort(t *testing.T) {
	d := newDirector6(t, 1, serving(vip6, "-i --tun-type gue --tun-port 6080 --tun-csum", "10.0.0.2:80")...)
	ports := map[uint16]bool{}
	for port := uint16(1000); port < 1200; port++ {
		ports[d.client(testpkt.UDP(from6(port), vip6)).Src.Port()] = true
	}
	if len(ports) < 190 { // 200 of 16,384: 1.2 pairs meet on average
		t.Errorf("200 flows have %d source ports", len(ports))
	}
}

func TestTunnelSourcesVaryWithTheFlow(t *testing.T) {
	for block, c := range map[string]struct {
		rip  string
		want int // sources of 300 flows, at least
	}{
		"10.77.0.0/16":         {"10.0.0.2", 290},
		"10.77.8.0/29":         {"10.0.0.2", 6}, // without the first and the last
		"10.77.8.4/31":         {"10.0.0.2", 2},
		"10.77.8.9/32":         {"10.0.0.2", 1},
		"2001:db8:77::/64":     {"[2001:db8:20::2]", 300},
		"2001:db8:77::/48":     {"[2001:db8:20::2]", 300},
		"2001:db8:77:1::8/126": {"[2001:db8:20::2]", 4},
	} {
		prefix := netip.MustParsePrefix(block)
		o := both
		o.TunnelSources = []lb.Prefix{{Addr: lb.AddrFrom(prefix.Addr()), Bits: prefix.Bits()}}
		d := newDirectorWith(t, 1, conntrack.Options{Capacity: 4096}, o, serving(vip, "-i", c.rip+":80")...)
		sources := map[netip.Addr]bool{}
		for port := uint16(1000); port < 1300; port++ {
			v := d.client(testpkt.UDP(from(port), vip))
			again := d.client(testpkt.UDP(from(port), vip))
			if v.Src != again.Src || !prefix.Contains(v.Src.Addr()) {
				t.Fatalf("%s: one flow comes from %s and %s", block, v.Src, again.Src)
			}
			if bits := prefix.Bits(); bits < 31 && v.Src.Addr().Is4() {
				host := lb.AddrFrom(v.Src.Addr()).V4() << bits
				if host == 0 || host == ^uint32(0)<<bits {
					t.Fatalf("%s: source %s is the network's or the broadcast address", block, v.Src)
				}
			}
			sources[v.Src.Addr()] = true
		}
		if len(sources) < c.want {
			t.Errorf("%s: 300 flows come from %d sources, want %d at least", block, len(sources), c.want)
		}
	}
}

func TestATunnelSourceOfTheOtherFamilyIsNotUsed(t *testing.T) {
	o := both
	o.TunnelSources = []lb.Prefix{{Addr: lb.MustParseAddr("2001:db8:77::"), Bits: 64}}
	d := newDirectorWith(t, 1, conntrack.Options{Capacity: 64}, o, serving(vip, "-i", "10.0.0.2:80")...)
	if v := d.client(testpkt.UDP(cip, vip)); v.Src.Addr() != serverSide.Addr.Netip() {
		t.Errorf("outer source %s, want the path's, %s", v.Src, serverSide.Addr)
	}
}

func TestIPv6PacketsThatStop(t *testing.T) {
	t.Run("no server", func(t *testing.T) {
		d := newDirector6(t, 1, serving(vip6, "-m")...)
		wantError6(t, d.stopped(testpkt.TCP(cip6, vip6, testpkt.SYN), reason.NoServer).toClients, 1, 4, 0)
	})
	t.Run("hop limit 1", func(t *testing.T) {
		d := newDirector6(t, 1, serving(vip6, "-g", "[2001:db8:20::2]:80")...)
		wantError6(t, d.stopped(testpkt.UDP(cip6, vip6).TTL(1), reason.TTLExceeded).toClients, 3, 0, 0)
	})
	t.Run("hop limit 1 of an answer", func(t *testing.T) {
		d := newDirector6(t, 1, serving(vip6, "-m", "[2001:db8:20::2]:80")...)
		d.client(testpkt.UDP(cip6, vip6))
		out := d.send(0, 1, testpkt.UDP(netip.MustParseAddrPort("[2001:db8:20::2]:80"), cip6).TTL(1))
		if len(out.toServers) != 1 || out.toServers[0].ICMPType != 3 || out.toServers[0].Src.Addr() != serverSide.Addr6.Netip() {
			t.Errorf("answered %+v, want time exceeded from the interface's address", out.toServers)
		}
	})
	for options, c := range map[string]struct {
		rip string
		mtu uint32
	}{
		"":                            {"[2001:db8:20::2]", 1460},
		"--tun-type ipip":             {"10.0.0.2", 1480},
		"--tun-type gre --tun-csum":   {"[2001:db8:20::2]", 1452},
		"--tun-type gre --tun-nocsum": {"10.0.0.2", 1476},
		"--tun-type gue --tun-port 6080 --tun-csum": {"10.0.0.2", 1468},
	} {
		t.Run("too big for the tunnel "+options, func(t *testing.T) {
			d := newDirector6(t, 1, serving(vip6, "-i "+options, c.rip+":80")...)
			wantError6(t, d.stopped(testpkt.UDP(cip6, vip6).Size(14+int(c.mtu)+1), reason.TooBig).toClients, 2, 0, c.mtu)
			d.client(testpkt.UDP(cip6, vip6).Size(14 + int(c.mtu)))
		})
	}
	t.Run("no checksum", func(t *testing.T) {
		d := newDirector6(t, 1, serving(vip6, "-m", "[2001:db8:20::2]:80")...)
		d.stopped(testpkt.UDP(cip6, vip6).NoChecksum(), reason.BadL4Header)
	})
	t.Run("what is not weir's goes to the kernel", func(t *testing.T) {
		d := newDirector6(t, 1, serving(vip6, "-m", "[2001:db8:20::2]:80")...)
		d.stopped(testpkt.TCP(cip6, netip.AddrPortFrom(vip6.Addr(), 81), testpkt.SYN), reason.NoService)
		d.stopped(testpkt.Echo(cip6.Addr(), vip6.Addr()), reason.NotL4)
		if n := len(d.host.frames); n != 2 {
			t.Errorf("the host got %d frames, want 2", n)
		}
	})
}

// wantError6 wants one ICMPv6 error from the VIP to the client.
func wantError6(t *testing.T, got []*testpkt.View, typ, code uint8, rest uint32) {
	t.Helper()
	if len(got) != 1 || got[0].Proto != 58 || got[0].ICMPType != typ || got[0].ICMPCode != code || got[0].ICMPRest != rest ||
		got[0].Src.Addr() != vip6.Addr() || got[0].Dst.Addr() != cip6.Addr() {
		t.Errorf("answered %+v, want ICMPv6 %d/%d, %d, from the VIP to the client", got, typ, code, rest)
	}
}

func TestAMarkHasAServiceForEachFamily(t *testing.T) {
	o := both
	for _, rule := range []string{"1 any 192.0.2.0/24", "1 any 2001:db8:9::/48"} {
		r, err := lb.ParseMarkRule(rule)
		if err != nil {
			t.Fatal(err)
		}
		o.Marks = append(o.Marks, r)
	}
	d := newDirectorWith(t, 1, conntrack.Options{Capacity: 64}, o,
		"-A -f 1 -s rr", "-a -f 1 -r 10.0.0.2 -m", "-A -f 1 -6 -s rr", "-a -f 1 -6 -r 2001:db8:20::3 -m")
	for _, c := range []struct{ client, virtual, server netip.AddrPort }{
		{cip, vip, netip.MustParseAddrPort("10.0.0.2:80")}, {cip6, vip6, netip.MustParseAddrPort("[2001:db8:20::3]:80")},
	} {
		if v := d.client(testpkt.UDP(c.client, c.virtual)); v.Dst != c.server {
			t.Errorf("%s goes to %s, want %s", c.virtual, v.Dst, c.server)
		}
	}
}

func TestIPv6ClientsArePersistentByTheirPrefix(t *testing.T) {
	for options, alone := range map[string]bool{"-p 300": true, "-p 300 -M 64": false} {
		d := newDirector6(t, 1, "-A -t [2001:db8:9::10]:80 -s rr "+options,
			"-a -t [2001:db8:9::10]:80 -r [2001:db8:20::2]:80 -m", "-a -t [2001:db8:9::10]:80 -r [2001:db8:20::3]:80 -m")
		one := d.client(testpkt.TCP(cip6, vip6, testpkt.SYN)).Dst
		neighbour := d.client(testpkt.TCP(netip.MustParseAddrPort("[2001:db8:1::8]:40000"), vip6, testpkt.SYN)).Dst
		same := d.client(testpkt.TCP(from6(40001), vip6, testpkt.SYN)).Dst
		if same != one || (neighbour != one) != alone {
			t.Errorf("%s: a client went to %s and %s, its neighbour to %s", options, one, same, neighbour)
		}
	}
}

func TestFamiliesThatDoNotGoTogetherAreRefused(t *testing.T) {
	mark, err := lb.ParseMarkRule("1 any 192.0.2.0/24")
	if err != nil {
		t.Fatal(err)
	}
	d := newDirectorWith(t, 1, conntrack.Options{Capacity: 64}, control.Options{Locals: []lb.Addr{lip6}, Marks: []lb.MarkRule{mark}})
	service := func(at netip.AddrPort, server string, mode lb.Mode) lb.Service {
		return lb.Service{Key: lb.ServiceKey{Addr: lb.AddrFrom(at.Addr()), Port: at.Port(), Proto: lb.TCP}, Scheduler: "rr",
			Servers: []lb.Server{{Addr: lb.MustParseAddr(server), Port: 80, Mode: mode, Weight: 1}}}
	}
	mark6 := lb.Service{Key: lb.ServiceKey{Mark: 1, Is6: true}, Scheduler: "rr"}
	for name, c := range map[string]struct {
		service lb.Service
		refused string
	}{
		"DR of IPv4 to IPv6":                       {service(vip, "2001:db8:20::2", lb.DR), "only TUN"},
		"NAT of IPv6 to IPv4":                      {service(vip6, "10.0.0.2", lb.NAT), "only TUN"},
		"TUN of IPv4 to IPv6":                      {service(vip, "2001:db8:20::2", lb.TUN), ""},
		"TUN of IPv6 to IPv4":                      {service(vip6, "10.0.0.2", lb.TUN), ""},
		"FULLNAT of IPv4 without an IPv4 address":  {service(vip, "10.0.0.2", lb.FULLNAT), "local address"},
		"FULLNAT of IPv4 with an IPv6 address":     {service(vip, "2001:db8:20::2", lb.FULLNAT), ""},
		"FULLNAT of IPv6 with an IPv6 address":     {service(vip6, "2001:db8:20::2", lb.FULLNAT), ""},
		"an IPv6 mark that only IPv4 packets have": {mark6, "no rule gives"},
	} {
		err := d.store.Check([]lb.Service{c.service})
		if c.refused == "" && err != nil || c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)) {
			t.Errorf("%s: %v, want %q", name, err, c.refused)
		}
	}
}
