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
		v4, v6 := ownAddresses(f.Name)
		list[i] = dataplane.Iface{Name: f.Name, Ifindex: f.Index, MAC: f.MAC, MTU: f.MTU, Addr: v4, Addr6: v6}
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

// ownAddresses returns the addresses that the interface speaks for itself from: the first IPv4 one, and of IPv6 one of its networks'
// rather than one that stands alone (a service's; the kernel lists the newest first), a link-local one at last. Zero where it has none.
func ownAddresses(name string) (v4, v6 lb.Addr) {
	iface, err := net.InterfaceByName(name)
	if err != nil {
		return v4, v6
	}
	addrs, _ := iface.Addrs()
	best := 0
	for _, a := range addrs {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		rank := 3
		switch ip := prefix.Addr(); {
		case ip.Is4():
			if !v4.IsValid() {
				v4 = lb.AddrFrom(ip)
			}
			continue
		case ip.IsLinkLocalUnicast():
			rank = 1
		case prefix.IsSingleIP():
			rank = 2
		}
		if rank > best {
			best, v6 = rank, lb.AddrFrom(prefix.Addr())
		}
	}
	return v4, v6
}
