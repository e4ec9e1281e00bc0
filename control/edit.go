package control

import (
	"weir/lb"
)

// Edit applies a change of single services, and looks at no others: those that removed names are taken out, then those of set
// are added, or replace the service with their key. A key in both begins anew. The services of set must have passed Check.
// As with Apply, an error comes after the change took effect for workers.
func (s *Store) Edit(removed []lb.ServiceKey, set []lb.Service) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.begin()
	for _, key := range removed {
		if c.services[key] != nil {
			c.removeService(key)
		}
	}
	for _, config := range set {
		c.setService(config)
	}
	return c.publish()
}

// Unreachable returns the servers that packets cannot be sent to now, for want of a route or a neighbour's answer.
func (s *Store) Unreachable() (list []Unreachable) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, v := range s.services {
		for _, x := range v.servers {
			if path, local := s.paths.Path(x.config.Addr); path == nil && !local {
				list = append(list, Unreachable{key, x.config})
			}
		}
	}
	return list
}

// Unreachable is a server of a service that packets cannot be sent to.
type Unreachable struct {
	Service lb.ServiceKey
	Server  lb.Server
}
