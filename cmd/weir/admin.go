package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"weir/control"
	"weir/control/admin"
	"weir/control/api"
	"weir/ipvsadm"
	"weir/lb"
)

// listen makes the sockets for operators before anything is attached: should another weir run with them, this one does not start.
func (d *director) listen(context.Context) error {
	var err error
	if d.config.socket != "" {
		if d.socket, err = api.Listen(d.config.socket); err != nil {
			return fmt.Errorf("--admin-socket: %w", err)
		}
		d.deferred(d.socket.Close)
	}
	if d.metrics, err = d.listenTCP("metrics-address", d.config.metrics); err != nil {
		return err
	}
	if d.web, err = d.listenTCP("web-address", d.config.web); err != nil {
		return err
	}
	return nil
}

// startAdmin takes the rules under administration: from here on they may change.
func (d *director) startAdmin(ctx context.Context) error {
	o := admin.Options{Store: d.store, Shared: d.shared, Conns: d.conns, Rules: d.rules, Status: d.status}
	o.Await = func(servers []lb.Addr) { d.awaitServers(servers, changePatience) }
	if d.config.assign {
		o.AddAddresses, o.RemoveAddresses = d.addresses.virtual.Add, d.addresses.virtual.Remove
	}
	if d.config.saveFile != "" {
		d.saver = admin.NewSaver(d.config.saveFile, func() *ipvsadm.Rules { return d.admin.Rules() })
		o.Changed = d.saver.Changed
	}
	d.admin = admin.New(o)
	var ended sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	if d.saver != nil {
		from := "the command line"
		if d.config.saved {
			from = d.config.saveFile
		}
		d.log.Info("rules are kept", "file", d.config.saveFile, "started_with", from)
		if !d.config.saved {
			d.saver.Changed()
		}
		ended.Go(func() { d.saver.Run(ctx, func(err error) { d.log.Error("--save", "error", err) }) })
	}
	ended.Go(func() { d.estimate(ctx) })
	var server *api.Admin
	if d.socket != nil {
		server = api.NewAdmin(d.admin, d.log)
		ended.Go(func() {
			if err := server.Serve(d.socket); err != nil {
				d.log.Error("--admin-socket is no longer served", "error", err)
			}
		})
	}
	closeHTTP := d.serveHTTP(ctx, &ended)
	d.serving.Store(true)
	// Nobody changes anything any more when the rest is taken down, and what was changed last is saved.
	d.deferred(func() error {
		d.serving.Store(false)
		err := closeHTTP()
		if server != nil {
			err = errors.Join(err, server.Close())
		}
		cancel()
		ended.Wait()
		return err
	})
	return nil
}

// estimate keeps the rates up to date. A tick that comes late, or not at all, because others want the CPU is made up for: the estimator takes it that there
// is a period between two of its steps.
func (d *director) estimate(ctx context.Context) {
	const step = control.EstimatePeriod / control.EstimateParts
	tick := time.NewTicker(step)
	defer tick.Stop()
	began, done := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			due := int(now.Sub(began) / step)
			for done = max(done, due-control.EstimateParts); done < due; done++ { // of a longer time without, all parts have their turn once
				part := done % control.EstimateParts
				d.store.Estimate(part)
				if part == 0 {
					d.load.sample(now)
				}
			}
		}
	}
}

// status is what the daemon knows of itself.
func (d *director) status() api.Status {
	s := api.Status{Version: buildVersion(), Uptime: time.Since(d.started).Seconds(), Interfaces: make([]api.Interface, len(d.attachments))}
	for i := range s.Interfaces {
		s.Interfaces[i] = d.interfaceStatus(i)
	}
	d.load.fill(&s)
	h := d.host.Counters()
	s.Host = api.Host{Injected: h.Injected, Failed: h.Failed, RingFull: h.RingFull, OverRate: h.OverRate}
	if d.saver != nil {
		if err := d.saver.Err(); err != nil {
			s.SaveError = err.Error()
		}
	}
	return s
}

func (d *director) interfaceStatus(i int) api.Interface {
	t := d.shared.Table().Ifaces()[i] // as it is now: d.ifaces belongs to another goroutine
	a := d.attachments[i]
	s := api.Interface{Name: t.Name, MAC: net.HardwareAddr(t.MAC[:]).String(), MTU: t.MTU, Queues: len(d.queues[i]), XDP: a.Mode.String()}
	if a.NativeError != nil {
		s.XDPWhy = a.NativeError.Error()
	}
	zeroCopy, why := d.queues[i][0].ZeroCopy()
	if s.ZeroCopy = zeroCopy; why != nil {
		s.ZeroCopyWhy = why.Error()
	}
	for _, q := range d.queues[i] {
		n, err := q.Stats()
		if err != nil {
			d.log.Debug("queue", "interface", t.Name, "error", err)
		}
		s.RxDropped += n.RxDropped
		s.RxRingFull += n.RxRingFull
		s.FillRingEmpty += n.FillRingEmpty
		s.TxInvalid += n.TxInvalid
		s.NoRoom += n.NoRoom
		s.LinkDown += n.LinkDown
	}
	return s
}
