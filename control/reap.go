package control

import (
	"context"
	"errors"
	"slices"
	"time"

	"weir/lb"
)

// reapPatience bounds how long Reap waits for workers; a turn takes a fraction of a millisecond.
const reapPatience = 100 * time.Millisecond

// Reap lets go of servers, and of the redirect program's keys, that no connection needs any more. Call it about once a second.
func (s *Store) Reap() error {
	s.mu.Lock()
	idle := len(s.lingering)+len(s.retired)+len(s.shrunk)+len(s.changed) == 0
	settled := s.step
	s.mu.Unlock()
	if idle {
		return nil
	}
	// A worker that is in a turn with an older table may give a server another connection, whose table had it listed or in another mode. Past
	// this, none has a table of before the step noted above.
	ctx, cancel := context.WithTimeout(context.Background(), reapPatience)
	defer cancel()
	if s.shared.Settle(ctx) != nil {
		return nil // next time
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.begin()
	var errs []error
	named := map[lb.ServiceKey]bool{} // removed services whose connections live
	for key, v := range s.lingering {
		if v.removed > settled || s.conns.Servers().Refs(v.id) > 0 {
			named[key.service] = true
			continue
		}
		errs = append(errs, c.forget(key, v))
	}
	for key, keys := range s.retired {
		if !named[key] {
			delete(s.retired, key)
			errs = append(errs, s.unserve(keys))
		}
	}
	for v, step := range s.changed {
		if step <= settled && s.conns.Servers().Refs(v.id) == 0 {
			delete(s.changed, v)
			errs = append(errs, c.unsteer(v, v.config.Mode))
		}
	}
	for v, step := range s.shrunk {
		if step <= settled && !named[v.config.Key] && !s.named(v) {
			delete(s.shrunk, v)
			wanted := v.wantedKeys()
			surplus := slices.DeleteFunc(slices.Clone(v.keys), func(k lb.Endpoint) bool { return slices.Contains(wanted, k) })
			v.keys = wanted
			errs = append(errs, s.unserve(surplus))
		}
	}
	s.shared.Publish(c.edit.Table())
	return errors.Join(errs...)
}

// forget lets go of a removed server that nothing names.
func (c *change) forget(key serverKey, v *server) error {
	delete(c.lingering, key)
	delete(c.changed, v)
	c.edit.RemoveServer(v.id)
	v.owner.forget(v, c.shared.Traffic(v.id))
	err := c.unsteer(v, 0)
	c.conns.Servers().Release(v.id)
	c.paths.Unwatch(key.addr)
	c.unlink(v)
	return err
}

// named reports whether a connection names a server that the service lists.
func (s *Store) named(v *service) bool {
	return slices.ContainsFunc(v.servers, func(x *server) bool { return s.conns.Servers().Refs(x.id) > 0 })
}
