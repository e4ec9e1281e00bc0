package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"weir/control/addresses"
	"weir/ipvsadm"
	"weir/lb"
)

// assigned are the addresses that --assign-addresses put on interfaces.
type assigned struct {
	virtual, local *addresses.Assigned
}

// restore adds again what an interface that was down has lost.
func (a *assigned) restore() error {
	var errs []error
	for _, on := range []*addresses.Assigned{a.local, a.virtual} {
		if on != nil {
			errs = append(errs, on.Restore())
		}
	}
	return errors.Join(errs...)
}

// assignAddresses puts service addresses on the first interface, the clients' side, and local addresses on the last.
func (d *director) assignAddresses(context.Context) error {
	if !d.config.assign {
		return nil
	}
	locals := make([]lb.Addr, len(d.config.locals))
	for i, a := range d.config.locals {
		locals[i] = lb.AddrFrom(a)
	}
	var err error
	first, last := d.ifaces[0].Name, d.ifaces[len(d.ifaces)-1].Name
	// Local addresses first: servers must be able to answer before clients ask.
	if d.addresses.local, err = addresses.Assign(last, locals); err != nil {
		return fmt.Errorf("--assign-addresses: %w", err)
	}
	d.deferred(d.addresses.local.Close)
	if d.addresses.virtual, err = addresses.Assign(first, serviceAddresses(d.rules)); err != nil {
		return fmt.Errorf("--assign-addresses: %w", err)
	}
	d.deferred(d.addresses.virtual.Close)
	return nil
}

// serviceAddresses returns every service's address once.
func serviceAddresses(rules *ipvsadm.Rules) []lb.Addr {
	seen := map[lb.Addr]bool{}
	for _, s := range rules.Services() {
		if s.Key.Addr.IsValid() {
			seen[s.Key.Addr] = true
		}
	}
	return slices.Collect(maps.Keys(seen))
}
