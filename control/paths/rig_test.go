package paths

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"weir/internal/testnet"
	"weir/lb"
)

const limit = 15 * time.Second

// rig is a director with two interfaces, of which weir is given eth0, with a server on its wire; eth1 leads to another host.
type rig struct {
	t                       *testing.T
	net                     *testnet.Net
	director, server, other *testnet.Namespace
	eth0, eth1              *testnet.Device // the director's
	far                     *testnet.Device // the server's end of eth0
}

func newRig(t *testing.T) *rig {
	t.Helper()
	t.Parallel()
	n := testnet.New(t)
	r := &rig{t: t, net: n, director: n.Namespace("director"), server: n.Namespace("server"), other: n.Namespace("other")}
	r.eth0, r.far = n.Veth(
		testnet.End{NS: r.director, Addrs: []string{"10.0.0.1/24", "fd00::1/64"}},
		testnet.End{NS: r.server, Addrs: []string{"10.0.0.2/24", "10.0.0.3/24", "fd00::2/64"}})
	r.eth1, _ = n.Veth(
		testnet.End{NS: r.director, Name: "eth1", Addrs: []string{"10.0.1.1/24"}},
		testnet.End{NS: r.other, Addrs: []string{"10.0.1.2/24"}})
	r.usable(r.director, "fd00::1")
	r.usable(r.server, "fd00::2")
	return r
}

// usable waits until an IPv6 address is a source, which the kernel makes it from a work queue (addrconf_dad_work).
func (r *rig) usable(ns *testnet.Namespace, address string) {
	r.t.Helper()
	testnet.Eventually(r.t, limit, address+" is usable", func() bool {
		var routes []netlink.Route
		err := ns.Do(func() (err error) {
			routes, err = netlink.RouteGet(net.ParseIP("fd00::99")) // on link
			return err
		})
		return err == nil && len(routes) == 1 && routes[0].Src.Equal(net.ParseIP(address))
	})
}

// watcher makes a Watcher in the director that is given eth0, or the named indexes.
func (r *rig) watcher(given ...int) *follower {
	r.t.Helper()
	if len(given) == 0 {
		given = []int{r.eth0.Index}
	}
	f := &follower{t: r.t}
	var err error
	if derr := r.director.Do(func() error {
		f.Watcher, err = New(Options{Interfaces: given, Logger: slog.New(slog.NewTextHandler(&f.log, nil))})
		return err
	}); derr != nil {
		r.t.Fatal(derr)
	}
	r.t.Cleanup(func() { f.Close() })
	return f
}

// ip runs ip(8) in a namespace.
func (r *rig) ip(ns *testnet.Namespace, args string) {
	r.t.Helper()
	if _, err := ns.Run("ip", strings.Fields(args)...); err != nil {
		r.t.Fatal(err)
	}
}

// follower is a Watcher whose changes a test waits for.
type follower struct {
	*Watcher
	t   *testing.T
	log buffer
}

// run starts Run, to be ended with the test.
func (f *follower) run() *follower {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	f.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			f.t.Errorf("Run: %v", err)
		}
	})
	return f
}

// await waits for a change that makes the path to addr what ok asks for, and returns that path.
func (f *follower) await(addr lb.Addr, what string, ok func(Path) bool) Path {
	f.t.Helper()
	deadline := time.After(limit)
	for {
		if p := f.Get(addr); ok(p) {
			return p
		}
		select {
		case <-f.Changes():
			f.Take()
		case <-deadline:
			f.t.Fatalf("path to %s is %+v after %s, not %s\n%s", addr, f.Get(addr), limit, what, f.log.String())
		}
	}
}

func resolved(p Path) bool { return p.State == Resolved }

// buffer is a log that may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func mac(d *testnet.Device) (m [6]byte) {
	copy(m[:], d.MAC)
	return m
}
