package main

import (
	"context"
	"fmt"
	"slices"

	"weir/control/addresses"
	"weir/ipvsadm"
	"weir/lb"
)

// assigned are the addresses that --assign-addresses put on interfaces.
type assigned struct {
	virtual, local *addresses.Assigned
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
	if d.addresses.virtual, err = addresses.Assign(first, serviceAddresses(d.rules)); err != nil {
		return fmt.Errorf("--assign-addresses: %w", err)
	}
	d.deferred(d.addresses.virtual.Close)
	if d.addresses.local, err = addresses.Assign(last, locals); err != nil {
		return fmt.Errorf("--assign-addresses: %w", err)
	}
	d.deferred(d.addresses.local.Close)
	return nil
}

// serviceAddresses returns every service's address once.
func serviceAddresses(rules *ipvsadm.Rules) []lb.Addr {
	var list []lb.Addr
	for _, s := range rules.Services() {
		if s.Key.Addr.IsValid() && !slices.Contains(list, s.Key.Addr) {
			list = append(list, s.Key.Addr)
		}
	}
	return list
}

// addAddresses puts the addresses of services that came with rules on the interface, before they are served.
func (d *director) addAddresses(rules *ipvsadm.Rules) error {
	if !d.config.assign {
		return nil
	}
	return d.addresses.virtual.Add(difference(serviceAddresses(rules), serviceAddresses(d.rules))...)
}

// removeAddresses takes those of services that went with old off again.
func (d *director) removeAddresses(old *ipvsadm.Rules) error {
	if !d.config.assign {
		return nil
	}
	return d.addresses.virtual.Remove(difference(serviceAddresses(old), serviceAddresses(d.rules))...)
}

// difference returns what is in a and not in b.
func difference(a, b []lb.Addr) []lb.Addr {
	return slices.DeleteFunc(slices.Clone(a), func(x lb.Addr) bool { return slices.Contains(b, x) })
}
