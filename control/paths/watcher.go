package paths

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weir/lb"
)

// Options of a Watcher.
type Options struct {
	Interfaces []int        // indexes of the interfaces weir was given; paths leave through no other
	Logger     *slog.Logger // nil: slog.Default
}

// Watcher follows the paths to the servers it was told to watch, and the host's own addresses. It sees the network
// namespace of the thread that New ran on, wherever its methods are called later. All methods may be called at any time
// from any goroutine; until Run runs, what they answer is as it was at New or Watch.
type Watcher struct {
	log     *slog.Logger
	given   map[int]bool
	handle  *netlink.Handle
	inquiry *inquiry
	sub     *subscription
	confirm time.Duration // confirmEvery, but in tests

	changes chan struct{} // holds one token while changed or ownChanged have something
	kick    chan struct{} // holds one token while a hop may be due that asking has not seen

	complained time.Time // when asking last logged; owned by Run's goroutine

	mu         sync.Mutex
	links      links
	neighs     map[hop]neigh // all of the kernel's
	own        map[address]struct{}
	servers    map[lb.Addr]*server
	hops       map[hop]*nextHop // those that servers are reached through
	agenda     agenda           // of hops, by when they are to be asked for
	changed    map[lb.Addr]struct{}
	ownChanged bool
}

// server is a watched address.
type server struct {
	addr  lb.Addr
	ip    netip.Addr
	refs  int
	route route
	hop   hop // where place put it; zero: nowhere
	index int // there
	path  Path
}

// New reads the kernel's state and starts to listen; nothing is followed before Run. It needs CAP_NET_ADMIN to have
// neighbours resolved.
func New(o Options) (*Watcher, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	w := &Watcher{
		log:     o.Logger,
		given:   make(map[int]bool),
		confirm: confirmEvery,
		changes: make(chan struct{}, 1),
		kick:    make(chan struct{}, 1),
		servers: make(map[lb.Addr]*server),
		hops:    make(map[hop]*nextHop),
		changed: make(map[lb.Addr]struct{}),
	}
	for _, i := range o.Interfaces {
		w.given[i] = true
	}
	// Listen first: what changes while the state is read is then heard of.
	var err error
	if w.sub, err = subscribe(); err != nil {
		return nil, err
	}
	if w.inquiry, err = newInquiry(); err != nil {
		w.sub.close()
		return nil, err
	}
	if w.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		w.sub.close()
		w.inquiry.close()
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	if err := w.reload(); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// Close gives back what New took. It comes after Run has returned, if Run was called, and may be called twice.
func (w *Watcher) Close() error {
	w.sub.close()
	w.inquiry.close()
	w.handle.Close()
	return nil
}

// Watch starts to follow the path to addr and returns what is known of it now. Each Watch wants its own Unwatch.
func (w *Watcher) Watch(addr lb.Addr) Path {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.servers[addr]
	if s == nil {
		var one [1]*server
		w.watch([]lb.Addr{addr}, one[:0])
		return one[0].path
	}
	s.refs++
	return s.path
}

// WatchAll is Watch for many addresses: their routes are looked up together, a few hundred in a millisecond. The function that it returns is Unwatch
// for all of them.
func (w *Watcher) WatchAll(addrs []lb.Addr) (unwatch func()) {
	all := make([]*server, 0, len(addrs))
	for some := range slices.Chunk(addrs, atOnce) {
		w.mu.Lock()
		all = w.watch(some, all)
		w.mu.Unlock()
	}
	return func() {
		for some := range slices.Chunk(all, atOnce) {
			w.mu.Lock()
			for _, s := range some {
				w.unwatch(s)
			}
			w.mu.Unlock()
		}
	}
}

// watch is Watch with the lock held; it appends the servers to all. It looks routes up under the lock: Run, once it has heard of a change, finds the
// servers here and looks again.
func (w *Watcher) watch(addrs []lb.Addr, all []*server) []*server {
	var fresh []*server
	var ask []lb.Addr
	for _, addr := range addrs {
		s := w.servers[addr]
		if s == nil {
			s = &server{addr: addr, ip: addr.Netip()}
			w.servers[addr] = s
			fresh, ask = append(fresh, s), append(ask, addr)
		}
		s.refs++
		all = append(all, s)
	}
	if fresh == nil {
		return all
	}
	now := time.Now()
	for i, r := range w.inquiry.routes(ask) {
		w.place(fresh[i], r, now)
		fresh[i].path = w.path(fresh[i].addr, r)
	}
	wake(w.kick)
	return all
}

// Unwatch takes back one Watch of addr.
func (w *Watcher) Unwatch(addr lb.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.servers[addr]; s != nil {
		w.unwatch(s)
	}
}

// unwatch is Unwatch with the lock held.
func (w *Watcher) unwatch(s *server) {
	if s.refs--; s.refs > 0 {
		return
	}
	w.unplace(s)
	delete(w.servers, s.addr)
	delete(w.changed, s.addr)
}

// Get returns the path to a watched address as it is now; the zero Path, Unresolved, for one that is not watched.
func (w *Watcher) Get(addr lb.Addr) Path {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.servers[addr]; s != nil {
		return s.path
	}
	return Path{}
}

// Lookup returns the path to addr without watching it: what Watch would return. The error is that of a Refused path,
// with the address; a next hop that is not resolved is none. An address that is watched and not refused costs the kernel no question.
func (w *Watcher) Lookup(addr lb.Addr) (Path, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.servers[addr]; s != nil && s.path.State != Refused {
		return s.path, nil
	}
	p := w.path(addr, w.inquiry.route(addr)) // who was refused may have mended the route a moment ago
	if err := p.Err(); err != nil {
		return p, fmt.Errorf("server %s: %w", addr, err)
	}
	return p, nil
}

// Changes has a token whenever there is something to Take. One token may stand for many changes.
func (w *Watcher) Changes() <-chan struct{} { return w.changes }

// Take returns the watched addresses whose paths changed since the last Take (or since Watch returned the first one), in
// no order, and whether the host's own addresses did.
func (w *Watcher) Take() (servers []lb.Addr, own bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	servers, own = slices.Collect(maps.Keys(w.changed)), w.ownChanged
	clear(w.changed)
	w.ownChanged = false
	return servers, own
}

// OwnAddresses returns the host's addresses, those of lo included, each once and in order.
func (w *Watcher) OwnAddresses() []lb.Addr {
	w.mu.Lock()
	defer w.mu.Unlock()
	addrs := make([]lb.Addr, 0, len(w.own))
	for a := range w.own {
		addrs = append(addrs, a.addr)
	}
	slices.SortFunc(addrs, func(a, b lb.Addr) int { return a.Netip().Compare(b.Netip()) })
	return slices.Compact(addrs)
}

// path puts together what routes, links and neighbours say about addr. Called with the lock held.
func (w *Watcher) path(addr lb.Addr, r route) Path {
	if r.refused != "" {
		return Path{State: Refused, Reason: r.refused}
	}
	if r.local {
		return Path{State: Local, Iface: r.iface, Source: r.source, MTU: w.links[r.iface].mtu}
	}
	iface, vlans, refused := w.links.egress(r.iface, addr, w.given)
	if refused != "" {
		return Path{State: Refused, Reason: refused}
	}
	out := w.links[r.iface]
	p := Path{State: Resolved, Iface: iface, SrcMAC: out.mac, VLANs: vlans, MTU: out.mtu, Source: r.source, Gateway: r.gateway}
	if r.mtu > 0 {
		p.MTU = min(p.MTU, r.mtu)
	}
	next := r.next(addr)
	n := w.neighs[next]
	if !n.valid() {
		// The same words while the kernel tries, gives up and tries again: not every attempt is a change.
		p.State, p.Reason = Unresolved, fmt.Sprintf("%s has not answered on %s", next.addr, out.name)
		return p
	}
	p.DstMAC = n.mac
	return p
}

// place notes s's route and, where packets to it go to a neighbour on a usable interface, sees to that neighbour.
// Called with the lock held.
func (w *Watcher) place(s *server, r route, now time.Time) {
	s.route = r
	var next hop
	if r.refused == "" && !r.local {
		if _, _, refused := w.links.egress(r.iface, s.addr, w.given); refused == "" {
			next = r.next(s.addr)
		}
	}
	if next == s.hop {
		return
	}
	w.unplace(s)
	if next == (hop{}) {
		return
	}
	nh := w.hops[next]
	if nh == nil {
		nh = &nextHop{hop: next}
		w.hops[next] = nh
		w.agenda.set(nh, nh.next(w.neighs[next], now, w.confirm))
	}
	s.hop, s.index = next, len(nh.servers)
	nh.servers = append(nh.servers, s)
}

// unplace lets go of the neighbour s was reached through. Called with the lock held.
func (w *Watcher) unplace(s *server) {
	nh := w.hops[s.hop]
	s.hop = hop{}
	if nh == nil {
		return
	}
	last := len(nh.servers) - 1
	nh.servers[s.index] = nh.servers[last]
	nh.servers[s.index].index = s.index
	nh.servers[last] = nil
	if nh.servers = nh.servers[:last]; last == 0 {
		delete(w.hops, nh.hop)
		w.agenda.set(nh, time.Time{})
	}
}

// update recomputes s's path and notes whether it changed. Called with the lock held.
func (w *Watcher) update(s *server) {
	p := w.path(s.addr, s.route)
	if p == s.path {
		return
	}
	w.log.Debug("path", "server", s.addr, "state", p.State, "iface", p.Iface, "reason", p.Reason)
	s.path = p
	w.changed[s.addr] = struct{}{}
}

// reload reads the kernel's links, neighbours and addresses anew.
func (w *Watcher) reload() error {
	ls, err := dump(w.handle.LinkList)
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	ns, err := dump(func() ([]netlink.Neigh, error) { return w.handle.NeighList(0, 0) })
	if err != nil {
		return fmt.Errorf("list neighbours: %w", err)
	}
	as, err := dump(func() ([]netlink.Addr, error) { return w.handle.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.links, w.neighs = make(links, len(ls)), make(map[hop]neigh, len(ns))
	for _, l := range ls {
		w.links[l.Attrs().Index] = linkFrom(l)
	}
	for i := range ns {
		if h, n, ok := neighFrom(&ns[i]); ok {
			w.neighs[h] = n
		}
	}
	own := make(map[address]struct{}, len(as))
	for _, a := range as {
		mask := a.Mask
		if a.Peer != nil {
			mask = a.Peer.Mask // the library gives a local address beside a peer a mask of its own
		}
		bits, _ := mask.Size()
		own[address{a.LinkIndex, addrFrom(a.IP), uint8(bits)}] = struct{}{}
	}
	if w.own != nil && !maps.Equal(w.own, own) {
		w.ownChanged = true
	}
	w.own = own
	return nil
}

// dump repeats a list that the kernel's state changed under. When it always does, the last one has to do: what changed
// is on its way as a notification.
func dump[T any](list func() ([]T, error)) ([]T, error) {
	for range 10 {
		if r, err := list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return r, err
		}
	}
	r, err := list()
	if errors.Is(err, netlink.ErrDumpInterrupted) {
		err = nil
	}
	return r, err
}

// wake leaves a token in c unless there is one.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
