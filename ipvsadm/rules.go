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
	list  []*service // in the order they were added, nil where one was deleted
	holes int        // in list
	byKey map[lb.ServiceKey]*service
	set   Timeouts // 0: the default
	owner *byte    // whose address a service carries that may be changed in place

	trying bool
	undo   []func() // what Rollback does, last first
}

// service is changed in place only by the Rules that own it; clones share it until one of them changes it.
type service struct {
	Service
	owner *byte
	place int // in list: the same in all Rules that share it
}

// Clone returns a copy. It costs one pointer a service until it is changed; services are copied when one of the two changes them.
func (r *Rules) Clone() *Rules {
	r.owner = nil // from here on neither may change what both have
	return &Rules{list: slices.Clone(r.list), holes: r.holes, set: r.set}
}

// Begin starts a change that Rollback takes back whole and Commit keeps. It costs what it changes, however many rules there are. No Clone may be
// taken meanwhile.
func (r *Rules) Begin() {
	r.owner, r.trying = nil, true // what is changed first is copied first
}

// Commit ends what Begin began: it stays.
func (r *Rules) Commit() {
	r.trying, r.undo = false, nil
	r.close()
}

// Rollback ends what Begin began: the rules are as they were.
func (r *Rules) Rollback() {
	for _, f := range slices.Backward(r.undo) {
		f()
	}
	r.owner, r.trying, r.undo = nil, false, nil
}

// note has Rollback call f, if one may come.
func (r *Rules) note(f func()) {
	if r.trying {
		r.undo = append(r.undo, f)
	}
}

// Len returns the number of services.
func (r *Rules) Len() int { return len(r.list) - r.holes }

// all yields the services in the order they were added.
func (r *Rules) all(yield func(*service) bool) {
	for _, s := range r.list {
		if s != nil && !yield(s) {
			return
		}
	}
}

// index returns the services by their keys. A clone that nobody looks into, as one is that is written to a file, needs none.
func (r *Rules) index() map[lb.ServiceKey]*service {
	if r.byKey == nil {
		r.byKey = make(map[lb.ServiceKey]*service, r.Len())
		for s := range r.all {
			r.byKey[s.Key] = s
		}
	}
	return r.byKey
}

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
	all := make([]lb.Service, 0, r.Len())
	for s := range r.all {
		all = append(all, s.Service.Service)
	}
	return all
}

// Listing returns the rules in the form List and Save print, all counters at nothing. The same holds for it as for Services.
func (r *Rules) Listing() Listing {
	r.owner = nil
	l := Listing{Timeouts: r.Timeouts(), Services: make([]ListedService, 0, r.Len())}
	for s := range r.all {
		l.Services = append(l.Services, ListedService{Service: s.Service})
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
	s := r.index()[c.Service.Key]
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
	s := r.index()[c.Service.Key]
	switch c.Op {
	case OpAddService:
		r.add(c.Service)
	case OpEditService:
		s = r.own(s)
		servers := s.Servers
		s.Service = c.Service
		s.Servers = servers
	case OpDeleteService:
		r.remove(s)
	case OpFlush:
		list, holes, byKey := r.list, r.holes, r.byKey
		r.note(func() { r.list, r.holes, r.byKey = list, holes, byKey })
		r.list, r.holes, r.byKey = nil, 0, nil
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
		before := r.set
		r.note(func() { r.set = before })
		r.set.update(c.Timeouts)
	}
	return nil
}

// Service returns one service with its servers, which are the caller's own; false if there is none.
func (r *Rules) Service(key lb.ServiceKey) (Service, bool) {
	s := r.index()[key]
	if s == nil {
		return Service{}, false
	}
	c := s.Service
	c.Servers = slices.Clone(s.Servers)
	return c, true
}

// Peek is Service without the copy: the servers are the rules' own, to be looked at until the next change.
func (r *Rules) Peek(key lb.ServiceKey) (*Service, bool) {
	s := r.index()[key]
	if s == nil {
		return &Service{}, false
	}
	return &s.Service, true
}

func (r *Rules) add(svc Service) {
	r.close()
	s := &service{Service: svc, owner: r.ownerID(), place: len(r.list)}
	r.note(func() {
		r.list = r.list[:s.place]
		delete(r.byKey, svc.Key)
	})
	r.list = append(r.list, s)
	r.index()[svc.Key] = s
}

func (r *Rules) remove(s *service) {
	r.note(func() {
		r.put(s)
		r.holes--
	})
	delete(r.byKey, s.Key)
	r.list[s.place] = nil
	r.holes++
}

// put has s in the place that is its.
func (r *Rules) put(s *service) {
	r.list[s.place] = s
	r.byKey[s.Key] = s
}

// close closes the holes once they are most of the list. Who was moved is another service: clones have the one before.
func (r *Rules) close() {
	if r.trying || r.holes <= len(r.list)/2 {
		return
	}
	list := make([]*service, 0, r.Len())
	for s := range r.all {
		s = &service{Service: s.Service, place: len(list)}
		list = append(list, s)
		r.byKey[s.Key] = s
	}
	r.list, r.holes = list, 0
}

// own returns s, or a copy that has taken its place, to be changed.
func (r *Rules) own(s *service) *service {
	if s.owner == r.ownerID() {
		return s
	}
	c := &service{Service: s.Service, owner: r.owner, place: s.place}
	c.Servers = slices.Clone(s.Servers)
	r.note(func() { r.put(s) })
	r.put(c)
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
