package control

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"weir/lb"
)

// Connections is what still names a server.
type Connections struct {
	Active, Inactive, Persistent int // as listings show them; Persistent: templates

	// Named is how many entries of the connection table name the server, templates included. Only at 0 does removing it cost nobody
	// anything.
	Named int
}

var (
	// ErrNoServer: the service has no such server, or is not there.
	ErrNoServer = errors.New("no such server")
	// ErrWeight: somebody gave a server weight again while it was being drained.
	ErrWeight = errors.New("it has weight")
)

// Connections returns what names a server of a service now; false: there is no such server.
func (s *Store) Connections(key lb.ServiceKey, addr lb.Addr, port uint16) (Connections, bool) {
	c, _, ok := s.connections(key, addr, port)
	return c, ok
}

func (s *Store) connections(key lb.ServiceKey, addr lb.Addr, port uint16) (c Connections, weight int32, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	service := s.services[key]
	if service == nil {
		return c, 0, false
	}
	for _, v := range service.servers {
		if v.key.addr == addr && v.key.port == port {
			return Connections{
				Active: int(v.load.Active.Load()), Inactive: int(v.load.Inactive.Load()), Persistent: int(v.load.Persistent.Load()),
				Named: s.conns.Servers().Refs(v.id),
			}, v.config.Weight, true
		}
	}
	return c, 0, false
}

// drainPoll is how often AwaitIdle looks: connections end once a second.
const drainPoll = 100 * time.Millisecond

// AwaitIdle waits until no connection and no persistence template names a server of weight 0, so that it can be removed and nobody
// notices. The error wraps ErrNoServer or ErrWeight when somebody else changed the server meanwhile, which is then no longer the caller's to
// remove, or ctx's error when its time is up, and says what is left. Other changes of the configuration may go on all the while.
func (s *Store) AwaitIdle(ctx context.Context, key lb.ServiceKey, addr lb.Addr, port uint16) error {
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	name := func(err error) error {
		return fmt.Errorf("service %s: server %s: %w", key, netip.AddrPortFrom(addr.Netip(), port), err)
	}
	for {
		c, weight, ok := s.connections(key, addr, port)
		switch {
		case !ok:
			return name(ErrNoServer)
		case weight != 0:
			return name(ErrWeight)
		case c.Named == 0:
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return name(fmt.Errorf("%w, with %d active and %d inactive connections and %d persistence templates left",
				ctx.Err(), c.Active, c.Inactive, c.Persistent))
		}
	}
}
