package bpf

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"

	"weir/lb"
)

// endpoints are a map of endpoints and the map of their addresses, by which fragments without ports are known, with an account of what is
// in them. Many are written with one system call (BPF_MAP_UPDATE_BATCH, Linux 5.6). Guarded by Steer.mu.
type endpoints struct {
	name, what, addresses string

	at map[steerAddress]ports
	// more are those beside the one that ports has room for: a director may have a hundred thousand addresses, and most have one.
	more map[steerEndpoint]bool
}

// ports are the endpoints of one address.
type ports struct {
	port  uint16 // with one
	proto uint8
	one   bool   // there is this one
	more  uint32 // how many others there are
}

func newEndpoints(name, what, addresses string) endpoints {
	return endpoints{name: name, what: what, addresses: addresses, at: map[steerAddress]ports{}, more: map[steerEndpoint]bool{}}
}

func (p *ports) is(key *steerEndpoint) bool {
	return p.one && p.port == key.Port && p.proto == key.Proto
}

// enter notes key, and reports whether it was not there, and whether its address was not either.
func (e *endpoints) enter(key steerEndpoint) (fresh, first bool) {
	p, known := e.at[key.Addr]
	switch {
	case p.is(&key) || p.more > 0 && e.more[key]:
		return false, false
	case p.one:
		e.more[key] = true
		p.more++
	default:
		p.one, p.port, p.proto = true, key.Port, key.Proto
	}
	e.at[key.Addr] = p
	return true, !known
}

// leave takes key out, and reports whether it was there, and whether it was the last of its address.
func (e *endpoints) leave(key steerEndpoint) (was, last bool) {
	p := e.at[key.Addr]
	switch {
	case p.is(&key):
		p.one = false
	case p.more > 0 && e.more[key]:
		delete(e.more, key)
		p.more--
	default:
		return false, false
	}
	if !p.one && p.more == 0 {
		delete(e.at, key.Addr)
		return true, true
	}
	e.at[key.Addr] = p
	return true, false
}

func (s *Steer) addEndpoints(e *endpoints, list []lb.Endpoint) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := make([]steerEndpoint, 0, len(list))
	addrs := make([]steerAddress, 0, len(list))
	for _, x := range list {
		key := endpoint(x)
		fresh, first := e.enter(key)
		if fresh {
			keys = append(keys, key)
		}
		if first {
			addrs = append(addrs, key.Addr)
		}
	}
	added, err := s.addAll(e.name, e.what, keys, len(keys))
	if added < len(keys) {
		for _, key := range keys[added:] {
			e.leave(key)
		}
		addrs = slices.DeleteFunc(addrs, func(a steerAddress) bool { return !e.has(a) })
	}
	_, err2 := s.addAll(e.addresses, e.what+"' addresses", addrs, len(addrs))
	return errors.Join(err, err2)
}

// has reports whether there is an endpoint of the address.
func (e *endpoints) has(a steerAddress) bool {
	_, there := e.at[a]
	return there
}

// addAll writes keys, n of them, into a set, and returns how many of them are in it, from the first on.
func (s *Steer) addAll(name, what string, keys any, n int) (added int, err error) {
	if n == 0 {
		return 0, nil
	}
	m := s.shared[name]
	ones := make([]uint8, n)
	for i := range ones {
		ones[i] = 1
	}
	added, err = m.BatchUpdate(keys, ones, nil)
	switch {
	case isFull(err) && n == 1:
		err = fmt.Errorf("steer's %s: %w: it holds %d", what, ErrFull, m.MaxEntries())
	case isFull(err):
		err = fmt.Errorf("steer's %s: %w: it holds %d, and %d found no room", what, ErrFull, m.MaxEntries(), n-added)
	case err != nil:
		err = fmt.Errorf("steer's %s: add: %w", what, explain(err))
	}
	return added, err
}

func (s *Steer) removeEndpoints(e *endpoints, list []lb.Endpoint) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := make([]steerEndpoint, 0, len(list))
	var addrs []steerAddress
	for _, x := range list {
		key := endpoint(x)
		was, last := e.leave(key)
		if was {
			keys = append(keys, key)
		}
		if last {
			addrs = append(addrs, key.Addr)
		}
	}
	removed, err := s.removeAll(e.name, e.what, keys, len(keys))
	if removed < len(keys) {
		for _, key := range keys[removed:] {
			e.enter(key)
		}
		addrs = slices.DeleteFunc(addrs, e.has)
	}
	_, err2 := s.removeAll(e.addresses, e.what+"' addresses", addrs, len(addrs))
	return errors.Join(err, err2)
}

func (s *Steer) removeAll(name, what string, keys any, n int) (removed int, err error) {
	if n == 0 {
		return 0, nil
	}
	if removed, err = s.shared[name].BatchDelete(keys, nil); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return removed, fmt.Errorf("steer's %s: remove: %w", what, explain(err))
	}
	return n, nil
}

// AddTunnel redirects ICMP errors about what was sent to a TUN server's addr in a tunnel: IP in IP, GRE or UDP.
func (s *Steer) AddTunnel(addr lb.Addr) error {
	return s.add(steerMapTunnels, "TUN servers", address(addr), uint8(1))
}

// RemoveTunnel undoes AddTunnel.
func (s *Steer) RemoveTunnel(addr lb.Addr) error {
	return s.remove(steerMapTunnels, "TUN servers", address(addr))
}
