package paths

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"weir/internal/testnet"
	"weir/lb"
)

// Notifications that the kernel dropped must not leave a path as it was.
func TestOverrunIsSurvived(t *testing.T) {
	r := newRig(t)
	r.ip(r.director, "neigh add 10.0.0.60 lladdr 02:00:00:00:00:60 dev eth0 nud permanent")
	r.ip(r.director, "route add 10.9.0.0/16 via 10.0.0.60")
	w := r.watcher()
	w.sub.raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4096) })
	w.Watch(addr("10.9.0.1"))
	// Nobody listens yet. The entry's past stays in the buffer, what comes after it does not fit.
	r.ip(r.director, "neigh change 10.0.0.60 lladdr 02:00:00:00:00:61 dev eth0 nud permanent")
	var routes strings.Builder
	for i := range 200 {
		fmt.Fprintf(&routes, "route add 10.7.%d.0/24 via 10.0.0.2\n", i)
	}
	routes.WriteString("neigh change 10.0.0.60 lladdr 02:00:00:00:00:62 dev eth0 nud permanent\naddr add 192.0.2.10/32 dev lo\n")
	if out, err := r.director.Run("sh", "-c", "printf '"+routes.String()+"' | ip -b -"); err != nil {
		t.Fatal(err, out)
	}
	w.run()
	w.await(addr("10.9.0.1"), "as it is now", func(p Path) bool { return p.DstMAC == [6]byte{2, 5: 0x62} })
	if !strings.Contains(w.log.String(), "notifications were lost") {
		t.Fatal("nothing was lost: the test shows nothing")
	}
	if own := w.OwnAddresses(); !slices.Contains(own, addr("192.0.2.10")) {
		t.Errorf("own addresses %v", own)
	}
	// And it goes on.
	r.ip(r.director, "route del 10.9.0.0/16")
	w.await(addr("10.9.0.1"), "without a route", func(p Path) bool { return p.State == Refused })
}

func TestOnlyWhatAnEventTouchesIsLookedUp(t *testing.T) {
	r := newRig(t)
	r.ip(r.director, "route add 10.9.0.0/16 via 10.0.0.2")
	r.ip(r.director, "neigh add 10.0.0.2 lladdr 02:00:00:00:00:60 dev eth0 nud permanent")
	w := r.watcher()
	const servers = 4000
	for i := range uint32(servers) {
		if p := w.Watch(lb.AddrFrom4(10<<24 | 9<<16 | i)); p.State != Resolved {
			t.Fatalf("server %d: %+v", i, p)
		}
	}
	via := hop{r.eth0.Index, addr("10.0.0.2")}
	if len(w.hops) != 1 || len(w.hops[via].servers) != servers {
		t.Fatalf("%d next hops, %d servers by the gateway", len(w.hops), len(w.hops[via].servers))
	}

	b := newBatch()
	n := w.neighs[via]
	n.mac[5] = 0x61
	w.note(event{kind: neighChanged, hop: via, neigh: n}, &b)
	if got := w.affected(&b); len(got) != 0 || len(b.dirty) != servers {
		t.Errorf("a new MAC: %d lookups, %d paths", len(got), len(b.dirty))
	}
	if err := w.apply(&b); err != nil {
		t.Fatal(err)
	}
	if changed, own := w.Take(); len(changed) != servers || own {
		t.Errorf("a new MAC: %d changes", len(changed))
	}

	b = newBatch()
	w.note(event{kind: neighChanged, hop: via, neigh: n}, &b)
	w.note(event{kind: neighChanged, hop: hop{r.eth0.Index, addr("10.0.0.99")}, neigh: n}, &b)
	if len(b.dirty) != 0 {
		t.Errorf("nothing new: %d paths", len(b.dirty))
	}

	b = newBatch()
	w.note(event{kind: routeChanged, prefix: netip.MustParsePrefix("10.9.1.0/24")}, &b)
	w.note(event{kind: routeChanged, prefix: netip.MustParsePrefix("10.9.1.0/25")}, &b)
	w.note(event{kind: routeChanged, prefix: netip.MustParsePrefix("::/0")}, &b)
	if got := w.affected(&b); len(got) != 256 {
		t.Errorf("a route to 256 servers: %d lookups", len(got))
	}
}

// Route changes come in storms; the watcher must end up right, and in few steps.
func TestStormSettles(t *testing.T) {
	r := newRig(t)
	w := r.watcher().run()
	var batch strings.Builder
	for i := range 100 {
		w.Watch(addr(fmt.Sprintf("10.9.%d.1", i)))
		for range 5 {
			fmt.Fprintf(&batch, "route add 10.9.%d.0/24 via 10.0.0.2\nroute del 10.9.%d.0/24\n", i, i)
		}
		fmt.Fprintf(&batch, "route add 10.9.%d.0/24 via 10.0.0.3\n", i)
	}
	if out, err := r.director.Run("sh", "-c", "printf '"+batch.String()+"' | ip -b -"); err != nil {
		t.Fatal(err, out)
	}
	testnet.Eventually(t, limit, "all by the last gateway", func() bool {
		for i := range 100 {
			if p := w.Get(addr(fmt.Sprintf("10.9.%d.1", i))); p.State != Resolved || p.Gateway != addr("10.0.0.3") {
				return false
			}
		}
		return true
	})
}

// A new address of the host may be the source of what was sent from another one: every server behind that next hop is to know.
func TestANewAddressBecomesTheSource(t *testing.T) {
	r := newRig(t)
	r.ip(r.director, "addr del 10.0.0.1/24 dev eth0")
	r.ip(r.director, "route add 10.9.0.0/16 dev eth0")
	r.ip(r.director, "route add 10.8.0.0/16 via 10.0.1.2 dev eth1")
	w := r.watcher(r.eth0.Index, r.eth1.Index).run()
	moved := []lb.Addr{addr("10.9.0.1"), addr("10.9.0.2"), addr("10.9.0.3")}
	other := addr("10.8.0.1")
	for _, a := range append(moved, other) {
		if p := w.Watch(a); p.Source != addr("10.0.1.1") {
			t.Fatalf("%s at first: %+v", a, p)
		}
	}
	r.director.AddAddr("eth0", "10.0.0.50/32")
	for _, a := range moved {
		w.await(a, "from the new address", func(p Path) bool { return p.Source == addr("10.0.0.50") })
	}
	if p := w.Get(other); p.Source != addr("10.0.1.1") {
		t.Errorf("%s: %+v", other, p)
	}
	// One that nothing is sent from makes a server the host itself, and is noticed when it goes.
	r.director.AddAddr("eth1", "10.9.0.2/32")
	w.await(moved[1], "local", func(p Path) bool { return p.State == Local })
	r.ip(r.director, "addr del 10.9.0.2/32 dev eth1")
	w.await(moved[1], "elsewhere", func(p Path) bool { return p.State != Local })
}
