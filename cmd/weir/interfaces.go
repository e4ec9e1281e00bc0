package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"weir/control/paths"
	"weir/dataplane"
	"weir/lb"
)

// findInterfaces looks at every interface named and reports all that is wrong with them.
func (d *director) findInterfaces(context.Context) error {
	if os.Geteuid() != 0 {
		// Capabilities might do, but which are missing is told step by step below.
		d.log.Debug("not running as root", "needs", "CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF")
	}
	var errs []error
	for _, name := range d.config.interfaces {
		f, err := paths.InterfaceByName(name)
		if err == nil {
			err = usable(f)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("--interface %q: %w", name, err))
		}
		d.ifaces = append(d.ifaces, f)
	}
	return errors.Join(errs...)
}

// maxMTU is the largest IP packet that fits a frame with its headroom, an Ethernet header and two tags.
const maxMTU = 2048 - dataplane.Headroom - 14 - 8

func usable(f paths.Interface) error {
	switch {
	case !f.Ethernet:
		return errors.New("not an Ethernet interface")
	case f.Kind == "bond" || f.Kind == "bridge":
		return fmt.Errorf("a %s has no queues of its own: name its members", f.Kind)
	case !f.Up:
		return fmt.Errorf("is down: ip link set %s up", f.Name)
	case f.MTU > maxMTU:
		return fmt.Errorf("MTU %d is too large: %d at most", f.MTU, maxMTU)
	}
	return nil
}

// workerIfaces returns the interfaces as workers see them.
func (d *director) workerIfaces() []dataplane.Iface {
	list := make([]dataplane.Iface, len(d.ifaces))
	for i, f := range d.ifaces {
		list[i] = dataplane.Iface{Name: f.Name, Ifindex: f.Index, MAC: f.MAC, MTU: f.MTU, Addr: firstIPv4(f.Name)}
	}
	return list
}

// followInterfaces takes changes of the interfaces' own addresses and MTU to the workers, and a new MAC address to steer too.
// Called once a second: such changes are an operator's, and rare.
func (d *director) followInterfaces() {
	for i := range d.ifaces {
		f := &d.ifaces[i]
		now, err := net.InterfaceByIndex(f.Index)
		if err != nil || len(now.HardwareAddr) != len(f.MAC) {
			continue // gone: its queues report it
		}
		if mac := [6]byte(now.HardwareAddr); mac != f.MAC {
			if err := d.attachments[i].AcceptMAC(mac[:]); err != nil {
				d.log.Error("new MAC address", "interface", f.Name, "error", err)
			}
			d.log.Info("new MAC address", "interface", f.Name, "mac", now.HardwareAddr)
			f.MAC = mac
		}
		if now.MTU != f.MTU {
			d.log.Info("new MTU", "interface", f.Name, "mtu", now.MTU)
			if now.MTU > maxMTU {
				d.log.Warn("MTU too large: longer packets will be lost", "interface", f.Name, "most", maxMTU)
			}
			f.MTU = now.MTU
		}
	}
	if list := d.workerIfaces(); !slices.Equal(list, d.shared.Table().Ifaces()) {
		d.store.SetIfaces(list)
	}
}

// firstIPv4 returns the interface's first IPv4 address, the zero Addr if it has none.
func firstIPv4(name string) lb.Addr {
	iface, err := net.InterfaceByName(name)
	if err != nil {
		return lb.Addr{}
	}
	addrs, _ := iface.Addrs()
	for _, a := range addrs {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Is4() {
			return lb.AddrFrom(prefix.Addr())
		}
	}
	return lb.Addr{}
}
