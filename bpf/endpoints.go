package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"weir/lb"
)

// endpoints are a map of endpoints and the map of their addresses, by which fragments without ports are known, with an account of what is
// in them. Many are written with one system call (BPF_MAP_UPDATE_BATCH, Linux 5.6). Guarded by Steer.mu.
type endpoints struct {
	name, what, addresses string

	there map[steerEndpoint]bool
	uses  map[steerAddress]int // how many of them have the address
}

func newEndpoints(name, what, addresses string) endpoints {
	return endpoints{name: name, what: what, addresses: addresses, there: map[steerEndpoint]bool{}, uses: map[steerAddress]int{}}
}

func (s *Steer) addEndpoints(e *endpoints, list []lb.Endpoint) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := make([]steerEndpoint, 0, len(list))
	for _, x := range list {
		key := endpoint(x)
		if !e.there[key] {
			e.there[key] = true
			keys = append(keys, key)
		}
	}
	added, err := s.addAll(e.name, e.what, keys, len(keys))
	for _, key := range keys[added:] {
		delete(e.there, key)
	}
	addrs := make([]steerAddress, 0, added)
	for _, key := range keys[:added] {
		if e.uses[key.Addr]++; e.uses[key.Addr] == 1 {
			addrs = append(addrs, key.Addr)
		}
	}
	_, err2 := s.addAll(e.addresses, e.what+"' addresses", addrs, len(addrs))
	return errors.Join(err, err2)
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
	for _, x := range list {
		if key := endpoint(x); e.there[key] {
			delete(e.there, key)
			keys = append(keys, key)
		}
	}
	removed, err := s.removeAll(e.name, e.what, keys, len(keys))
	for _, key := range keys[removed:] {
		e.there[key] = true
	}
	var addrs []steerAddress
	for _, key := range keys[:removed] {
		if e.uses[key.Addr]--; e.uses[key.Addr] == 0 {
			delete(e.uses, key.Addr)
			addrs = append(addrs, key.Addr)
		}
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
