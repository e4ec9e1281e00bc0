package control

import (
	"slices"

	"weir/lb"
)

// Touch is an edit of a server that changes nothing, ipvsadm's -e with the values it has: to some schedulers that is an event all the
// same (wrr begins its round anew). Apply is none for what stays as it was: reading one file twice disturbs nothing. False: there
// is no such server.
func (s *Store) Touch(key lb.ServiceKey, addr lb.Addr, port uint16) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.services[key]
	if v == nil {
		return false
	}
	i := slices.IndexFunc(v.servers, func(x *server) bool { return x.key.addr == addr && x.key.port == port })
	if i < 0 {
		return false
	}
	v.servers[i].show()
	v.append(v.list())
	c := s.begin()
	c.compileService(v)
	s.shared.Publish(c.edit.Table())
	return true
}
