package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"weir/bpf"
	"weir/internal/lab"
	"weir/internal/testnet"
	"weir/lb"
)

// vip6s are service addresses like vips.
var vip6s = map[lb.Mode]netip.Addr{
	lb.NAT: netip.MustParseAddr("2001:db8::102"), lb.FULLNAT: netip.MustParseAddr("2001:db8::103"), lb.TUN: netip.MustParseAddr("2001:db8::104"),
}

// remoteServer puts a server of both families behind a narrow link, and has weir serve every port of TCP and UDP by it. The director's routes
// say that packets of mtu bytes go there.
func remoteServer(t *testing.T, mode lb.Mode, mtu int, flags ...string) (d *director, near, server *testnet.Namespace) {
	t.Helper()
	d = newLab(t, arms["two arms"])
	const network, rip, network6, rip6 = "10.9.0.0/24", "10.9.0.2", "fd00:9::/64", "fd00:9::2"
	var dev *testnet.Device
	near, server, dev = behind(d, d.BackPort.NS, "back", "10.0.0.240/24", testnet.DIP, "remote", network, rip+"/24", rip6+"/64")
	d.Veth(testnet.End{NS: near, Name: "eth2", Addrs: []string{"192.0.2.240/32", "2001:db8::240/128"}},
		testnet.End{NS: d.FrontPort.NS, Name: "remote-direct", Bridge: "front"}) // answers from a VIP go past the director
	near.AddAddr("eth0", "fd00:10::240/64")
	near.AddAddr("eth1", "fd00:99::1/64")
	d.far.AddAddr("eth0", "fd00:99::2/64")
	d.far.AddAddr("eth1", "fd00:9::1/64")
	route(d, near, network6, "fd00:99::2")
	route(d, near, "default", testnet.DIP6)
	route(d, d.far, "default", "fd00:99::1")
	route(d, server, "default", "fd00:9::1")
	for network, gateway := range map[string]string{network: "10.0.0.240", network6: "fd00:10::240"} {
		if out, err := d.Director.Run("ip", "route", "add", network, "via", gateway, "mtu", fmt.Sprint(mtu)); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	for _, ns := range []*testnet.Namespace{near, d.far, server} { // else a host refuses a datagram a second (icmp(7))
		ns.Sysctl("net.ipv4.icmp_ratelimit", "0")
		ns.Sysctl("net.ipv6.icmp.ratelimit", "0")
	}
	flags = append(flags, "--local-address", lab.LIP.String(), "--local-address", lab.LIP6.String())
	for _, ends := range [][2]netip.Addr{{vips[mode], netip.MustParseAddr(rip)}, {vip6s[mode], netip.MustParseAddr(rip6)}} {
		vip, to := netip.AddrPortFrom(ends[0], 0), netip.AddrPortFrom(ends[1], 0)
		for _, proto := range []string{"-t", "-u"} {
			flags = append(flags, "--rule", fmt.Sprintf("-A %s %s -s rr -p 60", proto, vip), "--rule", fmt.Sprintf("-a %s %s -r %s %s", proto, vip, to, flagOf(mode)))
		}
		if mode == lb.TUN {
			clients := map[bool]string{true: testnet.ClientNet, false: testnet.ClientNet6}[ends[0].Is4()]
			near.RouteFrom(ends[0], clients, "eth2")
			server.AddAddr("lo", netip.PrefixFrom(ends[0], ends[0].BitLen()).String())
		}
	}
	if mode == lb.TUN {
		if err := server.Do(func() error {
			decap, err := bpf.AttachDecap(dev.Index, lb.MustParseAddr(rip), lb.MustParseAddr(rip6))
			if err == nil {
				t.Cleanup(func() { decap.Close() })
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		unwrapWhole(t, d, &testnet.Host{Namespace: server, IP: netip.MustParseAddr(rip), IP6: netip.MustParseAddr(rip6)})
	}
	d.start(nil, flags...)
	return d, near, server
}

// traceroute and tracepath, to any port of a service, see every hop, the narrow link among them, and the end.
func TestPathToolsSeeEveryHop(t *testing.T) {
	hop := regexp.MustCompile(`(?m)^ *(\d+):? +([0-9a-f.:]+) `)
	for _, mode := range []lb.Mode{lb.NAT, lb.FULLNAT, lb.TUN} {
		t.Run(mode.String(), func(t *testing.T) {
			d, _, _ := remoteServer(t, mode, 1500)
			for _, f := range []struct {
				flag, vip string
				routers   []string
				mtu       int // that remains of narrowMTU
			}{
				{"-4", vips[mode].String(), []string{"10.0.0.240", "172.16.0.2"}, narrowMTU - map[bool]int{true: 20}[mode == lb.TUN]},
				{"-6", vip6s[mode].String(), []string{"fd00:10::240", "fd00:99::2"}, map[bool]int{true: 1280, false: narrowMTU}[mode == lb.TUN]},
			} {
				for _, command := range []string{"traceroute -w 2 -q 1", "traceroute -w 2 -q 1 -U -p 53", "traceroute -w 2 -q 1 -T -p 443", "tracepath", "tracepath -p 7"} {
					t.Run(command+" "+f.flag, func(t *testing.T) {
						args := append(strings.Fields(command), "-n", f.flag, f.vip)
						out, err := d.Client.Run(args[0], args[1:]...)
						if err != nil {
							t.Fatal(err)
						}
						seen := map[string]string{}
						for _, m := range hop.FindAllStringSubmatch(out, -1) {
							seen[m[1]] = m[2]
						}
						if seen["1"] != f.vip || seen["2"] != f.routers[0] || seen["3"] != f.routers[1] || seen["4"] != f.vip || len(seen) != 4 {
							t.Errorf("the hops are %v:\n%s", seen, out)
						}
						if want := fmt.Sprintf("pmtu %d hops 4 back", f.mtu); args[0] == "tracepath" && (!strings.Contains(out, "reached") || !strings.Contains(out, want)) {
							t.Errorf("it ended otherwise than with %q:\n%s", want, out)
						}
					})
				}
			}
		})
	}
}

// curl and ping from behind a narrow link: the director's kernel answers the echoes, of any size.
func TestCurlAndPingOverANarrowPath(t *testing.T) {
	d := newLab(t, arms["two arms"])
	client, from := remoteClient(d, "front")
	var all []lab.Service
	for _, mode := range lab.Modes {
		all = append(all, service(lb.TCP, mode, 8000, lab.HTTPAltPort, 1, 1, 1))
	}
	d.start(all)
	const bytes = 2_000_000
	file := filepath.Join(t.TempDir(), "upload")
	if err := os.WriteFile(file, []byte(strings.Repeat("what a client sends. ", bytes/21)), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(command string, args ...string) string {
		t.Helper()
		out, err := client.Run(command, args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	sum := strings.Fields(run("sha256sum", file))[0]
	for i, mode := range lab.Modes {
		url := fmt.Sprintf("http://%s", all[i].VIP)
		curl := []string{"--silent", "--show-error", "--fail", "--max-time", "20", "--interface", from[mode]}
		if got := run("curl", slices.Concat(curl, []string{"--output", os.DevNull, "--write-out", "%{size_download}", fmt.Sprint(url, "/download/", bytes)})...); got != fmt.Sprint(bytes) {
			t.Errorf("%s: %s bytes came down, want %d", mode, got, bytes)
		}
		if got := run("curl", slices.Concat(curl, []string{"--data-binary", "@" + file, url + "/sum"})...); !strings.HasPrefix(got, sum+" ") {
			t.Errorf("%s: the server has %s of what was sent, want %s", mode, got, sum)
		}
		ping := func(more ...string) (string, error) {
			return client.Run("ping", slices.Concat([]string{"-n", "-c", "1", "-W", "5", "-I", from[mode]}, more, []string{all[i].VIP.Addr().String()})...)
		}
		fits := fmt.Sprint(narrowMTU - 28)
		if out, err := ping("-M", "do", "-s", fits); err != nil {
			t.Errorf("%s: %v", mode, err)
		} else if !strings.Contains(out, fmt.Sprintf("from %s:", all[i].VIP.Addr())) {
			t.Errorf("%s: answered\n%s", mode, out)
		}
		if out, err := ping("-M", "do", "-s", fmt.Sprint(narrowMTU-27)); err == nil || !strings.Contains(out, fmt.Sprintf("mtu = %d", narrowMTU)) && !strings.Contains(out, fmt.Sprintf("mtu=%d", narrowMTU)) {
			t.Errorf("%s: a byte too many: %v\n%s", mode, err, out)
		}
		if _, err := ping("-M", "dont", "-s", "9000"); err != nil { // in pieces, which are the kernel's to put together
			t.Errorf("%s: %v", mode, err)
		}
	}
}
