package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"weir/bpf"
	"weir/conntrack"
	"weir/control"
	"weir/control/admin"
	"weir/control/api"
	"weir/control/paths"
	"weir/dataplane"
	"weir/dataplane/afxdp"
	"weir/dataplane/host"
	"weir/ipvsadm"
	"weir/lb"
)

// director is everything a running weir holds. It is built by start and taken down, in the opposite order, by close.
type director struct {
	config *config
	log    *slog.Logger
	rules  *ipvsadm.Rules // what it started with

	ifaces      []iface
	ownChanges  atomic.Uint64 // of the host's addresses, as the watcher heard of them
	ownSeen     uint64        // of them, when ifaces had their own read
	steer       *bpf.Steer
	watcher     *paths.Watcher
	reach       *control.Reach
	conns       *conntrack.Table
	shared      *dataplane.Shared
	store       *control.Store
	release     func()            // of the first rules' servers (Store.Hold)
	queues      [][]*afxdp.Queue  // by interface
	attachments []*bpf.Attachment // by interface
	host        *host.Path
	workers     []*dataplane.Worker
	pollers     []*afxdp.Poller
	started     time.Time
	addresses   assigned
	socket      *api.Socket     // nil: none
	metrics     net.Listener    // nil: none
	web         net.Listener    // nil: none
	serving     atomic.Bool     // between start and close
	admin       *admin.Director // has the rules in force
	saver       *admin.Saver    // nil: none
	load        sampler
	watch       watch // owned by serve

	failed chan error         // has what weir cannot go on after
	cancel context.CancelFunc // ends the goroutines
	wg     sync.WaitGroup     // the goroutines
	undo   []func() error     // what close does, last first
}

// start brings up a director, or nothing: with an error all that was done is undone.
func start(c *config, log *slog.Logger) (*director, error) {
	d := &director{config: c, log: log, rules: c.initial, started: time.Now(), failed: make(chan error, 1)}
	var ctx context.Context
	ctx, d.cancel = context.WithCancel(context.Background())
	for _, step := range []func(context.Context) error{
		d.findInterfaces, d.openControl, d.checkRules, d.listen, d.openQueues, d.attach, d.applyRules, d.startWorkers, d.redirect,
		// Only now, when packets find a worker: who hears of an address uses it at once.
		d.assignAddresses, d.startAdmin,
	} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, d.close())
		}
	}
	return d, nil
}

// deferred notes what undoes a step.
func (d *director) deferred(f func() error) { d.undo = append(d.undo, f) }

// Room in steer's maps: 16 bytes an entry, whether used or not.
const (
	maxServices   = 1 << 17
	maxNATServers = 1 << 18
)

// openControl makes what does not touch the interfaces yet: maps, table, paths.
func (d *director) openControl(ctx context.Context) error {
	var err error
	if d.steer, err = bpf.Load(bpf.Options{MaxServices: maxServices, MaxServers: maxNATServers}); err != nil {
		return err
	}
	d.deferred(d.steer.Close)
	ports := d.config.localPorts
	d.conns, err = conntrack.New(conntrack.Options{Capacity: d.config.connections, HugePages: true, FirstPort: ports.low, LastPort: ports.high})
	if err != nil {
		return fmt.Errorf("--connections %d: %w", d.config.connections, err)
	}
	d.deferred(func() error { d.conns.Close(); return nil })
	d.shared = dataplane.NewShared(d.conns, nil)

	indexes := make([]int, len(d.ifaces))
	for i, f := range d.ifaces {
		indexes[i] = f.Index
	}
	if d.watcher, err = paths.New(paths.Options{Interfaces: indexes, Logger: d.log}); err != nil {
		return err
	}
	d.deferred(d.watcher.Close)
	d.reach = control.NewReach(d.watcher, indexes)
	locals := make([]lb.Addr, len(d.config.locals))
	for i, a := range d.config.locals {
		locals[i] = lb.AddrFrom(a)
		if err := d.steer.AddLocal(locals[i], ports.low, ports.high); err != nil {
			return fmt.Errorf("--local-address %q: %w", a, err)
		}
	}
	if err := d.conns.SetLocals(locals); err != nil {
		return fmt.Errorf("--local-address: %w", err)
	}
	d.store = control.NewStore(d.shared, d.conns, d.steer, d.reach, control.Options{
		Locals: locals, Marks: d.config.marks, Sysctls: d.config.sysctls, TunnelSources: d.config.tunnels, ClampMSS: d.config.clampMSS,
	})
	for _, r := range d.config.marks {
		if err := d.steer.AddPrefix(r.Proto, r.Dst, r.Low, r.High); err != nil {
			return fmt.Errorf("--mark '%s': %w", r, err)
		}
	}
	return nil
}

// checkRules finds what keeps the rules from being served before anything is attached.
func (d *director) checkRules(context.Context) error {
	d.release = d.store.Hold(serverAddresses(d.rules)) // until applyRules has applied them
	return d.store.Check(d.rules.Services())
}

// openQueues binds a socket to every queue of every interface. Nothing is redirected to them before attach.
func (d *director) openQueues(context.Context) error {
	options := afxdp.Options{BusyPoll: d.config.busyPoll}
	options.ZeroCopy = map[string]afxdp.ZeroCopy{"auto": afxdp.Auto, "on": afxdp.On, "off": afxdp.Off}[d.config.zeroCopy]
	d.queues = make([][]*afxdp.Queue, len(d.ifaces))
	for i, f := range d.ifaces {
		options.FrameSize = f.frameSize
		for n := range f.RxQueues {
			q, err := afxdp.Open(f.Index, n, options)
			if err != nil {
				return fmt.Errorf("--interface %q: %w", f.Name, err)
			}
			d.queues[i] = append(d.queues[i], q)
			d.deferred(q.Close)
		}
	}
	return nil
}

// applyRules gives the workers-to-be their first table, and steer its keys.
func (d *director) applyRules(ctx context.Context) error {
	if err := d.setOwn(d.watcher.OwnAddresses()); err != nil {
		return err
	}
	d.store.SetIfaces(d.workerIfaces())
	d.deferred(func() error { // before what they use is closed
		d.cancel()
		d.wg.Wait()
		return nil
	})
	d.wg.Go(func() {
		if err := d.watcher.Run(ctx); err != nil && ctx.Err() == nil {
			d.fail(fmt.Errorf("routes and neighbours can no longer be followed: %w", err))
		}
	})
	d.wg.Go(func() {
		d.reach.Follow(ctx, d.store, d.setOwn, func(err error) { d.log.Error("own addresses", "error", err) })
	})
	d.awaitServers(serverAddresses(d.rules), startPatience)
	if err := d.store.Apply(d.rules.Services()); err != nil {
		return err
	}
	d.release()
	d.setTimeouts(d.rules)
	return nil
}

// fail ends the director: a supervisor starts it anew, which helps more than going on half blind.
func (d *director) fail(err error) {
	select {
	case d.failed <- err:
	default: // the first reason is the one to know
	}
}

// setOwn tells steer and the workers which addresses are the host's own.
func (d *director) setOwn(addrs []lb.Addr) error {
	d.ownChanges.Add(1)
	d.store.SetOwn(addrs)
	return d.steer.SetOwn(addrs)
}

// How long weir waits for its servers' MAC addresses before it serves without those still missing: at the start, and when
// servers are added while it serves.
const (
	startPatience  = time.Second
	changePatience = 200 * time.Millisecond
)

// logAtMost is how many servers that do not answer get a line each.
const logAtMost = 20

// awaitServers lets the kernel resolve servers, so that their first packets find the way.
func (d *director) awaitServers(fresh []lb.Addr, limit time.Duration) {
	silent := d.reach.Await(context.Background(), fresh, limit)
	for i, addr := range silent {
		if i == logAtMost {
			d.log.Warn("more servers do not answer", "servers", len(silent)-i)
			break
		}
		d.log.Warn("server does not answer: its packets are dropped until it does", "server", addr)
	}
}

// serverAddresses returns every server's address once.
func serverAddresses(rules *ipvsadm.Rules) []lb.Addr {
	seen := map[lb.Addr]bool{}
	for _, s := range rules.Services() {
		for _, v := range s.Servers {
			seen[v.Addr] = true
		}
	}
	return slices.Collect(maps.Keys(seen))
}

// setTimeouts applies --set.
func (d *director) setTimeouts(rules *ipvsadm.Rules) {
	set, v := rules.Timeouts(), d.conns.Timeouts()
	v.Set(uint32(set.TCP), uint32(set.TCPFin), uint32(set.UDP))
	d.conns.SetTimeouts(v)
}

// attach puts steer on the interfaces. Without sockets, it lets everything pass.
func (d *director) attach(context.Context) error {
	mode := map[string]bpf.XDPMode{"auto": bpf.Auto, "native": bpf.Native, "generic": bpf.Generic}[d.config.xdpMode]
	for i, f := range d.ifaces {
		a, err := d.steer.Attach(f.Index, f.RxQueues, f.MAC[:], mode)
		if err != nil {
			return fmt.Errorf("--interface %q: %w", f.Name, err)
		}
		d.deferred(a.Close)
		d.attachments = append(d.attachments, a)
		attrs := []any{"interface", f.Name, "queues", len(d.queues[i]), "xdp", a.Mode}
		zeroCopy, why := d.queues[i][0].ZeroCopy()
		if attrs = append(attrs, "zero_copy", zeroCopy); why != nil {
			attrs = append(attrs, "why_not", why)
		}
		d.log.Info("attached", attrs...)
		if f.HidesTags != "" {
			d.log.Warn("the device takes VLAN tags out of frames: tagged clients, if there are any, get untagged answers", "interface", f.Name,
				"fix", "ethtool -K "+f.Name+" "+strings.ReplaceAll(f.HidesTags, " ", " off ")+" off")
		}
		if a.NativeError != nil {
			d.log.Warn("native XDP refused, using generic: slower", "interface", f.Name, "error", a.NativeError)
		}
	}
	return nil
}

// redirect gives steer the sockets: from here on packets come.
func (d *director) redirect(context.Context) error {
	for i, f := range d.ifaces {
		for n, q := range d.queues[i] {
			if err := d.attachments[i].SetSocket(n, q.FD()); err != nil {
				return fmt.Errorf("--interface %q: %w", f.Name, err)
			}
		}
	}
	return nil
}

// serve runs until stop ends: housekeeping once a second, the rules read again at each reload.
func (d *director) serve(stop context.Context, reload <-chan os.Signal) error {
	d.log.Info("ready", "services", d.rules.Len(), "workers", len(d.workers), "connections", d.config.connections)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-stop.Done():
			return nil
		case err := <-d.failed:
			return err
		case <-tick.C:
			d.followInterfaces()
			d.watchQueues()
			if err := d.store.Reap(); err != nil {
				d.log.Error("removed servers", "error", err)
			}
			d.store.Defend(d.log)
		case <-reload:
			d.reload()
		}
	}
}

// reload reads the rules again and applies the difference, whole or not at all.
func (d *director) reload() {
	rules, errs := d.config.readRules()
	done := false
	if len(errs) == 0 {
		var err error
		if done, err = d.admin.Replace(context.Background(), rules); err != nil {
			errs = flatten(err)
		}
	}
	for _, err := range errs {
		if done {
			d.log.Error("reload", "error", err)
		} else {
			d.log.Error("reload refused: nothing was changed", "error", err)
		}
	}
	if done {
		d.log.Info("reloaded", "services", rules.Len())
	}
}

// close undoes what start did, last first. It may be called twice.
func (d *director) close() error {
	undo := d.undo
	d.undo = nil
	var errs []error
	for _, f := range slices.Backward(undo) {
		errs = append(errs, f())
	}
	d.cancel()
	d.wg.Wait()
	return errors.Join(errs...)
}

// summary logs what this director did in its life.
func (d *director) summary() {
	var sum dataplane.Counters
	for _, w := range d.workers {
		sum.Add(w.Counters())
	}
	attrs := []any{
		"uptime", time.Since(d.started).Round(time.Millisecond), "received", sum.Received, "to_server", sum.ToServer,
		"to_client", sum.ToClient, "to_host", sum.ToHost, "answered", sum.Answered, "connections", sum.Connections,
	}
	for _, stop := range sum.Stops() {
		attrs = append(attrs, stop.Reason.String(), stop.Count)
	}
	if table := d.conns.Stats(); table.Shed+table.Evicted > 0 { // half-open connections given up
		attrs = append(attrs, "shed", table.Shed, "evicted", table.Evicted)
	}
	d.log.Info("stopped", attrs...)
}
