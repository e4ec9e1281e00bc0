package ipvsadm

import (
	"cmp"
	"fmt"
	"slices"

	"weir/lb"
)

// Rules are the services and servers that commands have built up, and the timeouts. The zero value is empty and ready to use.
// Not safe for concurrent use; clones are independent of each other.
type Rules struct {
	list  []*service // in the order they were added
	byKey map[lb.ServiceKey]*service
	set   Timeouts // 0: the default
	owner *byte    // whose address a service carries that may be changed in place
}

// service is changed in place only by the Rules that own it; clones share it until one of them changes it.
type service struct {
	Service
	owner *byte
}

// Clone returns a copy. It costs one pointer and one map entry a service; services are copied when one of the two changes them.
func (r *Rules) Clone() *Rules {
	r.owner = nil // from here on neither may change what both have
	n := &Rules{list: slices.Clone(r.list), byKey: make(map[lb.ServiceKey]*service, len(r.list)), set: r.set}
	for _, s := range r.list {
		n.byKey[s.Key] = s
	}
	return n
}

// Len returns the number of services.
func (r *Rules) Len() int { return len(r.list) }

// Timeouts returns what --set has set, and the defaults for the rest.
func (r *Rules) Timeouts() Timeouts {
	t := DefaultTimeouts
	t.update(r.set)
	return t
}

func (t *Timeouts) update(by Timeouts) {
	t.TCP, t.TCPFin, t.UDP = cmp.Or(by.TCP, t.TCP), cmp.Or(by.TCPFin, t.TCPFin), cmp.Or(by.UDP, t.UDP)
}

// Services returns the services in the order they were added, their servers likewise. The caller may keep the result, but not
// change it.
func (r *Rules) Services() []lb.Service {
	r.owner = nil // the servers' slices are the caller's too now
	all := make([]lb.Service, len(r.list))
	for i, s := range r.list {
		all[i] = s.Service.Service
	}
	return all
}

// Listing returns the rules in the form List and Save print, all counters at nothing. The same holds for it as for Services.
func (r *Rules) Listing() Listing {
	r.owner = nil
	l := Listing{Timeouts: r.Timeouts(), Services: make([]ListedService, len(r.list))}
	for i, s := range r.list {
		l.Services[i].Service = s.Service
	}
	return l
}

// schedulers are those of Linux 6.1, and maglev, which is weir's.
var schedulers = []string{"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq", "fo", "ovf", "twos", "maglev"}

// Apply does to the rules what the kernel does to its table, or changes nothing and returns an *Error with the kernel's reason
// as ipvsadm prints it, or the reason why weir cannot do it (Unsupported). -Z changes no rule and says only whether the service
// is there. One change needs no Clone. A server goes to the end of its service's list, also one that was removed before. -e and -E replace all: what the
// command did not say goes back to its default.
func (r *Rules) Apply(c Command) error {
	if err := c.Unsupported(); err != nil {
		return err
	}
	return r.apply(c)
}

// Check returns the error that Apply would, and changes nothing.
func (r *Rules) Check(c Command) error {
	if err := c.Unsupported(); err != nil {
		return err
	}
	return r.check(c)
}

// check is Check for everything that ipvsadm can do.
func (r *Rules) check(c Command) error {
	s := r.byKey[c.Service.Key]
	switch c.Op {
	case OpAddService:
		if s != nil {
			return refuse(c, "Service already exists", "")
		}
		return checkModules(c)
	case OpEditService:
		if s == nil {
			return refuse(c, "No such service", "")
		}
		return checkModules(c)
	case OpDeleteService:
		if s == nil {
			return refuse(c, "No such service", "")
		}
	case OpAddServer, OpEditServer, OpDeleteServer:
		if s == nil {
			return refuse(c, "Service not defined", "")
		}
		return checkServer(c, s)
	case OpFlush, OpSetTimeouts:
	case OpZero:
		if c.HasService && s == nil {
			return refuse(c, "No such service", "")
		}
	default:
		return c.notRule()
	}
	return nil
}

// checkServer is for -a, -e and -d: the kernel's checks in the kernel's order (ip_vs_ctl.c: ip_vs_add_dest, ip_vs_edit_dest).
func checkServer(c Command, s *service) error {
	if c.Op != OpDeleteServer && c.Server.Lower > c.Server.Upper {
		return refuse(c, "Numerical result out of range",
			fmt.Sprintf("-y %d is above -x %d; -y must be at most -x, and 0 without it", c.Server.Lower, c.Server.Upper))
	}
	there := s.index(c.Server) >= 0
	switch {
	case c.Op == OpAddServer && there:
		return refuse(c, "Destination already exists", "the server exists already; -e changes it")
	case c.Op == OpAddServer && !isUnicast(c.Server.Addr):
		return refuse(c, "Invalid operation.  Possibly wrong module version, address not unicast, ...",
			"-r must be a unicast address, and not an IPv6 link-local one")
	case c.Op != OpAddServer && !there:
		return refuse(c, "No such destination", "the service has no such server (-m and -F servers have their own port, others the service's)")
	}
	return nil
}

// index returns the place of a server with the address and port of v, -1 if there is none.
func (s *service) index(v lb.Server) int {
	return slices.IndexFunc(s.Servers, func(x lb.Server) bool { return x.Addr == v.Addr && x.Port == v.Port })
}

// apply is Apply for everything that ipvsadm can do.
func (r *Rules) apply(c Command) error {
	if err := r.check(c); err != nil {
		return err
	}
	s := r.byKey[c.Service.Key]
	switch c.Op {
	case OpAddService:
		r.add(c.Service)
	case OpEditService:
		s = r.own(s)
		servers := s.Servers
		s.Service = c.Service
		s.Servers = servers
	case OpDeleteService:
		delete(r.byKey, s.Key)
		i := slices.Index(r.list, s)
		r.list = slices.Delete(r.list, i, i+1)
	case OpFlush:
		r.list, r.byKey = nil, nil
	case OpAddServer:
		s = r.own(s)
		s.Servers = append(s.Servers, c.Server)
	case OpEditServer:
		s = r.own(s)
		s.Servers[s.index(c.Server)] = c.Server
	case OpDeleteServer:
		s = r.own(s)
		i := s.index(c.Server)
		s.Servers = slices.Delete(s.Servers, i, i+1)
	case OpSetTimeouts:
		r.set.update(c.Timeouts)
	}
	return nil
}

// Service returns one service with its servers, which are the caller's own; false if there is none.
func (r *Rules) Service(key lb.ServiceKey) (Service, bool) {
	s := r.byKey[key]
	if s == nil {
		return Service{}, false
	}
	c := s.Service
	c.Servers = slices.Clone(s.Servers)
	return c, true
}

// Peek is Service without the copy: the servers are the rules' own, to be looked at until the next change.
func (r *Rules) Peek(key lb.ServiceKey) (*Service, bool) {
	s := r.byKey[key]
	if s == nil {
		return &Service{}, false
	}
	return &s.Service, true
}

func (r *Rules) add(svc Service) {
	if r.byKey == nil {
		r.byKey = map[lb.ServiceKey]*service{}
	}
	s := &service{Service: svc, owner: r.ownerID()}
	r.list = append(r.list, s)
	r.byKey[svc.Key] = s
}

// own returns s, or a copy that has taken its place, to be changed.
func (r *Rules) own(s *service) *service {
	if s.owner == r.ownerID() {
		return s
	}
	c := &service{Service: s.Service, owner: r.owner}
	c.Servers = slices.Clone(s.Servers)
	r.list[slices.Index(r.list, s)] = c
	r.byKey[c.Key] = c
	return c
}

func (r *Rules) ownerID() *byte {
	if r.owner == nil {
		r.owner = new(byte)
	}
	return r.owner
}

// checkModules is what the kernel says when it finds no module for a scheduler or an engine.
func checkModules(c Command) error {
	detail := ""
	switch svc := c.Service; {
	case !slices.Contains(schedulers, svc.Scheduler):
		detail = fmt.Sprintf("-s %q: no such scheduler; must be one of %v", svc.Scheduler, schedulers)
	case svc.Engine != "" && svc.Engine != "sip":
		detail = fmt.Sprintf("--pe %q: no such persistence engine", svc.Engine)
	default:
		return nil
	}
	return refuse(c, "Scheduler or persistence engine not found", detail)
}

// refuse is an error of the kernel as ipvsadm prints it.
func refuse(c Command, text, detail string) error {
	if detail == "" {
		detail = text
	}
	return &Error{Status: 255, Text: text, Where: c.Source, Detail: c.String() + ": " + detail}
}

// isUnicast tells which addresses the kernel takes for a server (ip_vs_new_dest): inet_addr_type makes 0.0.0.0 and
// 255.255.255.255 broadcast; IPv6 link-local ones are only taken when they are the host's own, which weir does not ask.
func isUnicast(a lb.Addr) bool {
	ip := a.Netip()
	return !ip.IsUnspecified() && !ip.IsMulticast() && !ip.IsLinkLocalUnicast() && (!ip.Is4() || a.V4() != 0xffffffff) ||
		ip.Is4() && ip.IsLinkLocalUnicast()
}
