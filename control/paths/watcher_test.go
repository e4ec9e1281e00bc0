package paths

import (
	"context"
	"slices"
	"strings"
	"testing"

	"weir/internal/testnet"
	"weir/lb"
)

var addr = lb.MustParseAddr

func TestServerOnLinkIsResolved(t *testing.T) {
	r := newRig(t)
	w := r.watcher().run()
	for _, row := range []struct{ server, source string }{
		{"10.0.0.2", "10.0.0.1"},
		{"fd00::2", "fd00::1"},
	} {
		first := w.Watch(addr(row.server))
		if first.State != Unresolved || first.Reason != row.server+" has not answered on eth0" {
			t.Errorf("%s at first: %+v", row.server, first)
		}
		got := w.await(addr(row.server), "resolved", resolved)
		want := Path{State: Resolved, Iface: r.eth0.Index, DstMAC: mac(r.far), SrcMAC: mac(r.eth0), MTU: 1500, Source: addr(row.source)}
		if got != want {
			t.Errorf("%s:\n got %+v\nwant %+v", row.server, got, want)
		}
		if again := w.Watch(addr(row.server)); again != want {
			t.Errorf("%s watched again: %+v", row.server, again)
		}
	}
}

func TestServerBehindGateway(t *testing.T) {
	r := newRig(t)
	r.ip(r.director, "route add 10.9.0.0/16 via 10.0.0.3 mtu 1400")
	r.ip(r.director, "route add fd09::/16 via fd00::2")
	r.ip(r.director, "route add 10.8.0.0/16 via inet6 fd00::2 dev eth0")
	w := r.watcher().run()
	for _, row := range []struct {
		server, gateway, source string
		mtu                     int
	}{
		{"10.9.0.1", "10.0.0.3", "10.0.0.1", 1400},
		{"10.9.0.2", "10.0.0.3", "10.0.0.1", 1400},
		{"fd09::1", "fd00::2", "fd00::1", 1500},
		{"10.8.0.1", "fd00::2", "10.0.0.1", 1500},
	} {
		w.Watch(addr(row.server))
		got := w.await(addr(row.server), "resolved", resolved)
		want := Path{State: Resolved, Iface: r.eth0.Index, DstMAC: mac(r.far), SrcMAC: mac(r.eth0),
			MTU: row.mtu, Source: addr(row.source), Gateway: addr(row.gateway)}
		if got != want {
			t.Errorf("%s:\n got %+v\nwant %+v", row.server, got, want)
		}
	}
	if len(w.hops) != 2 {
		t.Errorf("%d next hops for 4 servers behind 2 gateways", len(w.hops))
	}
}

func TestLookupSaysWhatIsWrong(t *testing.T) {
	r := newRig(t)
	r.net.Veth(testnet.End{NS: r.director, Name: "p0"}, testnet.End{NS: r.other, Name: "q0"})
	r.director.Bridge("br0")
	r.ip(r.director, "link set p0 master br0")
	r.director.AddAddr("br0", "10.0.2.1/24")
	for _, route := range []string{"unreachable 10.1.0.0/16", "prohibit 10.2.0.0/16", "blackhole 10.3.0.0/16", "unreachable fd01::/16", "blackhole fd03::/16"} {
		r.ip(r.director, "route add "+route)
	}
	r.ip(r.director, "route add 10.4.0.0/16 via 10.0.1.2")
	w := r.watcher()
	for _, row := range []struct{ server, err string }{
		{"203.0.113.1", "server 203.0.113.1: no route"},
		{"2001:db8::1", "server 2001:db8::1: no route"},
		{"10.1.0.1", "server 10.1.0.1: no route (unreachable)"},
		{"10.2.0.1", "server 10.2.0.1: no route (prohibited)"},
		{"10.3.0.1", "server 10.3.0.1: no route (blackhole)"},
		{"fd01::1", "server fd01::1: no route (unreachable)"},
		{"fd03::1", "server fd03::1: no route (blackhole)"},
		{"10.0.0.255", "server 10.0.0.255: the route to it is of type broadcast"},
		{"fe80::1", "server fe80::1: a link-local address, which names no server without its interface"},
		{"10.0.1.2", "server 10.0.1.2: leaves through eth1, which weir was not given: --interface eth1"},
		{"10.4.0.1", "server 10.4.0.1: leaves through eth1, which weir was not given: --interface eth1"},
		{"10.0.2.2", "server 10.0.2.2: leaves through br0, a bridge over p0, which weir was not given: --interface br0"},
		{"10.0.0.9", ""}, // nobody there, but that may change by itself
		{"10.0.1.1", ""}, // this host
	} {
		p, err := w.Lookup(addr(row.server))
		switch {
		case row.err == "" && err != nil, row.err != "" && (err == nil || err.Error() != row.err):
			t.Errorf("%s: error %v, want %q", row.server, err, row.err)
		case (err != nil) != (p.State == Refused):
			t.Errorf("%s: %+v with error %v", row.server, p, err)
		}
	}
}

func TestServerIsThisHost(t *testing.T) {
	r := newRig(t)
	w := r.watcher().run()
	for _, own := range []string{"10.0.0.1", "10.0.1.1", "fd00::1", "127.0.0.1", "::1"} {
		w.Watch(addr(own)) // an IPv6 address gets its route a moment after it was added
		if p := w.await(addr(own), "local", func(p Path) bool { return p.State == Local }); !p.Usable() || p.Iface != 1 {
			t.Errorf("%s: %+v", own, p)
		}
	}
	// An address that moves away takes its server with it.
	r.ip(r.director, "addr add 10.0.0.77/32 dev lo")
	w.Watch(addr("10.0.0.77"))
	w.await(addr("10.0.0.77"), "local", func(p Path) bool { return p.State == Local })
	r.ip(r.director, "addr del 10.0.0.77/32 dev lo")
	r.server.AddAddr("eth0", "10.0.0.77/24")
	if p := w.await(addr("10.0.0.77"), "resolved", resolved); p.DstMAC != mac(r.far) {
		t.Errorf("moved: %+v", p)
	}
}

func TestRoutesAreFollowed(t *testing.T) {
	r := newRig(t)
	r.ip(r.director, "route add 10.9.0.0/16 via 10.0.0.2")
	r.ip(r.director, "route add fd09::/32 via fd00::2")
	w := r.watcher(r.eth0.Index, r.eth1.Index).run()
	for _, row := range []struct{ family, server, prefix, host string }{
		{"-4", "10.9.0.1", "10.9.0.0/16", "10.9.0.1/32"},
		{"-6", "fd09::1", "fd09::/32", "fd09::1/128"},
	} {
		server := addr(row.server)
		w.Watch(server)
		w.await(server, "resolved", resolved)

		r.ip(r.director, row.family+" route add unreachable "+row.host)
		w.await(server, "refused by the longer prefix", func(p Path) bool { return strings.Contains(p.Reason, "unreachable") })
		r.ip(r.director, row.family+" route del unreachable "+row.host)
		w.await(server, "resolved again", resolved)

		r.ip(r.director, row.family+" route del "+row.prefix)
		w.await(server, "without a route", func(p Path) bool { return p.Reason == "no route" })
	}
	r.ip(r.director, "route add default via 10.0.1.2")
	p := w.await(addr("10.9.0.1"), "resolved by the default route", resolved)
	if p.Iface != r.eth1.Index || p.SrcMAC != mac(r.eth1) || p.Source != addr("10.0.1.1") || p.Gateway != addr("10.0.1.2") {
		t.Errorf("moved to eth1: %+v", p)
	}
	r.ip(r.director, "route add 10.9.0.0/16 via 10.0.0.2 table 99")
	r.ip(r.director, "rule add to 10.9.0.0/16 lookup 99")
	w.await(addr("10.9.0.1"), "back on eth0 by a policy rule", func(p Path) bool { return resolved(p) && p.Iface == r.eth0.Index })
}

func TestLinksAreFollowed(t *testing.T) {
	r := newRig(t)
	w := r.watcher().run()
	server := addr("10.0.0.2")
	w.Watch(server)
	w.await(server, "resolved", resolved)

	r.ip(r.director, "link set eth0 mtu 1400")
	w.await(server, "with the smaller MTU", func(p Path) bool { return p.MTU == 1400 })

	r.ip(r.director, "link set eth0 address 02:00:00:00:00:99")
	w.await(server, "from the new MAC", func(p Path) bool { return resolved(p) && p.SrcMAC == [6]byte{2, 5: 0x99} })

	// The connected route goes with the link, without a notification of its own.
	r.eth0.SetUp(false)
	w.await(server, "without a route", func(p Path) bool { return p.State == Refused })
	r.eth0.SetUp(true)
	w.await(server, "resolved again", resolved)

	r.far.SetUp(false) // no carrier: the kernel forgets its neighbours
	w.await(server, "unresolved", func(p Path) bool { return p.State == Unresolved })
	r.far.SetUp(true)
	w.await(server, "resolved again", resolved)

	r.ip(r.director, "link del eth0")
	w.await(server, "gone", func(p Path) bool { return p.State == Refused })
}

func TestOwnAddresses(t *testing.T) {
	r := newRig(t)
	r.ip(r.director, "addr add 10.0.5.1 peer 10.0.5.2/32 dev eth1")
	w := r.watcher()
	has := func(a string) bool { return slices.Contains(w.OwnAddresses(), addr(a)) }
	for _, a := range []string{"127.0.0.1", "::1", "10.0.0.1", "fd00::1", "10.0.1.1", "10.0.5.1"} {
		if !has(a) {
			t.Errorf("%s is missing in %v", a, w.OwnAddresses())
		}
	}
	if has("10.0.5.2") {
		t.Error("the other end of a point-to-point address is not this host's")
	}
	w.run()
	w.Watch(addr("10.0.0.2"))
	await := func(what string, ok func() bool) {
		t.Helper()
		told := false
		testnet.Eventually(t, limit, what, func() bool {
			select {
			case <-w.Changes():
				_, own := w.Take()
				told = told || own
			default:
			}
			return told && ok()
		})
	}
	r.ip(r.director, "addr add 192.0.2.10/32 dev lo")
	await("VIP added", func() bool { return has("192.0.2.10") })
	r.ip(r.director, "addr add 192.0.2.10/24 dev lo")
	r.ip(r.director, "addr del 192.0.2.10/32 dev lo")
	await("VIP kept by its other prefix", func() bool { return has("192.0.2.10") })
	r.ip(r.director, "addr del 192.0.2.10/24 dev lo")
	await("VIP removed", func() bool { return !has("192.0.2.10") })
	r.ip(r.director, "addr del 10.0.5.1 peer 10.0.5.2/32 dev eth1")
	await("point-to-point address removed", func() bool { return !has("10.0.5.1") })
}

func TestWatchesAreCounted(t *testing.T) {
	r := newRig(t)
	w := r.watcher()
	server := addr("10.0.0.2")
	w.Watch(server)
	w.Watch(server)
	w.Unwatch(server)
	if w.Get(server) == (Path{}) {
		t.Error("forgotten with one of two watches left")
	}
	w.Unwatch(server)
	w.Unwatch(server)
	if w.Get(server) != (Path{}) || len(w.hops) != 0 || len(w.servers) != 0 {
		t.Errorf("still known: %+v, %d hops, %d servers", w.Get(server), len(w.hops), len(w.servers))
	}
}

func TestRunEnds(t *testing.T) {
	r := newRig(t)
	w := r.watcher()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- w.Run(ctx) }()
	w.Watch(addr("10.0.0.2"))
	w.await(addr("10.0.0.2"), "resolved", resolved)
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	for range 2 {
		if err := w.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if w.Get(addr("10.0.0.2")).State != Resolved {
		t.Error("the last path is forgotten")
	}
}
