package e2e

import (
	"bytes"
	"errors"
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

// A datagram to a port that no server listens on is refused by the server, and the client's socket hears of it.
func TestAClosedPortIsUnreachableEndToEnd(t *testing.T) {
	for name, plan := range arms {
		t.Run(name, func(t *testing.T) {
			d := newLab(t, plan)
			var all []lab.Service
			for _, mode := range lab.Modes {
				all = append(all, service(lb.UDP, mode, 8999, 9999, 1, 1, 1))
			}
			d.start(all)
			for i, mode := range lab.Modes {
				c, err := d.Client.Dial("udp", all[i].VIP.String())
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(5 * time.Second))
				if _, err := c.Write([]byte("anybody there?")); err != nil {
					t.Fatal(err)
				}
				if _, err := c.Read(make([]byte, 16)); !errors.Is(err, unix.ECONNREFUSED) {
					t.Errorf("%s: %v, want connection refused", mode, err)
				}
			}
		})
	}
}
