package control

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"weir/dataplane"
	"weir/lb"
	"weir/sched"
)

// change is one edit of the table under the Store's lock, with what the redirect program must learn once it is published:
// a key added before would send packets to workers that know nothing of them.
type change struct {
	*Store
	edit                    *dataplane.Edit
	newServices, newServers []lb.Endpoint
	newTunnels              []lb.Addr
	errs                    []error // of what could not be done
}

func (s *Store) begin() *change {
	s.step++
	return &change{Store: s, edit: s.shared.Table().Edit()}
}

// publish hands the new table to the workers and then the new keys to the redirect program.
func (c *change) publish() error {
	c.shared.Publish(c.edit.Table())
	errs := append(c.errs, c.steer.AddServices(c.newServices), c.steer.AddServers(c.newServers))
	for _, addr := range c.newTunnels {
		errs = append(errs, c.steer.AddTunnel(addr))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w: %w", ErrPartly, err)
	}
	return nil
}

func (c *change) removeService(key lb.ServiceKey) {
	keys := c.services[key].keys
	for _, v := range c.services[key].servers {
		c.removeServer(v)
	}
	delete(c.shrunk, c.services[key])
	delete(c.estimated[c.services[key].part], c.services[key])
	delete(c.services, key)
	c.edit.RemoveService(key)
	c.retired[key] = keys
}

func (c *change) setService(config lb.Service) {
	old := c.services[config.Key]
	v := old
	if v == nil {
		v = &service{keys: c.retired[config.Key], part: c.opened % EstimateParts}
		c.estimated[v.part][v] = struct{}{}
		c.opened++
		c.services[config.Key] = v
		delete(c.retired, config.Key)
	}
	sameScheduler := old != nil && v.config.Scheduler == config.Scheduler && slices.Equal(v.config.SchedFlags, config.SchedFlags)
	if !sameScheduler {
		s, err := sched.New(config.Scheduler, config.SchedFlags)
		if err != nil {
			panic(fmt.Sprintf("control: %s: Check let a bad scheduler pass: %v", config.Key, err))
		}
		v.picker, v.versions = dataplane.NewPicker(s), nil
		// To a scheduler, a new service begins empty and a changed one with the servers it has (sched.Scheduler.Update).
		v.append(v.list())
	}
	persistChanged := (v.config.Persist != 0) != (config.Persist != 0)
	v.config = config
	c.steerService(v)
	if persistChanged {
		for _, s := range v.servers {
			c.compile(s) // for mappedPort
		}
	}
	if c.setServers(v) {
		v.append(v.list())
	}
	c.compileService(v)
}

// compileService puts the service into the table as it is now.
func (c *change) compileService(v *service) {
	config := &v.config
	c.edit.SetService(&dataplane.Service{
		Key: config.Key, Persist: uint32(config.Persist / time.Second), PersistLen: persistLen(*config), OnePacket: config.OnePacket,
		Picker: v.picker, Versions: v.versions,
	})
}

// persistLen returns the prefix length that clients of the service are grouped by.
func persistLen(c lb.Service) int {
	if c.PersistLen != 0 {
		return c.PersistLen
	}
	if is6(c.Key) {
		return 128
	}
	return 32
}

// append makes l the service's current list, with what its scheduler wants built beside the workers.
func (v *service) append(l *sched.List) {
	v.picker.Prepare(l)
	v.versions = dataplane.AppendVersion(v.versions, l)
}

// setServers brings the service's servers in line with its configuration. It reports whether the scheduler's list changed.
func (c *change) setServers(v *service) (changed bool) {
	there := make(map[serverKey]bool, len(v.servers))
	kept := v.servers
	if len(kept) > 0 {
		kept, changed = c.keepServers(v, there)
	}
	var added []*server
	if len(v.servers) == 0 { // all are new
		added = make([]*server, 0, len(v.config.Servers))
	}
	for _, config := range v.config.Servers {
		key := serverKey{v.config.Key, config.Addr, config.Port}
		if there[key] {
			continue
		}
		s, err := c.addServer(key, config)
		if err != nil {
			c.errs = append(c.errs, fmt.Errorf("server %s of %s: %w", config.Addr, key.service, err))
			continue
		}
		added = append(added, s)
	}
	if len(added) > 0 {
		slices.Reverse(added) // newest first
		kept, changed = append(added, kept...), true
	}
	v.servers = kept
	return changed
}

// keepServers removes and edits those that the service has, and returns those that stay, with a note in there for each.
func (c *change) keepServers(v *service, there map[serverKey]bool) (kept []*server, changed bool) {
	wanted := make(map[serverKey]lb.Server, len(v.config.Servers))
	for _, s := range v.config.Servers {
		wanted[serverKey{v.config.Key, s.Addr, s.Port}] = s
	}
	kept = make([]*server, 0, len(wanted))
	for _, s := range v.servers {
		config, ok := wanted[s.key]
		if !ok {
			c.removeServer(s)
			changed = true
			continue
		}
		there[s.key] = true
		kept = append(kept, s)
		if config != s.config {
			s.config = config
			s.show()
			c.compile(s)
			changed = true
		}
	}
	return kept, changed
}

// addServer makes a server, or has one back that was removed and still has connections. The error: no more can be named.
func (c *change) addServer(key serverKey, config lb.Server) (*server, error) {
	s := c.lingering[key]
	if s != nil {
		delete(c.lingering, key)
		c.conns.Servers().Revive(s.id)
	} else {
		id, load, err := c.conns.Servers().Acquire(config.Addr)
		if err != nil {
			return nil, err
		}
		c.shared.Meter(id)
		s = &server{key: key, id: id, load: load}
		c.paths.Watch(config.Addr)
		c.link(s)
	}
	c.serial++
	s.serial, s.config, s.kept = c.serial, config, 0
	c.services[key.service].enter(s, c.shared.Traffic(s.id))
	s.show()
	c.compile(s)
	return s, nil
}

// link notes that the way to its address is the server's; s.key is set.
func (s *Store) link(v *server) {
	v.next = s.byAddr[v.key.addr]
	if v.next != nil {
		v.next.before = v
	}
	s.byAddr[v.key.addr] = v
}

// unlink undoes link.
func (s *Store) unlink(v *server) {
	switch {
	case v.before != nil:
		v.before.next = v.next
	case v.next != nil:
		s.byAddr[v.key.addr] = v.next
	default:
		delete(s.byAddr, v.key.addr)
	}
	if v.next != nil {
		v.next.before = v.before
	}
	v.before, v.next = nil, nil
}

// removeServer keeps the server, unlisted, until no connection names it: Reap finds out.
func (c *change) removeServer(s *server) {
	c.lingering[s.key] = s
	s.removed = c.step
	s.owner.leave(s)
	c.compile(s)
	switch c.opts.Sysctls.ExpireNodestConn {
	case lb.NodestUDP:
		c.conns.Servers().Expel(s.id, lb.UDP)
	case lb.NodestAll:
		c.conns.Servers().Expel(s.id, 0)
	}
}

// compile puts the server into the table as it is now.
func (c *change) compile(s *server) {
	s.load.SetThresholds(s.config.Upper, s.config.Lower)
	path, local := c.paths.Path(s.config.Addr)
	mode := s.config.Mode
	if local {
		mode = lb.Local
	}
	c.steerServer(s, mode)
	c.edit.SetServer(&dataplane.Server{
		ID: s.id, Mode: mode, Addr: s.config.Addr, Port: c.mappedPort(s), Load: s.load, Tunnel: s.config.Tunnel, Weight: s.config.Weight, Path: path,
		Removed: c.lingering[s.key] == s,
	})
}

// mappedPort returns the port that a client's is changed to, 0 for none. A persistent service that covers many ports keeps them,
// whatever its server's says (ip_vs_core.c, ip_vs_sched_persist).
func (c *change) mappedPort(s *server) uint16 {
	v := c.services[s.key.service]
	if v != nil && v.config.Persist != 0 && (s.key.service.Port == 0 || tiesFTP(&v.config)) {
		return 0
	}
	return s.config.Port
}

// tiesFTP reports whether a client's other connections to the service's address may be data connections of its FTP session.
func tiesFTP(c *lb.Service) bool {
	return c.Persist != 0 && c.Key.Mark == 0 && c.Key.Proto == lb.TCP && c.Key.Port == dataplane.FTPControl
}

// list returns the scheduler's view of the service's servers. Servers that did not change are the same pointers as before.
func (v *service) list() *sched.List {
	l := &sched.List{Servers: make([]*sched.Server, len(v.servers))}
	for i, s := range v.servers {
		l.Servers[i] = s.shown
	}
	return l
}

// show makes the scheduler's view of the server anew, after an edit.
func (s *server) show() {
	if s.config.Weight != 0 {
		s.kept = s.config.Weight
	}
	s.shown = &sched.Server{
		ID: s.id, Serial: s.serial, Addr: s.config.Addr, Port: s.config.Port, Weight: s.config.Weight, Kept: s.kept, Load: s.load,
	}
}
