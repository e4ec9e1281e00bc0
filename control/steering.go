package control

import (
	"errors"
	"slices"

	"weir/lb"
)

// steerService has the redirect program send what is for the service: its port, or for FTP any, as far as it does not already.
func (c *change) steerService(v *service) {
	wanted := v.wantedKeys()
	for _, k := range wanted {
		if slices.Contains(v.keys, k) {
			continue
		}
		v.keys = append(v.keys, k)
		if c.served[k]++; c.served[k] == 1 {
			c.newServices = append(c.newServices, k)
		}
	}
	if delete(c.shrunk, v); len(v.keys) > len(wanted) {
		c.shrunk[v] = c.step
	}
}

// wantedKeys are the service's keys in the redirect program: none for a mark, whose rules say what is redirected.
func (v *service) wantedKeys() []lb.Endpoint {
	key := v.config.Key
	switch {
	case key.Mark != 0:
		return nil
	case tiesFTP(&v.config):
		return []lb.Endpoint{{Proto: key.Proto, Addr: key.Addr, Port: key.Port}, {Proto: key.Proto, Addr: key.Addr}}
	}
	return []lb.Endpoint{{Proto: key.Proto, Addr: key.Addr, Port: key.Port}}
}

// unserve takes back a service's claims on keys.
func (s *Store) unserve(keys []lb.Endpoint) error {
	var unused []lb.Endpoint
	for _, k := range keys {
		if s.served[k]--; s.served[k] == 0 {
			delete(s.served, k)
			unused = append(unused, k)
		}
	}
	return s.steer.RemoveServices(unused)
}

// steerServer has the redirect program send what a server of this mode needs: a NAT server's answers, errors about packets tunnelled to it. What
// its mode needed before, the connections that it has still need.
func (c *change) steerServer(s *server, mode lb.Mode) {
	if mode == lb.NAT && !s.steered {
		s.steered = true
		s.steerKeys(func(key lb.Endpoint) {
			if c.edit.CountNAT(key.Proto, key.Addr, key.Port, 1) == 1 {
				c.newServers = append(c.newServers, key)
			}
		})
	}
	if mode == lb.TUN && !s.tunnelled {
		s.tunnelled = true
		if c.edit.CountTunnel(s.config.Addr, 1) == 1 {
			c.newTunnels = append(c.newTunnels, s.config.Addr)
		}
	}
	if delete(c.changed, s); s.steered && s.config.Mode != lb.NAT || s.tunnelled && s.config.Mode != lb.TUN {
		c.changed[s] = c.step
	}
}

// unsteer takes back all that the server claims of the redirect program, but for what its mode needs.
func (c *change) unsteer(s *server, mode lb.Mode) error {
	var errs []error
	if s.steered && mode != lb.NAT {
		s.steered = false
		var unused []lb.Endpoint
		s.steerKeys(func(key lb.Endpoint) {
			if c.edit.CountNAT(key.Proto, key.Addr, key.Port, -1) == 0 {
				unused = append(unused, key)
			}
		})
		errs = append(errs, c.steer.RemoveServers(unused))
	}
	if s.tunnelled && mode != lb.TUN {
		s.tunnelled = false
		if c.edit.CountTunnel(s.config.Addr, -1) == 0 {
			errs = append(errs, c.steer.RemoveTunnel(s.config.Addr))
		}
	}
	return errors.Join(errs...)
}

// steerKeys yields from where the server's answers come: its port, or any where clients' ports are kept; all protocols for
// a mark's service.
func (s *server) steerKeys(yield func(lb.Endpoint)) {
	service, port := s.key.service, s.config.Port
	if service.Port == 0 {
		port = 0
	}
	if service.Mark == 0 {
		yield(lb.Endpoint{Proto: service.Proto, Addr: s.config.Addr, Port: port})
		return
	}
	for _, proto := range []lb.Proto{lb.TCP, lb.UDP, lb.SCTP} {
		yield(lb.Endpoint{Proto: proto, Addr: s.config.Addr, Port: port})
	}
}
