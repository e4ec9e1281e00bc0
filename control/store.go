// Package control turns configuration into what workers read. A Store holds the services as they were configured, the IDs
// and loads of their servers, and the paths to them; every change becomes one new dataplane.Table and one publication.
//
//	store := control.NewStore(shared, conns, steer, paths, options)
//	err := store.Apply(services)     // the whole configuration; a difference is all that changes
//	store.PathChanged(addr)          // a route or a neighbour changed
//	store.Reap()                     // once a second: let go of what no connection names any more
//	store.Defend(log)                // once a second: IPVS's defences, when the connection table runs full
package control

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"weir/conntrack"
	"weir/dataplane"
	"weir/dataplane/forward"
	"weir/lb"
	"weir/sched"
)

// Steer is the redirect program's part of a change (bpf.Steer).
type Steer interface {
	AddServices([]lb.Endpoint) error
	RemoveServices([]lb.Endpoint) error
	AddServers([]lb.Endpoint) error
	RemoveServers([]lb.Endpoint) error
	AddTunnel(addr lb.Addr) error
	RemoveTunnel(addr lb.Addr) error
}

// Paths finds how servers are reached.
type Paths interface {
	// Watch follows the path to addr from now on, as often as it is called; Unwatch takes one call back.
	Watch(addr lb.Addr)
	Unwatch(addr lb.Addr)
	// Hold is Watch for many addresses, until the function that it returns is called: they are looked up together, which is faster.
	Hold(addrs []lb.Addr) (release func())
	// Path returns the way to addr as it is now: nil while there is none, local when addr is the director's own.
	Path(addr lb.Addr) (path *forward.Path, local bool)
	// Check says why a server at addr could never be reached; nil if it can, or may be once a route appears.
	Check(addr lb.Addr) error
}

// Options are the parts of the configuration that stay for the life of a Store.
type Options struct {
	Locals  []lb.Addr     // FULLNAT's local addresses
	Marks   []lb.MarkRule // which packets get which firewall mark
	Sysctls lb.Sysctls    // IPVS's settings; the zero value is not the default: lb.DefaultSysctls is
	// TunnelSources are blocks, one of each family at most, that TUN's outer headers take their source from, by the flow; none: the
	// address that the kernel would send from.
	TunnelSources []lb.Prefix
	ClampMSS      bool // lower the MSS of TCP's first packets to what fits the ways on both sides
}

// Store is safe for concurrent use.
type Store struct {
	mu     sync.Mutex
	shared *dataplane.Shared
	conns  *conntrack.Table
	steer  Steer
	paths  Paths
	opts   Options

	services map[lb.ServiceKey]*service
	// lingering are servers that no service lists any more and that connections still name. One that comes back is the
	// same server: it has its counts again at once (as IPVS's trash does, ip_vs_trash_get_dest).
	lingering map[serverKey]*server
	// byAddr are all servers, the lingering ones too, that a change of the path to an address concerns: the first, which links to the next.
	byAddr map[lb.Addr]*server
	// served counts who needs a key of the redirect program's map of services.
	served map[lb.Endpoint]int
	// retired are the keys of removed services, which the redirect program keeps until their last connection has ended.
	retired map[lb.ServiceKey][]lb.Endpoint
	// shrunk are services that have more keys than they want, and changed are servers with claims of a mode that they had, which their
	// connections may still need; by the step that made them so.
	shrunk  map[*service]uint64
	changed map[*server]uint64
	// estimated are the services by the part of Estimate that they are in, in turn as they come: opened counts them.
	estimated [EstimateParts]map[*service]struct{}
	opened    int
	// step counts changes.
	step uint64
	// defending says which of IPVS's defences were on when Defend looked last.
	defending [defences]bool
	serial    uint64
}

type serverKey struct {
	service lb.ServiceKey
	addr    lb.Addr
	port    uint16
}

type service struct {
	config   lb.Service
	picker   *dataplane.Picker
	servers  []*server // newest first, as IPVS walks them
	versions []dataplane.Version
	keys     []lb.Endpoint // its keys in the redirect program's map of services
	meter    meter
	part     int // of Estimate
	members  membership
}

type server struct {
	key     serverKey
	config  lb.Server
	id      lb.ServerID
	load    *lb.Load
	serial  uint64
	kept    int32         // its last weight that was not 0 (sched.Server.Kept)
	shown   *sched.Server // what schedulers see of it
	steered bool          // its key is in the redirect program's map of NAT servers
	// tunnelled: its address is in the one of TUN servers.
	tunnelled bool
	removed   uint64 // the step that removed it

	before, next *server // of those with this address

	owner   *service          // whose traffic it counts for
	entered dataplane.Traffic // the workers' count when it became that service's
	meter   meter
}

// NewStore returns an empty Store that publishes to shared.
func NewStore(shared *dataplane.Shared, conns *conntrack.Table, steer Steer, paths Paths, o Options) *Store {
	edit := shared.Table().Edit()
	edit.SetMarks(o.Marks)
	edit.SetSysctls(o.Sysctls)
	edit.SetTunnelSources(o.TunnelSources)
	edit.SetClampMSS(o.ClampMSS)
	shared.Publish(edit.Table())
	s := &Store{
		shared: shared, conns: conns, steer: steer, paths: paths, opts: o,
		services:  map[lb.ServiceKey]*service{},
		lingering: map[serverKey]*server{},
		byAddr:    map[lb.Addr]*server{},
		served:    map[lb.Endpoint]int{},
		retired:   map[lb.ServiceKey][]lb.Endpoint{},
		shrunk:    map[*service]uint64{},
		changed:   map[*server]uint64{},
	}
	for i := range s.estimated {
		s.estimated[i] = map[*service]struct{}{}
	}
	return s
}

// Services returns the configuration in force, in no particular order.
func (s *Store) Services() []lb.Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]lb.Service, 0, len(s.services))
	for _, v := range s.services {
		list = append(list, v.config)
	}
	return list
}

// Check reports everything that keeps services from being served, one error each.
func (s *Store) Check(services []lb.Service) error {
	defer s.Hold(serverAddrs(services))()
	var errs []error
	seen := map[lb.ServiceKey]bool{}
	for _, c := range services {
		refuse := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("service %s: %w", c.Key, fmt.Errorf(format, args...)))
		}
		if seen[c.Key] {
			refuse("given twice")
		}
		seen[c.Key] = true
		switch {
		case c.Key.Mark != 0:
			if !slices.ContainsFunc(s.opts.Marks, func(r lb.MarkRule) bool { return r.Mark == c.Key.Mark && r.Dst.Addr.Is4() != c.Key.Is6 }) {
				refuse("no rule gives packets of its IP version this mark: --mark '%d PROTO DST[/LEN][:PORTS]'", c.Key.Mark)
			}
		case c.Key.Proto != lb.TCP && c.Key.Proto != lb.UDP && c.Key.Proto != lb.SCTP:
			refuse("the protocol must be TCP, UDP or SCTP")
		}
		if _, err := sched.New(c.Scheduler, c.SchedFlags); err != nil {
			refuse("%w", err)
		}
		for i := range c.Servers {
			if err := s.CheckServer(&c, &c.Servers[i]); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// CheckServer is Check for one server of a service whose other servers are known to be right.
func (s *Store) CheckServer(c *lb.Service, v *lb.Server) error {
	if err := s.checkServer(c, v); err != nil {
		return fmt.Errorf("service %s: server %s: %w", c.Key, v.Addr, err)
	}
	return nil
}

// Hold has the ways to the servers at addrs at hand until the function that it returns is called: many that are checked first and added then
// are looked up once, and together.
func (s *Store) Hold(addrs []lb.Addr) (release func()) { return s.paths.Hold(addrs) }

// serverAddrs returns the addresses of all servers of services.
func serverAddrs(services []lb.Service) (addrs []lb.Addr) {
	for i := range services {
		for j := range services[i].Servers {
			addrs = append(addrs, services[i].Servers[j].Addr)
		}
	}
	return addrs
}

func (s *Store) checkServer(c *lb.Service, v *lb.Server) error {
	switch {
	case c.OnePacket && v.Mode == lb.FULLNAT:
		return errors.New("one-packet scheduling (-o) keeps no connection, and FULLNAT (-F) needs one for its local port")
	case (v.Mode == lb.DR || v.Mode == lb.NAT) && v.Addr.Is4() == is6(c.Key):
		return fmt.Errorf("%s keeps a packet's IP version, and the service's is another one: only TUN (-i) and FULLNAT (-F) may change it", v.Mode)
	case v.Mode == lb.FULLNAT && !slices.ContainsFunc(s.opts.Locals, func(l lb.Addr) bool { return l.Is4() == v.Addr.Is4() }):
		return errors.New("FULLNAT (-F) needs a local address of the server's IP version: give --local-address")
	case (v.Mode == lb.NAT || v.Mode == lb.FULLNAT) && tiesFTP(c) && v.Port != c.Key.Port:
		return fmt.Errorf("a persistent FTP service (port %d) keeps its clients' ports: the server's must be %[1]d too", c.Key.Port)
	}
	return s.paths.Check(v.Addr)
}

// is6 reports whether a service's packets are IPv6.
func is6(k lb.ServiceKey) bool { return k.Is6 || k.Mark == 0 && !k.Addr.Is4() }

// ErrPartly marks an error that came after a change took effect: the redirect program or the table had no room for all of it.
var ErrPartly = errors.New("in force, but not all of it")

// Apply makes services the configuration: what is new is added, what is gone removed, what differs edited, and nothing else
// is touched. It is checked whole first: with an error that is not ErrPartly nothing has changed.
func (s *Store) Apply(services []lb.Service) error {
	defer s.Hold(serverAddrs(services))()
	if err := s.Check(services); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.begin()
	wanted := make(map[lb.ServiceKey]bool, len(services))
	for _, config := range services {
		wanted[config.Key] = true
	}
	for key := range s.services {
		if !wanted[key] {
			c.removeService(key)
		}
	}
	for _, config := range services {
		c.setService(config)
	}
	return c.publish()
}

// pathsAtOnce is how many addresses' ways get into the table together, some milliseconds' work: a router that has another MAC address may be the way to
// all servers, and other changes need not wait for a hundred thousand.
const pathsAtOnce = 1024

// PathChanged takes the current path to addrs into the table.
func (s *Store) PathChanged(addrs ...lb.Addr) error {
	var errs []error
	for some := range slices.Chunk(addrs, pathsAtOnce) {
		errs = append(errs, s.pathsChanged(some))
	}
	return errors.Join(errs...)
}

func (s *Store) pathsChanged(addrs []lb.Addr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.begin()
	for _, addr := range addrs {
		for v := s.byAddr[addr]; v != nil; v = v.next {
			c.compile(v)
		}
	}
	return c.publish()
}

// SetOwn tells workers which addresses are the host's own.
func (s *Store) SetOwn(addrs []lb.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.begin()
	c.edit.SetOwn(addrs)
	s.shared.Publish(c.edit.Table())
}

// SetIfaces tells workers what became of the director's interfaces (MAC address, MTU). Same interfaces, same order.
func (s *Store) SetIfaces(ifaces []dataplane.Iface) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.begin()
	c.edit.SetIfaces(ifaces)
	s.shared.Publish(c.edit.Table())
}
