package control

import (
	"context"
	"sync/atomic"
	"time"

	"weir/control/paths"
	"weir/dataplane/forward"
	"weir/lb"
)

// Reach is the kernel's routes and neighbours (paths.Watcher) in the dataplane's terms: interfaces by their place in the
// director's list instead of by the kernel's index.
type Reach struct {
	watcher *paths.Watcher
	iface   map[int]int // by ifindex
	last    atomic.Pointer[forward.Path]
}

// NewReach returns the Paths of a director that serves the interfaces with these kernel indexes, in this order.
func NewReach(w *paths.Watcher, ifindexes []int) *Reach {
	r := &Reach{watcher: w, iface: map[int]int{}}
	for i, ifindex := range ifindexes {
		r.iface[ifindex] = i
	}
	return r
}

func (r *Reach) Watch(addr lb.Addr)   { r.watcher.Watch(addr) }
func (r *Reach) Unwatch(addr lb.Addr) { r.watcher.Unwatch(addr) }

// Hold watches addrs, all looked up together, until the function that it returns is called.
func (r *Reach) Hold(addrs []lb.Addr) (release func()) {
	return r.watcher.WatchAll(addrs)
}

// Await waits until the way to each of addrs is known or cannot become known by waiting, or the time is over; the first
// packets to a server would be lost otherwise. It returns the addresses that are still asked for. Somebody must run the
// watcher meanwhile.
func (r *Reach) Await(ctx context.Context, addrs []lb.Addr, limit time.Duration) (unresolved []lb.Addr) {
	defer r.Hold(addrs)()
	deadline := time.Now().Add(limit)
	unresolved = addrs
	for {
		began := time.Now()
		var left []lb.Addr
		for _, a := range unresolved {
			if r.watcher.Get(a).State == paths.Unresolved {
				left = append(left, a)
			}
		}
		if unresolved = left; len(left) == 0 || time.Now().After(deadline) || ctx.Err() != nil {
			return unresolved
		}
		time.Sleep(max(awaitStep, 4*time.Since(began)))
	}
}

// awaitStep is how often Await looks: a neighbour on the same network answers within a fraction of a millisecond.
const awaitStep = time.Millisecond

// Path implements Paths.
func (r *Reach) Path(addr lb.Addr) (*forward.Path, bool) {
	p := r.watcher.Get(addr)
	if p.State != paths.Resolved {
		return nil, p.State == paths.Local
	}
	iface, ok := r.iface[p.Iface]
	if !ok {
		return nil, false
	}
	path := forward.Path{Iface: iface, DstMAC: p.DstMAC, SrcMAC: p.SrcMAC, VLANs: p.VLANs, Source: p.Source, MTU: p.MTU}
	// Servers behind one router have one path: workers find it in their caches.
	if last := r.last.Load(); last != nil && *last == path {
		return last, false
	}
	r.last.Store(&path)
	return &path, false
}

// Check implements Paths.
func (r *Reach) Check(addr lb.Addr) error {
	p, _ := r.watcher.Lookup(addr) // its error names the server; the caller does too
	return p.Err()
}

// Follow takes every change of paths into the store, and of the host's own addresses into own, until ctx ends. What they
// refuse goes to complain.
func (r *Reach) Follow(ctx context.Context, store *Store, own func([]lb.Addr) error, complain func(error)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.watcher.Changes():
		}
		servers, ownChanged := r.watcher.Take()
		if ownChanged {
			if err := own(r.watcher.OwnAddresses()); err != nil {
				complain(err)
			}
		}
		if len(servers) > 0 {
			if err := store.PathChanged(servers...); err != nil {
				complain(err)
			}
		}
	}
}
