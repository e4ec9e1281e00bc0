package paths

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weir/internal/testnet"
	"weir/internal/testpkt"
)

// traffic sends UDP packets from the director's eth0 as weir does, past the kernel's neighbours, by whatever path the
// watcher has, and counts at the server what arrives.
type traffic struct {
	wire     *testnet.Wire
	conn     net.PacketConn
	src, dst netip.AddrPort
	sent     int
}

func (r *rig) traffic(server, source string) *traffic {
	dst := netip.AddrPortFrom(netip.MustParseAddr(server), 9000)
	c, err := r.server.ListenPacket("udp", dst.String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return &traffic{wire: r.eth0.Wire(), conn: c, src: netip.AddrPortFrom(netip.MustParseAddr(source), 9001), dst: dst}
}

// arrives sends one packet along p and reports whether the server gets it.
func (tr *traffic) arrives(t *testing.T, p Path) bool {
	t.Helper()
	tr.sent++
	text := fmt.Sprint("packet ", tr.sent)
	frame := testpkt.UDP(tr.src, tr.dst).From(p.SrcMAC[:]).To(p.DstMAC[:]).Text(text).Bytes()
	if err := tr.wire.Send(frame); err != nil {
		t.Fatal(err)
	}
	// On veth the server's stack has the packet, or has dropped it, within the sender's softirq; the rest is a loaded machine.
	tr.conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	buf := make([]byte, 100)
	for {
		n, _, err := tr.conn.ReadFrom(buf)
		if err != nil {
			return false
		}
		if string(buf[:n]) == text {
			return true
		}
	}
}

func TestServerWhoseMACChangesKeepsWorking(t *testing.T) {
	for _, row := range []struct {
		name, server, source string
		sysctl               string // what makes the server announce its new address; "": it is silent
	}{
		{"gratuitous ARP", "10.0.0.2", "10.0.0.1", "net.ipv4.conf.eth0.arp_notify"},
		{"silently, IPv4", "10.0.0.2", "10.0.0.1", ""},
		{"unsolicited advertisement", "fd00::2", "fd00::1", "net.ipv6.conf.eth0.ndisc_notify"},
		{"silently, IPv6", "fd00::2", "fd00::1", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newRig(t)
			w := r.watcher()
			if row.sysctl == "" {
				w.confirm = 300 * time.Millisecond
			} else {
				r.server.Sysctl(row.sysctl, "1")
				w.confirm = time.Hour // what is heard must do
			}
			w.run()
			server := addr(row.server)
			w.Watch(server)
			before := w.await(server, "resolved", resolved)
			tr := r.traffic(row.server, row.source)
			if !tr.arrives(t, before) {
				t.Fatal("a packet along the first path does not arrive")
			}

			r.far.SetMAC(net.HardwareAddr{2, 0, 0, 0, 0xab, 0xcd})
			if tr.arrives(t, before) {
				t.Fatal("the server still takes packets to its old MAC: the test shows nothing")
			}
			after := w.await(server, "at the new MAC", func(p Path) bool { return p.DstMAC == [6]byte{2, 4: 0xab, 0xcd} })
			if !tr.arrives(t, after) {
				t.Error("a packet along the new path does not arrive")
			}
			after.DstMAC = before.DstMAC
			if after != before {
				t.Errorf("more than the MAC changed:\n%+v\n%+v", before, after)
			}
		})
	}
}

func TestServerThatComesLate(t *testing.T) {
	r := newRig(t)
	w := r.watcher().run()
	late := addr("10.0.0.50")
	w.Watch(late)
	// Three requests remain without an answer before the kernel gives up; wait for that, the harder start.
	testnet.Eventually(t, limit, "FAILED", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.neighs[hop{r.eth0.Index, late}].state == netlink.NUD_FAILED
	})
	if p := w.Get(late); p.State != Unresolved || p.Reason != "10.0.0.50 has not answered on eth0" {
		t.Errorf("nobody there: %+v", p)
	}
	r.server.AddAddr("eth0", "10.0.0.50/24")
	if p := w.await(late, "resolved", resolved); p.DstMAC != mac(r.far) {
		t.Errorf("arrived: %+v", p)
	}
}

func TestServerThatDiesIsUnresolved(t *testing.T) {
	r := newRig(t)
	w := r.watcher()
	w.confirm = 300 * time.Millisecond
	w.run()
	server := addr("10.0.0.3")
	w.Watch(server)
	w.await(server, "resolved", resolved)
	r.ip(r.server, "addr del 10.0.0.3/24 dev eth0")
	p := w.await(server, "unresolved", func(p Path) bool { return p.State == Unresolved })
	if p.DstMAC != [6]byte{} || p.Iface != r.eth0.Index {
		t.Errorf("dead: %+v", p)
	}
}

func TestStaticNeighbourIsUsedAndLeftAlone(t *testing.T) {
	r := newRig(t)
	r.ip(r.director, "neigh add 10.0.0.60 lladdr 02:00:00:00:00:60 dev eth0 nud permanent")
	w := r.watcher()
	static := addr("10.0.0.60")
	if p := w.Watch(static); p.State != Resolved || p.DstMAC != [6]byte{2, 5: 0x60} {
		t.Errorf("static: %+v", p)
	}
	if next := w.asking(time.Now().Add(time.Hour)); !next.IsZero() {
		t.Errorf("is to be asked for at %s", next)
	}
	w.run()
	r.ip(r.director, "neigh change 10.0.0.60 lladdr 02:00:00:00:00:61 dev eth0 nud permanent")
	w.await(static, "at the other MAC", func(p Path) bool { return p.DstMAC == [6]byte{2, 5: 0x61} })
	r.ip(r.director, "neigh del 10.0.0.60 dev eth0")
	w.await(static, "unresolved", func(p Path) bool { return p.State == Unresolved })
}

// An update by netlink overwrites an IPv6 router's mark, and with it what the kernel thinks of a default gateway.
func TestProbeKeepsRouterFlag(t *testing.T) {
	r := newRig(t)
	r.ip(r.director, "neigh add fd00::77 lladdr 02:00:00:00:00:77 dev eth0 router nud reachable") // nobody answers: it stays in PROBE
	w := r.watcher()
	w.Watch(addr("fd00::77"))
	w.asking(time.Now().Add(time.Hour))
	if err := w.reload(); err != nil {
		t.Fatal(err)
	}
	n := w.neighs[hop{r.eth0.Index, addr("fd00::77")}]
	if n.state != netlink.NUD_PROBE || n.flags != netlink.NTF_ROUTER {
		t.Errorf("entry %+v", n)
	}
}

// More servers than are asked for at once, each a next hop of its own, are all found.
func TestManyNextHops(t *testing.T) {
	r := newRig(t)
	const servers = 3 * askBurst // the kernel's limit of 1,024 entries is for all namespaces together
	var batch strings.Builder
	for i := range servers {
		fmt.Fprintf(&batch, "addr add 10.0.%d.%d/32 dev eth0\n", 4+i/250, 1+i%250)
	}
	if out, err := r.server.Run("sh", "-c", "printf '"+batch.String()+"' | ip -b -"); err != nil {
		t.Fatal(err, out)
	}
	r.ip(r.director, "route add 10.0.4.0/22 dev eth0")
	w := r.watcher().run()
	for i := range servers {
		w.Watch(addr(fmt.Sprintf("10.0.%d.%d", 4+i/250, 1+i%250)))
	}
	for i := range servers {
		if p := w.await(addr(fmt.Sprintf("10.0.%d.%d", 4+i/250, 1+i%250)), "resolved", resolved); p.DstMAC != mac(r.far) {
			t.Fatalf("server %d: %+v", i, p)
		}
	}
}

func TestSchedule(t *testing.T) {
	now := time.Now()
	const confirm = confirmEvery
	for _, row := range []struct {
		name  string
		n     neigh
		asked time.Duration // before now
		fails int
		due   time.Duration // after now; -1: never
	}{
		{"an unknown neighbour is asked for at once", neigh{}, time.Hour, 0, 0},
		{"one that just failed after years is asked for at once", neigh{state: netlink.NUD_FAILED}, 3 * time.Second, 0, 0},
		{"one asked for in vain waits", neigh{state: netlink.NUD_FAILED}, 3 * time.Second, 1, time.Second},
		{"one asked for in vain twice waits twice as long", neigh{state: netlink.NUD_FAILED}, 3 * time.Second, 2, 5 * time.Second},
		{"one that has been away for long still is asked for", neigh{state: netlink.NUD_FAILED}, 3 * time.Second, 50, 13 * time.Second},
		{"a confirmed one waits", neigh{state: netlink.NUD_REACHABLE}, 0, 0, confirm},
		{"one the kernel is probing waits", neigh{state: netlink.NUD_PROBE}, 0, 0, confirm},
		{"a doubtful one is probed at once", neigh{state: netlink.NUD_STALE}, time.Minute, 0, 0},
		{"a doubtful one is not probed twice in a second", neigh{state: netlink.NUD_STALE}, 0, 0, staleProbe},
		{"a static one is left alone", neigh{state: netlink.NUD_PERMANENT, keep: true}, time.Hour, 0, -1},
	} {
		nh := nextHop{asked: now.Add(-row.asked), fails: row.fails}
		due := nh.next(row.n, now, confirm)
		want := now.Add(row.due)
		if row.due < 0 {
			want = time.Time{}
		}
		if !due.Equal(want) {
			t.Errorf("%s: due in %s, want %s", row.name, due.Sub(now), row.due)
		}
	}
}

func TestWhoseNeighbourItIs(t *testing.T) {
	m := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	ip := net.IP{10, 0, 0, 2}
	for _, row := range []struct {
		name                string
		n                   netlink.Neigh
		known, valid, alone bool
	}{
		{"learned", netlink.Neigh{Family: unix.AF_INET, State: netlink.NUD_REACHABLE}, true, true, false},
		{"failed", netlink.Neigh{Family: unix.AF_INET, State: netlink.NUD_FAILED}, true, false, false},
		{"static", netlink.Neigh{Family: unix.AF_INET, State: netlink.NUD_PERMANENT}, true, true, true},
		{"from a routing daemon", netlink.Neigh{Family: unix.AF_INET, State: netlink.NUD_REACHABLE, Flags: netlink.NTF_EXT_LEARNED}, true, true, true},
		{"managed", netlink.Neigh{Family: unix.AF_INET6, State: netlink.NUD_STALE, FlagsExt: netlink.NTF_EXT_MANAGED}, true, true, true},
		{"a bridge's forwarding entry", netlink.Neigh{Family: unix.AF_BRIDGE, State: netlink.NUD_REACHABLE}, false, false, false},
		{"a proxy's", netlink.Neigh{Family: unix.AF_INET, State: netlink.NUD_PERMANENT, Flags: netlink.NTF_PROXY}, false, false, false},
	} {
		row.n.IP, row.n.HardwareAddr = ip, m
		_, n, ok := neighFrom(&row.n)
		if ok != row.known || n.valid() != row.valid || n.keep != row.alone {
			t.Errorf("%s: known %v, valid %v, left alone %v", row.name, ok, n.valid(), n.keep)
		}
	}
	long := netlink.Neigh{Family: unix.AF_INET, State: netlink.NUD_REACHABLE, IP: ip, HardwareAddr: make([]byte, 20)}
	if _, n, _ := neighFrom(&long); n.valid() {
		t.Error("an InfiniBand address was taken for a MAC")
	}
}

// The agenda beside a list that is searched.
func TestAgenda(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	start := time.Now()
	var a agenda
	hops := make([]*nextHop, 50)
	for i := range hops {
		hops[i] = &nextHop{}
	}
	for range 5000 {
		nh := hops[rng.IntN(len(hops))]
		if rng.IntN(4) == 0 {
			a.set(nh, time.Time{})
		} else {
			a.set(nh, start.Add(time.Duration(rng.IntN(1000))))
		}
		var first time.Time
		n := 0
		for _, nh := range hops {
			if nh.due.IsZero() {
				continue
			}
			n++
			if first.IsZero() || nh.due.Before(first) {
				first = nh.due
			}
		}
		if len(a) != n || n > 0 && !a[0].due.Equal(first) {
			t.Fatalf("%d in it, %d expected; first %v, expected %v", len(a), n, a[0].due.Sub(start), first.Sub(start))
		}
	}
}
