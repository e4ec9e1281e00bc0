package control

import "errors"

// steerTunnel has errors about packets tunnelled to the server, its first claim on its address, redirected and understood.
func (c *change) steerTunnel(s *server) {
	if s.tunnelled {
		return
	}
	s.tunnelled = true
	addr := s.config.Addr
	if c.edit.CountTunnel(addr, 1) == 1 {
		c.after = append(c.after, func() error { return c.steer.AddTunnel(addr) })
	}
}

// unsteerTunnel takes the claim back.
func (c *change) unsteerTunnel(s *server) error {
	if !s.tunnelled {
		return nil
	}
	s.tunnelled = false
	if c.edit.CountTunnel(s.config.Addr, -1) == 0 {
		return c.steer.RemoveTunnel(s.config.Addr)
	}
	return nil
}

// unsteer takes back all that the server claims of the redirect program.
func (c *change) unsteer(s *server) error {
	return errors.Join(c.unsteerNAT(s), c.unsteerTunnel(s))
}
