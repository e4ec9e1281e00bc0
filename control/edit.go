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

// Unreachable returns the servers that packets cannot be sent to now, for want of a route or a neighbour's answer. It takes the Store's lock once a
// service, so that changes need not wait for it.
func (s *Store) Unreachable() (list []Unreachable) {
	for _, v := range s.all() {
		s.mu.Lock()
		if s.services[v.config.Key] == v { // not removed meanwhile
			for _, x := range v.servers {
				if path, local := s.paths.Path(x.config.Addr); path == nil && !local {
					list = append(list, Unreachable{v.config.Key, x.config})
				}
			}
		}
		s.mu.Unlock()
	}
	return list
}

// all returns the services of the moment, to be looked at under the lock one by one.
func (s *Store) all() []*service {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*service, 0, len(s.services))
	for _, v := range s.services {
		all = append(all, v)
	}
	return all
}

// Unreachable is a server of a service that packets cannot be sent to.
type Unreachable struct {
	Service lb.ServiceKey
	Server  lb.Server
}
