package paths

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"weir/lb"
)

const (
	// settle is how long notifications are collected before they are acted on together.
	settle = 2 * time.Millisecond
	// calm times the duration of such a step is the least pause before the next, up to calmMost: a host whose routes
	// never rest costs a fifth of a CPU, not one.
	calm, calmMost = 4, time.Second
	// manyPrefixes changed routes at once have every server looked up again.
	manyPrefixes = 64
)

// batch is what was heard since the last apply. Neighbours and addresses are noted at once, in the Watcher's maps.
type batch struct {
	prefixes map[netip.Prefix]struct{}
	hosts    map[lb.Addr]struct{} // prefixes of one address, of which there may be many: a host's own
	added4   bool                 // the host has another IPv4 address
	links    map[int]struct{}
	dirty    map[*server]struct{} // paths to put together anew from what is known
	all      bool                 // look up every server's route again
	reload   bool                 // notifications were lost: read everything again
}

func newBatch() batch {
	return batch{prefixes: make(map[netip.Prefix]struct{}), hosts: make(map[lb.Addr]struct{}), links: make(map[int]struct{}), dirty: make(map[*server]struct{})}
}

// Run follows the kernel until ctx is done (nil), or until the kernel cannot be listened to any more (an error; the
// paths stay as they are). One Run per Watcher.
func (w *Watcher) Run(ctx context.Context) error {
	events := make(chan event, 1024)
	var failed error // written before events is closed
	go func() {
		defer close(events)
		failed = w.sub.read(func(e event) { events <- e })
	}()
	defer context.AfterFunc(ctx, w.sub.close)()

	flush, look := time.NewTimer(0), time.NewTimer(0)
	defer flush.Stop()
	defer look.Stop()
	flush.Stop()
	var armed bool                  // flush is set
	var calmUntil, lookAt time.Time // no apply, no asking before
	b := newBatch()
	for {
		select {
		case e, ok := <-events:
			if !ok {
				return failed
			}
			if w.note(e, &b) && !armed {
				armed = true
				flush.Reset(time.Until(later(time.Now().Add(settle), calmUntil)))
			}
			continue
		case start := <-flush.C:
			if err := w.apply(&b); err != nil {
				w.sub.close()
				for range events {
				}
				return err
			}
			armed, b = false, newBatch()
			calmUntil = time.Now().Add(min(calm*time.Since(start), calmMost))
		case <-w.kick:
		case <-look.C:
		}
		// What just happened may make a neighbour due before the timer says so.
		if now := time.Now(); now.Before(lookAt) {
			look.Reset(lookAt.Sub(now))
		} else {
			lookAt = now.Add(askInterval)
			if due := w.asking(now); due.IsZero() {
				look.Stop()
			} else {
				look.Reset(due.Sub(now))
			}
		}
	}
}

// note takes in one event and reports whether it wants an apply.
func (w *Watcher) note(e event, b *batch) bool {
	switch e.kind {
	case neighChanged:
		return w.noteNeigh(e.hop, e.neigh, b)
	case routeChanged:
		if e.prefix.IsSingleIP() {
			b.hosts[lb.AddrFrom(e.prefix.Addr())] = struct{}{}
		} else if b.prefixes[e.prefix] = struct{}{}; len(b.prefixes) > manyPrefixes {
			b.all = true
			clear(b.prefixes)
		}
	case linkChanged:
		b.links[e.link] = struct{}{}
	case addressAdded, addressRemoved:
		// IPv4 routes that prefer a removed address as their source go without a notification (fib_sync_down_addr), and
		// an IPv6 address becomes a source only with its second one, when DAD is done.
		if e.kind == addressAdded && e.address.addr.Is4() {
			b.added4 = true
		} else {
			b.all = true
		}
		w.mu.Lock()
		before := len(w.own)
		if e.kind == addressAdded {
			w.own[e.address] = struct{}{}
		} else {
			delete(w.own, e.address)
		}
		w.ownChanged = w.ownChanged || len(w.own) != before
		w.mu.Unlock()
	case rulesChanged:
		b.all = true
	case overrun:
		b.all, b.reload = true, true
	}
	return true
}

func (w *Watcher) noteNeigh(h hop, n neigh, b *batch) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := w.neighs[h]
	if n == (neigh{}) {
		delete(w.neighs, h)
	} else {
		w.neighs[h] = n
	}
	nh := w.hops[h]
	if nh == nil {
		return false
	}
	w.agenda.set(nh, nh.next(n, time.Now(), w.confirm))
	if n.valid() != old.valid() || n.mac != old.mac {
		for _, s := range nh.servers {
			b.dirty[s] = struct{}{}
		}
	}
	return true
}

// apply acts on a batch: looks up routes where they may have changed, and recomputes the paths that this or a neighbour
// touches.
func (w *Watcher) apply(b *batch) error {
	if b.reload {
		w.log.Warn("netlink notifications were lost, reading everything again")
		if err := w.reload(); err != nil {
			return err
		}
	}
	// IPv4 routes disappear with a link that goes down, without a notification of their own (fib_sync_down_dev).
	b.all = w.reloadLinks(b.links) || b.all

	if b.added4 && !b.all {
		b.all = w.sourceChanged()
	}
	affected := w.affected(b)
	routes := w.inquiry.routes(addresses(affected))

	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if b.reload {
		for h, nh := range w.hops {
			w.agenda.set(nh, nh.next(w.neighs[h], now, w.confirm))
		}
	}
	for i, s := range affected {
		w.place(s, routes[i], now)
		b.dirty[s] = struct{}{}
	}
	for s := range b.dirty {
		if w.servers[s.addr] == s {
			w.update(s)
		} else {
			w.unplace(s) // no longer watched since the lookup
		}
	}
	if len(w.changed) > 0 || w.ownChanged {
		wake(w.changes)
	}
	return nil
}

func addresses(servers []*server) []lb.Addr {
	addrs := make([]lb.Addr, len(servers))
	for i, s := range servers {
		addrs[i] = s.addr
	}
	return addrs
}

// sourceChanged reports whether another IPv4 address of the host made any route leave with another source. The kernel chooses it by next hop,
// not by destination (fib_info_update_nhc_saddr in net/ipv4/fib_semantics.c), so one server of each is asked for: a director puts thousands
// of addresses on the host, and may have a hundred thousand servers.
func (w *Watcher) sourceChanged() bool {
	w.mu.Lock()
	one := make(map[route]*server)
	for _, s := range w.servers {
		if s.addr.Is4() {
			one[s.route] = s
		}
	}
	w.mu.Unlock()
	sample := slices.Collect(maps.Values(one))
	for i, r := range w.inquiry.routes(addresses(sample)) {
		if one[r] != sample[i] {
			return true
		}
	}
	return false
}

// affected returns the servers whose routes may have changed.
func (w *Watcher) affected(b *batch) []*server {
	w.mu.Lock()
	defer w.mu.Unlock()
	var r []*server
	if !b.all {
		for a := range b.hosts {
			if s := w.servers[a]; s != nil {
				r = append(r, s)
			}
		}
		if len(b.prefixes) == 0 {
			return r
		}
	}
	for _, s := range w.servers {
		hit := b.all
		for p := range b.prefixes {
			hit = hit || p.Contains(s.ip)
		}
		if hit {
			r = append(r, s)
		}
	}
	return r
}

// reloadLinks reads the named links anew and reports whether any differs from what was known of it.
func (w *Watcher) reloadLinks(indexes map[int]struct{}) bool {
	changed := false
	for i := range indexes {
		l, err := w.handle.LinkByIndex(i)
		var gone netlink.LinkNotFoundError
		if err != nil && !errors.As(err, &gone) {
			w.log.Warn("link", "index", i, "err", err)
			continue
		}
		w.mu.Lock()
		old, known := w.links[i]
		switch {
		case err != nil:
			changed = changed || known
			delete(w.links, i)
			maps.DeleteFunc(w.neighs, func(h hop, _ neigh) bool { return h.iface == i })
		default:
			w.links[i] = linkFrom(l)
			changed = changed || w.links[i] != old
		}
		w.mu.Unlock()
	}
	return changed
}
