package admin

import (
	"errors"
	"maps"
	"slices"

	"weir/control/api"
	"weir/ipvsadm"
	"weir/lb"
)

// edit is a change in the making: what its commands did to rules, for the Store to follow. Under the Director's lock.
type edit struct {
	*Director

	touched  []lb.ServiceKey // in the order the commands came to them
	before   map[lb.ServiceKey]bool
	removed  map[lb.ServiceKey]bool // taken out, if only to be added again
	added    []lb.Addr              // addresses that the host is to have for new services
	touches  []ipvsadm.Command      // edits of a server that give it the values it has
	zero     []lb.ServiceKey
	zeroAll  bool
	timeouts bool
	held     []func() // lets go of the ways to new servers
}

// holdAtOnce is how many commands' new servers are looked up together: what is known of them is still in the CPU's caches when they are checked.
const holdAtOnce = 1024

// do does the commands that are not refused. The others go to refused, until it returns false.
func (e *edit) do(commands []ipvsadm.Command, refused func(i int, err error) (goOn bool)) {
	from := 0
	for some := range slices.Chunk(commands, holdAtOnce) {
		e.held = append(e.held, e.Store.Hold(newServers(some)))
		for i := range some {
			err := e.check(&some[i])
			if err == nil {
				err = e.apply(some[i])
			}
			if err != nil && !refused(from+i, err) {
				return
			}
		}
		from += len(some)
	}
}

// release comes last: until then the ways to new servers are at hand.
func (e *edit) release() {
	for _, f := range e.held {
		f()
	}
}

// check returns why a command cannot be done, ipvsadm's reasons first.
func (e *edit) check(c *ipvsadm.Command) error {
	if err := e.rules.Check(*c); err != nil {
		return err
	}
	var err error
	switch c.Op {
	case ipvsadm.OpAddService:
		err = e.Store.Check([]lb.Service{c.Service.Service})
	case ipvsadm.OpEditService:
		s, _ := e.rules.Peek(c.Service.Key)
		changed := c.Service.Service
		changed.Servers = s.Servers
		err = e.Store.Check([]lb.Service{changed})
	case ipvsadm.OpAddServer:
		s, _ := e.rules.Peek(c.Service.Key)
		err = e.Store.CheckServer(&s.Service, &c.Server)
	case ipvsadm.OpEditServer:
		s, _ := e.rules.Peek(c.Service.Key)
		if same, ok := find(s.Servers, c.Server); ok {
			// Whether a server can be reached is no matter when its weight is taken away.
			same.Weight, same.Upper, same.Lower = c.Server.Weight, c.Server.Upper, c.Server.Lower
			if same == c.Server {
				return nil
			}
		}
		err = e.Store.CheckServer(&s.Service, &c.Server)
	}
	if err != nil {
		return &ipvsadm.Error{Status: 255, Text: err.Error(), Where: c.Source}
	}
	return nil
}

// find returns the server with v's address and port.
func find(servers []lb.Server, v lb.Server) (lb.Server, bool) {
	for _, s := range servers {
		if s.Addr == v.Addr && s.Port == v.Port {
			return s, true
		}
	}
	return lb.Server{}, false
}

// addAddresses puts new services' addresses on the host, all in one go: each go looks through all that the host has.
func (e *edit) addAddresses() error {
	slices.SortFunc(e.added, compare)
	added := slices.Compact(e.added)
	e.added = nil
	return e.add(added)
}

// apply does a command that was checked to the rules and notes what it touches.
func (e *edit) apply(c ipvsadm.Command) error {
	key := c.Service.Key
	switch c.Op {
	case ipvsadm.OpFlush:
		for _, s := range e.rules.Services() {
			e.touch(s.Key)
			e.takeOut(s.Key)
		}
	case ipvsadm.OpSetTimeouts:
		e.timeouts = true
	case ipvsadm.OpZero:
		e.zeroAll = e.zeroAll || !c.HasService
		if c.HasService {
			e.zero = append(e.zero, key)
		}
		return nil
	case ipvsadm.OpEditServer:
		s, _ := e.rules.Peek(key)
		if same, _ := find(s.Servers, c.Server); same == c.Server {
			e.touches = append(e.touches, c)
		}
		e.touch(key)
	case ipvsadm.OpDeleteService:
		e.touch(key)
		e.takeOut(key)
	case ipvsadm.OpAddService:
		if a := key.Addr; a.IsValid() && e.uses[a] == 0 {
			e.added = append(e.added, a)
		}
		e.touch(key)
	default:
		e.touch(key)
	}
	return e.rules.Apply(c)
}

// touch notes a service that is about to be changed.
func (e *edit) touch(key lb.ServiceKey) {
	if _, known := e.before[key]; known {
		return
	}
	if e.before == nil {
		e.before, e.removed = map[lb.ServiceKey]bool{}, map[lb.ServiceKey]bool{}
	}
	_, e.before[key] = e.rules.Peek(key)
	e.touched = append(e.touched, key)
}

// takeOut notes that a service that was there at the beginning goes.
func (e *edit) takeOut(key lb.ServiceKey) {
	if e.before[key] {
		e.removed[key] = true
	}
}

// places is how many services one is that is there or is not.
func places(there bool) int {
	if there {
		return 1
	}
	return 0
}

// finish has the Store follow, and everything that hangs on the rules.
func (e *edit) finish() error {
	var removed []lb.ServiceKey
	var set []lb.Service
	gone := map[lb.Addr]bool{} // addresses that no service has any more
	for _, key := range e.touched {
		s, there := e.rules.Service(key)
		if e.removed[key] {
			removed = append(removed, key)
		}
		if there {
			set = append(set, s.Service)
		}
		if a := key.Addr; a.IsValid() {
			e.uses[a] += places(there) - places(e.before[key])
			gone[a] = true
		}
	}
	maps.DeleteFunc(gone, func(a lb.Addr, _ bool) bool { return e.uses[a] > 0 })
	for a := range gone {
		delete(e.uses, a)
	}
	var late error
	if len(removed)+len(set) > 0 {
		late = e.Store.Edit(removed, set)
	}
	// Only now: who hears of an address uses it at once.
	late = errors.Join(late, e.addAddresses())
	for _, c := range e.touches {
		e.Store.Touch(c.Service.Key, c.Server.Addr, c.Server.Port)
	}
	if e.timeouts {
		e.setTimeouts()
	}
	if e.zeroAll {
		e.Store.Zero()
	} else if len(e.zero) > 0 {
		e.Store.Zero(e.zero...)
	}
	e.changed()
	if late = errors.Join(late, e.remove(slices.Collect(maps.Keys(gone)))); late != nil {
		return &api.Error{Text: "the change is in force, but: " + late.Error()}
	}
	return nil
}
