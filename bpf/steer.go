// Package bpf holds weir's programs in the kernel and their loaders. steer sits on every interface weir serves and redirects to
// AF_XDP sockets what is weir's; the rest of the traffic goes on to the kernel, untouched and not delayed.
//
//	s, err := bpf.Load(bpf.Options{})
//	a, err := s.Attach(ifindex, queues, mac, bpf.Auto)
//	a.SetSocket(queue, fd)                      // for each queue
//	s.AddService(lb.TCP, vip, 80)               // after the table that serves it was published
//	...
//	s.RemoveService(lb.TCP, vip, 80)            // before the table forgets it
//	s.Close()
//
// All maps are matched exactly. Everything lives as long as this process holds it: the programs are attached by links
// (include/uapi/linux/bpf.h, BPF_LINK_CREATE), which the kernel takes down with the last file descriptor, kill -9 included.
//
// Memory for maps is charged to the cgroup since Linux 5.11, so RLIMIT_MEMLOCK is left alone.
package bpf

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"weir/lb"
)

// Options gives the sizes of steer's maps. Memory is taken as entries are added (about 100 bytes each), but for 16 bytes per
// entry at load.
type Options struct {
	MaxServices int // services (protocol, address, port); default 65,536
	MaxLocals   int // local addresses; default 4,096
	MaxServers  int // NAT servers (protocol, address, port), and TUN servers; default 65,536
	MaxOwn      int // the host's own addresses; default 4,096
	MaxPrefixes int // prefixes of firewall marks; default 4,096
}

// Steer is the maps that the programs of all interfaces share, and the attachments. Its methods may be called at any time from
// any goroutine. Adding what is there, and removing what is not, is no error.
type Steer struct {
	spec     *ebpf.CollectionSpec
	shared   map[string]*ebpf.Map // immutable after Load
	names    []string             // of the counters, by verdict
	secret   uint64               // see steer.h, struct reentry
	injector *injector

	mu       sync.Mutex
	own      map[lb.Addr]bool
	prefixes map[lb.Prefix]map[portRule]bool
	services endpoints
	servers  endpoints
	attached map[*Attachment]bool
	closed   bool
}

// Counter is one of steer's verdicts with how many frames got it, on all interfaces.
type Counter struct {
	Name  string // pass_... or redirect_..., after enum verdict in steer.c
	Value uint64
}

// Load creates the maps. ErrPrivilege says that the process may not.
func Load(o Options) (*Steer, error) {
	spec, err := loadSteer()
	if err != nil {
		return nil, err
	}
	s := &Steer{spec: spec, shared: map[string]*ebpf.Map{}, own: map[lb.Addr]bool{}, attached: map[*Attachment]bool{},
		prefixes: map[lb.Prefix]map[portRule]bool{},
		services: newEndpoints(steerMapServices, "services", steerMapServiceAddresses),
		servers:  newEndpoints(steerMapNatServers, "NAT servers", steerMapServerAddresses)}
	if s.names, err = verdictNames(spec); err != nil {
		return nil, err
	}
	var b [8]byte
	rand.Read(b[:])
	s.secret = binary.NativeEndian.Uint64(b[:])

	spec.Maps[steerMapServices].MaxEntries = size(o.MaxServices, 1<<16)
	spec.Maps[steerMapLocals].MaxEntries = size(o.MaxLocals, 1<<12)
	spec.Maps[steerMapNatServers].MaxEntries = size(o.MaxServers, 1<<16)
	spec.Maps[steerMapOwnAddresses].MaxEntries = size(o.MaxOwn, 1<<12)
	spec.Maps[steerMapPrefixes].MaxEntries = size(o.MaxPrefixes, 1<<12)
	spec.Maps[steerMapServiceAddresses].MaxEntries = size(o.MaxServices, 1<<16)
	spec.Maps[steerMapServerAddresses].MaxEntries = size(o.MaxServers, 1<<16)
	spec.Maps[steerMapTunnels].MaxEntries = size(o.MaxServers, 1<<16)
	for _, name := range []string{
		steerMapServices, steerMapLocals, steerMapNatServers, steerMapOwnAddresses, steerMapPrefixes,
		steerMapServiceAddresses, steerMapServerAddresses, steerMapTunnels, steerMapCounters, steerMapInjector,
	} {
		m, err := ebpf.NewMap(spec.Maps[name])
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("create map %s: %w", name, explain(err))
		}
		s.shared[name] = m
	}
	if s.injector, err = newInjector(s.secret); err != nil {
		s.Close()
		return nil, err
	}
	if err := s.shared[steerMapInjector].Put(uint32(0), s.injector.objects.Inject); err != nil {
		s.Close()
		return nil, fmt.Errorf("steer: call inject: %w", explain(err))
	}
	return s, nil
}

func size(n int, byDefault uint32) uint32 {
	if n <= 0 {
		return byDefault
	}
	return uint32(n)
}

// verdictNames reads the counters' names from the type information that the compiler left in the object.
func verdictNames(spec *ebpf.CollectionSpec) ([]string, error) {
	var enum *btf.Enum
	if err := spec.Types.TypeByName("verdict", &enum); err != nil {
		return nil, fmt.Errorf("counters' names: %w", err)
	}
	names := make([]string, steerVerdictVERDICTS)
	for _, v := range enum.Values {
		if v.Value < uint64(len(names)) {
			names[v.Value] = strings.ToLower(v.Name)
		}
	}
	return names, nil
}

// Close detaches from all interfaces and lets go of the maps. It may be called twice.
func (s *Steer) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	attached := s.attached
	s.attached, s.closed = nil, true
	s.mu.Unlock()

	var errs []error
	for a := range attached {
		errs = append(errs, a.Close())
	}
	for _, m := range s.shared {
		errs = append(errs, m.Close())
	}
	if s.injector != nil {
		errs = append(errs, s.injector.Close())
	}
	return errors.Join(errs...)
}

// AddServices redirects what is sent to each address and port of list; port 0 is any port. Fragments to the addresses are redirected whatever
// their port, and ICMP errors about answers from there. With ErrFull, those in front that there was room for are in.
func (s *Steer) AddServices(list []lb.Endpoint) error { return s.addEndpoints(&s.services, list) }

// RemoveServices undoes AddServices.
func (s *Steer) RemoveServices(list []lb.Endpoint) error { return s.removeEndpoints(&s.services, list) }

// AddServers redirects what comes from each NAT server's address and port and is not sent to one of the host's own addresses; port 0
// is any port. So are fragments from the addresses, and ICMP errors about what was sent to them there. ErrFull is as for AddServices.
func (s *Steer) AddServers(list []lb.Endpoint) error { return s.addEndpoints(&s.servers, list) }

// RemoveServers undoes AddServers.
func (s *Steer) RemoveServers(list []lb.Endpoint) error { return s.removeEndpoints(&s.servers, list) }

// AddService is AddServices for one.
func (s *Steer) AddService(proto lb.Proto, addr lb.Addr, port uint16) error {
	return s.AddServices([]lb.Endpoint{{Proto: proto, Addr: addr, Port: port}})
}

// RemoveService undoes AddService.
func (s *Steer) RemoveService(proto lb.Proto, addr lb.Addr, port uint16) error {
	return s.RemoveServices([]lb.Endpoint{{Proto: proto, Addr: addr, Port: port}})
}

// AddServer is AddServers for one.
func (s *Steer) AddServer(proto lb.Proto, addr lb.Addr, port uint16) error {
	return s.AddServers([]lb.Endpoint{{Proto: proto, Addr: addr, Port: port}})
}

// RemoveServer undoes AddServer.
func (s *Steer) RemoveServer(proto lb.Proto, addr lb.Addr, port uint16) error {
	return s.RemoveServers([]lb.Endpoint{{Proto: proto, Addr: addr, Port: port}})
}

// AddLocal redirects TCP, UDP and SCTP sent to addr with a port from lo to hi, both included. A second call for the same address
// changes the range.
func (s *Steer) AddLocal(addr lb.Addr, lo, hi uint16) error {
	if lo > hi {
		return fmt.Errorf("local address %s: ports %d-%d: the first is greater than the last", addr, lo, hi)
	}
	return s.add(steerMapLocals, "local addresses", address(addr), steerPortRange{Lo: lo, Hi: hi})
}

// RemoveLocal undoes AddLocal.
func (s *Steer) RemoveLocal(addr lb.Addr) error {
	return s.remove(steerMapLocals, "local addresses", address(addr))
}

// SetOwn makes addrs the host's own addresses: what NAT servers send to them is the host's, not weir's. It adds before it
// removes, so an address that stays is never missing.
func (s *Steer) SetOwn(addrs []lb.Addr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	want := make(map[lb.Addr]bool, len(addrs))
	for _, a := range addrs {
		want[a] = true
		if s.own[a] {
			continue
		}
		if err := s.add(steerMapOwnAddresses, "own addresses", address(a), uint8(1)); err != nil {
			return err
		}
		s.own[a] = true
	}
	for a := range s.own {
		if want[a] {
			continue
		}
		if err := s.remove(steerMapOwnAddresses, "own addresses", address(a)); err != nil {
			return err
		}
		delete(s.own, a)
	}
	return nil
}

// Counters returns every verdict's count since Load, in a fixed order.
func (s *Steer) Counters() ([]Counter, error) {
	counters := make([]Counter, len(s.names))
	var perCPU []uint64
	for v, name := range s.names {
		if err := s.shared[steerMapCounters].Lookup(uint32(v), &perCPU); err != nil {
			return nil, fmt.Errorf("read steer's counter %s: %w", name, err)
		}
		counters[v].Name = name
		for _, n := range perCPU {
			counters[v].Value += n
		}
	}
	return counters, nil
}

func (s *Steer) add(name, what string, key, value any) error {
	m := s.shared[name]
	err := m.Put(key, value)
	if isFull(err) {
		return fmt.Errorf("steer's %s: %w: it holds %d", what, ErrFull, m.MaxEntries())
	}
	if err != nil {
		return fmt.Errorf("steer's %s: add: %w", what, explain(err))
	}
	return nil
}

func (s *Steer) remove(name, what string, key any) error {
	if err := s.shared[name].Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("steer's %s: remove: %w", what, explain(err))
	}
	return nil
}

func address(a lb.Addr) steerAddress { return steerAddress{Byte: a.As16()} }

// endpoint holds the port in network order; the objects are built for little-endian machines only.
func endpoint(e lb.Endpoint) steerEndpoint {
	return steerEndpoint{Addr: address(e.Addr), Port: bits.ReverseBytes16(e.Port), Proto: uint8(e.Proto)}
}
