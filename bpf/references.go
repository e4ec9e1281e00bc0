package bpf

import "weir/lb"

// endpointMaps are a map of endpoints and the map of their addresses, by which fragments without ports are known.
type endpointMaps struct{ name, what, addresses string }

var (
	serviceMaps = endpointMaps{steerMapServices, "services", steerMapServiceAddresses}
	serverMaps  = endpointMaps{steerMapNatServers, "NAT servers", steerMapServerAddresses}
)

// references are the endpoints that are in their maps, and how many of them have an address.
type references struct {
	endpoints map[reference]bool
	addresses map[reference]int // with protocol and port zero
}

type reference struct {
	maps endpointMaps
	key  steerEndpoint
}

func (s *Steer) addEndpoint(maps endpointMaps, key steerEndpoint) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ref, addr := reference{maps, key}, reference{maps, steerEndpoint{Addr: key.Addr}}
	if s.refs.endpoints[ref] {
		return nil
	}
	if err := s.add(maps.name, maps.what, key, uint8(1)); err != nil {
		return err
	}
	if s.refs.endpoints == nil {
		s.refs = references{map[reference]bool{}, map[reference]int{}}
	}
	s.refs.endpoints[ref] = true
	s.refs.addresses[addr]++
	return s.add(maps.addresses, maps.what+"' addresses", key.Addr, uint8(1))
}

func (s *Steer) removeEndpoint(maps endpointMaps, key steerEndpoint) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ref, addr := reference{maps, key}, reference{maps, steerEndpoint{Addr: key.Addr}}
	if !s.refs.endpoints[ref] {
		return nil
	}
	if err := s.remove(maps.name, maps.what, key); err != nil {
		return err
	}
	delete(s.refs.endpoints, ref)
	if s.refs.addresses[addr]--; s.refs.addresses[addr] > 0 {
		return nil
	}
	delete(s.refs.addresses, addr)
	return s.remove(maps.addresses, maps.what+"' addresses", key.Addr)
}

// AddTunnel redirects ICMP errors about what was sent to a TUN server's addr in a tunnel: IP in IP, GRE or UDP.
func (s *Steer) AddTunnel(addr lb.Addr) error {
	return s.add(steerMapTunnels, "TUN servers", address(addr), uint8(1))
}

// RemoveTunnel undoes AddTunnel.
func (s *Steer) RemoveTunnel(addr lb.Addr) error {
	return s.remove(steerMapTunnels, "TUN servers", address(addr))
}
