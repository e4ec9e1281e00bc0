package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weir/internal/lab"
	"weir/internal/testnet"
	"weir/internal/testpkt"
	"weir/lb"
)

// Packets longer than a small frame of UMEM pass whole, in every mode: the way there carries 3,500 bytes, and nothing on it may cut them
// up, since the client sets DF. That is about as much as a veth takes in native mode.
func TestJumboFramesPassWhole(t *testing.T) {
	for name, plan := range arms {
		t.Run(name, func(t *testing.T) {
			plan.MTU = 3500
			d := newLab(t, plan)
			serveEchoes(t, d)
			bulk := serveBulk(t, d, bulkBytes)
			sizes, streams := map[lb.Mode]lab.Service{}, map[lb.Mode]lab.Service{}
			for _, mode := range lab.Modes {
				sizes[mode] = service(lb.UDP, mode, 8008, echoPort, 1, 1, 1)
				streams[mode] = service(lb.TCP, mode, 8001, bulkPort, 1, 1, 1)
			}
			home := netip.AddrPortFrom(vips[lb.DR], 8009)
			d.start(slices.AppendSeq(slices.Collect(maps.Values(sizes)), maps.Values(streams)), "--xdp-mode", "native",
				"--rule", "-A -u "+home.String()+" -s rr", "--rule", "-a -u "+home.String()+" -r "+testnet.DIP+" -g")
			for _, mode := range lab.Modes {
				t.Run(mode.String(), func(t *testing.T) {
					longest := 3500
					if mode == lb.TUN {
						longest -= 20 // the servers' links carry no more than the client's
					}
					wantEchoes(t, d, sizes[mode].VIP, 1770, 1771, 2048, 3000, longest-1, longest)
					wantBulk(t, d, streams[mode].VIP, bulk)
					if mode != lb.TUN {
						wantEchoes(t, d, sizes[mode].VIP, 65_000) // in fragments as long
					}
				})
			}
			t.Run("host path", func(t *testing.T) {
				c, err := d.Director.ListenPacket("udp", home.String())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				go echo(c)
				wantEchoes(t, d, home, 1771, 3499, 3500)
			})
		})
	}
}

// wantEchoes sends datagrams, in IP packets of the given sizes, and compares what comes back.
func wantEchoes(t *testing.T, d *director, to netip.AddrPort, sizes ...int) {
	t.Helper()
	c, err := d.Client.Dial("udp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := make([]byte, 1<<16)
	for _, size := range sizes {
		want := testpkt.Pattern(size - 28)
		c.SetDeadline(time.Now().Add(3 * time.Second))
		if _, err := c.Write(want); err != nil {
			t.Fatalf("packet of %d bytes: %v", size, err)
		}
		n, err := c.Read(b)
		if err != nil {
			t.Fatalf("packet of %d bytes: %v", size, err)
		}
		if !bytes.Equal(b[:n], want) {
			t.Fatalf("packet of %d bytes: the echo of %d bytes differs", size, n)
		}
	}
}

func TestTooLargeMTUsAreRefusedInOneLine(t *testing.T) {
	rule := []string{"--rule", "-A -t 192.0.2.110:80 -s rr"}
	for _, row := range []struct {
		mtu   int
		mode  string
		words []string
	}{
		{3539, "generic", []string{"eth0", "MTU 3539 is too large, 3538 is the most", "ip link set eth0 mtu 3538"}},
		{9000, "auto", []string{"eth0", "MTU 9000 is too large, 3538 is the most"}},
		{3507, "native", []string{"eth0", "MTU of 3507", "veth: 3506", unix.ERANGE.Error()}},
	} {
		t.Run(fmt.Sprint(row.mtu), func(t *testing.T) {
			n := testnet.New(t)
			a, b := n.Namespace("director"), n.Namespace("other")
			n.Veth(testnet.End{NS: a, MTU: row.mtu, Addrs: []string{"192.0.2.1/24"}}, testnet.End{NS: b, MTU: row.mtu})
			out, err := a.Run(weir, append(rule, "--interface", "eth0", "--xdp-mode", row.mode, "--admin-socket", "")...)
			if err == nil || strings.Count(out, "\n") != 1 {
				t.Errorf("%v: %q", err, out)
			}
			for _, w := range row.words {
				if !strings.Contains(out, w) {
					t.Errorf("%q does not say %q", out, w)
				}
			}
		})
	}
}
