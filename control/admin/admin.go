// Package admin is the configuration in force and everything an operator may do to it and ask about it: the backend of
// control/api, without the socket.
//
//	d := admin.New(admin.Options{Store: store, Shared: shared, Conns: conns, Rules: rules})
//	changed, err := d.Change(ctx, commands, false)   // what weiradm asks for
//	done, err := d.Replace(ctx, rules)               // what SIGHUP asks for
//
// A change goes: ways to new servers, check, addresses, Store, workers, answer. But for the first of a small one, changes go one after the other, under
// one lock that no worker takes.
package admin

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"weir/conntrack"
	"weir/control"
	"weir/control/api"
	"weir/dataplane"
	"weir/ipvsadm"
	"weir/lb"
)

// settleTime bounds how long a change waits for the workers to have it. A turn takes a fraction of a millisecond.
const settleTime = 2 * time.Second

// Options are the parts of a director. Store, Shared, Conns and Rules are required.
type Options struct {
	Store  *control.Store
	Shared *dataplane.Shared
	Conns  *conntrack.Table
	Rules  *ipvsadm.Rules // what Store was given last; the Director's from now on

	// AddAddresses and RemoveAddresses put service addresses on the host and take them off, as they come and go; nil: nobody does.
	AddAddresses, RemoveAddresses func(...lb.Addr) error
	// Await is given the addresses of new servers before packets are sent there, and may wait a moment for the ways to them; nil: nobody does. It
	// is called from many goroutines.
	Await func([]lb.Addr)
	// Status returns what the daemon knows of itself: everything of api.Status but services, servers and the connection table.
	Status func() api.Status
	// Changed is told after each change that Rules may be other than before.
	Changed func()
}

// Director is safe for concurrent use.
type Director struct {
	Options
	mu    sync.Mutex
	rules *ipvsadm.Rules
	uses  map[lb.Addr]int // how many services have the address
}

// New returns a Director for a configuration that Store serves already.
func New(o Options) *Director {
	d := &Director{Options: o, rules: o.Rules, uses: map[lb.Addr]int{}}
	for _, s := range d.rules.Services() {
		if s.Key.Addr.IsValid() {
			d.uses[s.Key.Addr]++
		}
	}
	return d
}

// Rules returns a copy of the configuration in force.
func (d *Director) Rules() *ipvsadm.Rules {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rules.Clone()
}

// Change implements api.Backend.
func (d *Director) Change(ctx context.Context, commands []ipvsadm.Command, atomic bool) (done api.Changed, err error) {
	if len(commands) == 0 {
		return done, nil
	}
	if len(commands) <= holdAtOnce {
		// Before the lock: others' changes do not wait for new servers' neighbours.
		fresh := newServers(commands)
		defer d.Store.Hold(fresh)()
		d.await(fresh)
	}
	d.mu.Lock()
	if atomic {
		done, err = d.whole(commands)
	} else {
		done, err = d.each(commands)
	}
	d.mu.Unlock()
	if done.Applied > 0 {
		if settled := d.settle(ctx); err == nil {
			err = settled
		}
	}
	return done, err
}

// settle waits until workers have what was published.
func (d *Director) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	return d.Shared.Settle(ctx)
}

// each does every command that is not refused.
func (d *Director) each(commands []ipvsadm.Command) (done api.Changed, err error) {
	e := edit{Director: d}
	defer e.release()
	e.do(commands, func(i int, err error) bool {
		done.Refused = append(done.Refused, api.Refusal{Command: i, Error: api.ToError(err)})
		return true
	})
	if done.Applied = len(commands) - len(done.Refused); done.Applied == 0 {
		return done, nil
	}
	return done, e.finish()
}

// maxProblems is how many things a change that is refused as a whole is told at once.
const maxProblems = 100

// whole does all commands or none.
func (d *Director) whole(commands []ipvsadm.Command) (done api.Changed, err error) {
	d.rules.Begin()
	kept := false
	defer func() {
		if !kept {
			d.rules.Rollback()
		}
	}()
	e := edit{Director: d}
	defer e.release()
	e.do(commands, func(i int, err error) bool {
		done.Refused = append(done.Refused, api.Refusal{Command: i, Error: api.ToError(err)})
		return len(done.Refused) < maxProblems
	})
	if done.Refused != nil {
		return done, nil
	}
	added := slices.Clone(e.added)
	if err := e.addAddresses(); err != nil {
		return done, errors.Join(err, d.remove(added))
	}
	d.rules.Commit()
	kept = true
	done.Applied = len(commands)
	return done, e.finish()
}

// Replace makes rules the configuration, as a reload does: the difference is applied, whole or not at all. With done, the rules are
// in force and the error is about what came after that.
func (d *Director) Replace(ctx context.Context, rules *ipvsadm.Rules) (done bool, err error) {
	if done, err = d.replace(rules); done && err == nil {
		err = d.settle(ctx)
	}
	return done, err
}

func (d *Director) replace(rules *ipvsadm.Rules) (done bool, err error) {
	services := rules.Services()
	listed := servers(services)
	defer d.Store.Hold(slices.Collect(maps.Keys(listed)))()
	if err := d.Store.Check(services); err != nil {
		return false, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	uses := map[lb.Addr]int{}
	for _, s := range services {
		if s.Key.Addr.IsValid() {
			uses[s.Key.Addr]++
		}
	}
	// Servers first, addresses next, services last: a client that finds the address finds its service.
	d.await(difference(listed, servers(d.rules.Services())))
	fresh := difference(uses, d.uses)
	if err := d.add(fresh); err != nil {
		return false, errors.Join(err, d.remove(fresh))
	}
	late := d.Store.Apply(services)
	if late != nil && !errors.Is(late, control.ErrPartly) {
		return false, errors.Join(late, d.remove(fresh))
	}
	gone := difference(d.uses, uses)
	d.rules, d.uses = rules, uses
	d.setTimeouts()
	d.changed()
	return true, errors.Join(late, d.remove(gone))
}

// newServers returns the addresses of the servers that commands add, each once.
func newServers(commands []ipvsadm.Command) (addrs []lb.Addr) {
	for i := range commands {
		if commands[i].Op == ipvsadm.OpAddServer {
			addrs = append(addrs, commands[i].Server.Addr)
		}
	}
	slices.SortFunc(addrs, compare)
	return slices.Compact(addrs)
}

func compare(a, b lb.Addr) int { return cmp.Or(cmp.Compare(a.Hi, b.Hi), cmp.Compare(a.Lo, b.Lo)) }

// servers counts the services that have each server.
func servers(services []lb.Service) map[lb.Addr]int {
	n := map[lb.Addr]int{}
	for _, s := range services {
		for _, v := range s.Servers {
			n[v.Addr]++
		}
	}
	return n
}

// awaitAtMost is how many new servers are waited for. More come when a configuration is loaded, and then it is better to be done soon.
const awaitAtMost = 64

func (d *Director) await(addrs []lb.Addr) {
	if d.Await != nil && len(addrs) > 0 && len(addrs) <= awaitAtMost {
		d.Await(addrs)
	}
}

func (d *Director) changed() {
	if d.Changed != nil {
		d.Changed()
	}
}

// setTimeouts applies --set.
func (d *Director) setTimeouts() {
	set, v := d.rules.Timeouts(), d.Conns.Timeouts()
	v.Set(uint32(set.TCP), uint32(set.TCPFin), uint32(set.UDP))
	d.Conns.SetTimeouts(v)
}

func (d *Director) add(addrs []lb.Addr) error {
	if d.AddAddresses == nil || len(addrs) == 0 {
		return nil
	}
	return d.AddAddresses(addrs...)
}

func (d *Director) remove(addrs []lb.Addr) error {
	if d.RemoveAddresses == nil || len(addrs) == 0 {
		return nil
	}
	return d.RemoveAddresses(addrs...)
}

// difference returns the addresses of a that b has not.
func difference(a, b map[lb.Addr]int) []lb.Addr {
	return slices.DeleteFunc(slices.Collect(maps.Keys(a)), func(x lb.Addr) bool { return b[x] > 0 })
}
