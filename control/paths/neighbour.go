package paths

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weir/lb"
)

// How the kernel is asked, and how often. There is a flag that makes it keep an entry resolved by itself, NTF_EXT_MANAGED
// (Linux 5.16), but it probes only what has been STALE, that is after 15 to 45 seconds (base_reachable_time_ms), and
// stays on the entry when weir is killed. Both ways used here leave nothing behind:
//   - an address that is not known: NTF_USE, which acts like a packet to it (neigh_event_send: three requests, a second
//     apart, then FAILED);
//   - one that is known: state NUD_PROBE, which has the kernel send unicast requests while the old address stays in use
//     (__neigh_update in net/core/neighbour.c). A server whose MAC address changed silently does not answer these, the
//     entry FAILs after three seconds, and NTF_USE finds the new address by broadcast.
const (
	// confirmEvery is how old a confirmed address gets before it is probed.
	confirmEvery = 5 * time.Second
	// staleProbe is the shortest time between two probes of one neighbour that something put into doubt: a gratuitous
	// ARP makes an entry STALE.
	staleProbe = time.Second
	// retryFirst is when a neighbour that does not answer is asked again, which doubles up to retryLast. The kernel
	// itself needs three seconds to give up.
	retryFirst, retryLast = 4 * time.Second, 16 * time.Second
	// askBurst neighbours at most are asked in askInterval: 1,000 a second.
	askBurst, askInterval = 100, 100 * time.Millisecond
)

// hop is a neighbour's name: an address on an interface.
type hop struct {
	iface int
	addr  lb.Addr
}

// neigh is the kernel's entry for a hop. The zero value is no entry.
type neigh struct {
	state uint16
	flags uint8
	mac   [6]byte
	keep  bool // someone else looks after it: static, without ARP, from a routing daemon, or managed by the kernel
}

const nudValid = netlink.NUD_PERMANENT | netlink.NUD_NOARP | netlink.NUD_REACHABLE |
	netlink.NUD_PROBE | netlink.NUD_STALE | netlink.NUD_DELAY // include/net/neighbour.h

func (n neigh) valid() bool { return n.state&nudValid != 0 }

func neighFrom(n *netlink.Neigh) (hop, neigh, bool) {
	if n.Family != unix.AF_INET && n.Family != unix.AF_INET6 || n.Flags&netlink.NTF_PROXY != 0 {
		return hop{}, neigh{}, false // a bridge's forwarding entries come by the same group
	}
	r := neigh{state: uint16(n.State), flags: uint8(n.Flags)}
	if len(n.HardwareAddr) == len(r.mac) {
		copy(r.mac[:], n.HardwareAddr)
	} else {
		r.state &^= nudValid
	}
	r.keep = n.State&(netlink.NUD_PERMANENT|netlink.NUD_NOARP) != 0 ||
		n.Flags&netlink.NTF_EXT_LEARNED != 0 || n.FlagsExt&netlink.NTF_EXT_MANAGED != 0
	return hop{n.LinkIndex, addrFrom(n.IP)}, r, true
}

// nextHop is a hop that servers are reached through.
type nextHop struct {
	hop     hop
	servers []*server
	asked   time.Time // last
	fails   int       // how often it was asked in vain since it was last known
	due     time.Time // when to ask next, as agenda has it; zero: never
	place   int       // in agenda, while due is not zero
}

// next returns when the hop is to be asked for, now that its entry is n; the zero time: never.
func (nh *nextHop) next(n neigh, now time.Time, confirm time.Duration) time.Time {
	switch {
	case n.keep:
		return time.Time{}
	case n.state&(netlink.NUD_REACHABLE|netlink.NUD_PROBE) != 0:
		if n.state&netlink.NUD_REACHABLE != 0 {
			nh.fails = 0
		}
		return now.Add(confirm)
	case n.valid():
		return later(now, nh.asked.Add(min(staleProbe, confirm)))
	}
	return later(now, nh.asked.Add(nh.backoff()))
}

func (nh *nextHop) backoff() time.Duration {
	if nh.fails == 0 {
		return 0
	}
	return min(retryFirst<<min(nh.fails-1, 8), retryLast)
}

// wasAsked notes that the kernel was told to ask for the hop, and returns when it is to be told again.
func (nh *nextHop) wasAsked(n neigh, now time.Time, confirm time.Duration) time.Time {
	nh.asked = now
	if n.valid() {
		return now.Add(confirm)
	}
	nh.fails++
	return now.Add(nh.backoff())
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// ask has the kernel look for h, whose entry is n.
func ask(handle *netlink.Handle, h hop, n neigh) error {
	req := netlink.Neigh{LinkIndex: h.iface, IP: net.IP(h.addr.Netip().AsSlice()), State: netlink.NUD_NONE, Flags: netlink.NTF_USE}
	if n.valid() {
		// An update by netlink also sets an IPv6 router's mark; it must stay as it is.
		req.State, req.Flags = netlink.NUD_PROBE, int(n.flags)&netlink.NTF_ROUTER
	}
	err := handle.NeighSet(&req)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EINVAL) && n.valid():
		return nil // the entry lost its address since; the notification of that is on its way
	case errors.Is(err, unix.ENOBUFS):
		family := "ipv4"
		if !h.addr.Is4() {
			family = "ipv6"
		}
		return fmt.Errorf("resolve %s: the kernel's neighbour table is full: raise net.%s.neigh.default.gc_thresh3", h.addr, family)
	}
	return fmt.Errorf("resolve %s: %w", h.addr, err)
}

// asking sends the asks that are due, at most askBurst of them, and returns when the next are; the zero time: nothing to do.
func (w *Watcher) asking(now time.Time) time.Time {
	type todo struct {
		hop hop
		n   neigh
	}
	var asks []todo
	w.mu.Lock()
	for len(asks) < askBurst && len(w.agenda) > 0 && !w.agenda[0].due.After(now) {
		nh := w.agenda[0]
		n := w.neighs[nh.hop]
		asks = append(asks, todo{nh.hop, n})
		w.agenda.set(nh, nh.wasAsked(n, now, w.confirm))
	}
	var next time.Time
	if len(w.agenda) > 0 {
		next = w.agenda[0].due
	}
	w.mu.Unlock()
	for _, a := range asks {
		if err := ask(w.handle, a.hop, a.n); err != nil && now.Sub(w.complained) > time.Minute {
			w.complained = now
			w.log.Warn("neighbour", "err", err)
		}
	}
	if next.IsZero() {
		return next
	}
	return later(next, now.Add(askInterval))
}
