package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weir/internal/lab"
	"weir/internal/testnet"
	"weir/internal/testpkt"
	"weir/lb"
)

// Datagrams of many times the MTU are echoed whole: in every mode, of both families, by every tunnel, FULLNAT between families included.
func TestBigDatagramsArriveWhole(t *testing.T) {
	for name, plan := range map[string]testnet.Plan{"two arms": {}, "one arm": {OneArm: true}, "two queues": {Queues: 2}} {
		t.Run(name, func(t *testing.T) {
			var extra []netip.Addr
			for _, way := range ways {
				extra = append(extra, netip.MustParseAddr(way.vip))
				plan.VIPs = append(plan.VIPs, way.vip)
			}
			d := newLab(t, plan)
			serveEchoes(t, d, extra...)
			for _, host := range d.Servers {
				// The servers' own network carries more than the client's: they would have to learn that by a lost datagram.
				host.Route(lab.LIP.String()+"/32", host.Dev.Name)
				host.Route(lab.LIP6.String()+"/128", host.Dev.Name)
			}
			services := map[string]lab.Service{}
			for _, mode := range lab.Modes {
				services[mode.String()+" of IPv4"] = service(lb.UDP, mode, 8008, echoPort, 1, 1, 1)
			}
			for what, way := range ways {
				services[what] = lab.Service{Proto: lb.UDP, VIP: netip.AddrPortFrom(netip.MustParseAddr(way.vip), echoPort), Mode: way.mode,
					Weights: []int{1, 1, 1}, Tunnel: way.tunnel, Cross: way.cross}
			}
			d.start(slices.Collect(maps.Values(services)))
			for what, s := range services {
				t.Run(what, func(t *testing.T) { wantBigDatagrams(t, d, s.VIP) })
			}
		})
	}
}

func wantBigDatagrams(t *testing.T, d *director, to netip.AddrPort) {
	b := make([]byte, 1<<16)
	for range 3 { // a server each
		c, err := d.Client.Dial("udp", to.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, size := range []int{1473, 9_000, 65_000, 65_487} {
			want := testpkt.Pattern(size)
			c.SetDeadline(time.Now().Add(5 * time.Second))
			if _, err := c.Write(want); err != nil {
				t.Fatalf("%d bytes: %v", size, err)
			}
			n, err := c.Read(b)
			if err != nil {
				t.Fatalf("%d bytes: %v", size, err)
			}
			if !bytes.Equal(b[:n], want) {
				t.Fatalf("%d bytes came back as %d others", size, n)
			}
		}
	}
}

// A datagram to a port that no server listens on is refused by the server, one to a service without servers by weir, and one to no service
// by the director's kernel; the client's socket hears of each, in either family, whatever the server's.
func TestAClosedPortIsUnreachableEndToEnd(t *testing.T) {
	for name, plan := range arms {
		t.Run(name, func(t *testing.T) {
			for _, way := range ways {
				plan.VIPs = append(plan.VIPs, way.vip)
			}
			d := newLab(t, plan)
			closed := map[string]lab.Service{}
			for _, mode := range lab.Modes {
				closed[mode.String()] = service(lb.UDP, mode, 8999, 9999, 1, 1, 1)
			}
			for what, way := range ways {
				closed[what] = lab.Service{Proto: lb.UDP, VIP: netip.AddrPortFrom(netip.MustParseAddr(way.vip), 9999), Mode: way.mode,
					Weights: []int{1, 1, 1}, Tunnel: way.tunnel, Cross: way.cross}
			}
			var flags []string
			empty := []netip.AddrPort{netip.AddrPortFrom(vips[lb.NAT], 7000), netip.AddrPortFrom(vip6s[lb.NAT], 7000)}
			for _, vip := range empty {
				flags = append(flags, "--rule", fmt.Sprintf("-A -u %s -s rr", vip), "--rule", fmt.Sprintf("-A -t %s -s rr", vip))
			}
			d.start(slices.Collect(maps.Values(closed)), flags...)
			for what, s := range closed {
				wantRefused(t, d, what, s.VIP)
			}
			for _, vip := range empty {
				wantRefused(t, d, "a service without servers", vip)
				if c, err := d.Client.Dial("tcp", vip.String()); !errors.Is(err, unix.ECONNREFUSED) {
					t.Errorf("%s: a connection to a service without servers: %v, %v, want connection refused", vip, c, err)
				}
				wantRefused(t, d, "no service", netip.AddrPortFrom(vip.Addr(), 7001))
			}
		})
	}
}

func wantRefused(t *testing.T, d *director, what string, to netip.AddrPort) {
	t.Helper()
	c, err := d.Client.Dial("udp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 5 { // a kernel sends only so many a second
		c.SetDeadline(time.Now().Add(time.Second))
		if _, err = c.Write([]byte("anybody there?")); err == nil {
			_, err = c.Read(make([]byte, 16))
		}
		if errors.Is(err, unix.ECONNREFUSED) {
			return
		}
	}
	t.Errorf("%s, %s: %v, want connection refused", what, to, err)
}
