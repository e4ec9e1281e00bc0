package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"weir/bpf"
	"weir/control/paths"
	"weir/dataplane"
	"weir/lb"
)

// iface is an interface that is served.
type iface struct {
	paths.Interface
	frameSize int // bytes, for the life of its queues

	own, own6 lb.Addr // addresses that it speaks for itself from
}

// findInterfaces looks at every interface named and reports all that is wrong with them.
func (d *director) findInterfaces(context.Context) error {
	if os.Geteuid() != 0 {
		// Capabilities might do, but which are missing is told step by step below.
		d.log.Debug("not running as root", "needs", "CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF, CAP_PERFMON, CAP_IPC_LOCK")
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
		d.ifaces = append(d.ifaces, iface{Interface: f, frameSize: frameSize(f.MTU)})
	}
	return errors.Join(errs...)
}

const (
	// A packet lies in one frame, behind its headroom, with an Ethernet header and two tags at most in front of it.
	smallFrame, largeFrame = 2048, 4096
	linkHeader             = 14 + 8
	// maxMTU is the largest IP packet that fits a frame and that the host path can give back to the kernel.
	maxMTU = min(largeFrame-dataplane.Headroom, bpf.MaxInject) - linkHeader
)

// frameSize returns how large the frames of an interface are, in bytes.
func frameSize(mtu int) int {
	if mtu <= largestMTU(smallFrame) {
		return smallFrame
	}
	return largeFrame
}

// largestMTU returns the largest MTU that frames of a size serve.
func largestMTU(frame int) int { return min(frame-dataplane.Headroom-linkHeader, maxMTU) }

// maxPacket returns how long a packet of one of the interfaces may be, in bytes from its Ethernet header on.
func (d *director) maxPacket() int {
	n := 0
	for _, f := range d.ifaces {
		n = max(n, largestMTU(f.frameSize)+linkHeader)
	}
	return n
}

func usable(f paths.Interface) error {
	switch {
	case !f.Ethernet:
		return errors.New("not an Ethernet interface")
	case f.Kind == "bond" || f.Kind == "bridge":
		return fmt.Errorf("a %s has no queues of its own: name its members", f.Kind)
	case f.RxQueues > f.TxQueues:
		return fmt.Errorf("has %d receive queues and %d to transmit: weir needs one to transmit for each: ethtool -L %s rx %[2]d", f.RxQueues, f.TxQueues, f.Name)
	case !f.Up:
		return fmt.Errorf("is down: ip link set %s up", f.Name)
	case f.MTU > maxMTU:
		return fmt.Errorf("MTU %d is too large, %d is the most (a packet lies in one frame): ip link set %s mtu %[2]d", f.MTU, maxMTU, f.Name)
	}
	return nil
}

// workerIfaces returns the interfaces as workers see them.
func (d *director) workerIfaces() []dataplane.Iface {
	list := make([]dataplane.Iface, len(d.ifaces))
	// The host's addresses may be thousands, of services: they are read only when they have changed.
	changes := d.ownChanges.Load()
	for i := range d.ifaces {
		f := &d.ifaces[i]
		if changes != d.ownSeen {
			f.own, f.own6 = ownAddresses(f.Name)
		}
		list[i] = dataplane.Iface{Name: f.Name, Ifindex: f.Index, MAC: f.MAC, MTU: f.MTU, Addr: f.own, Addr6: f.own6}
	}
	d.ownSeen = changes
	return list
}

// followInterfaces takes changes of the interfaces' own addresses and MTU to the workers, and a new MAC address to steer too.
// Called once a second: such changes are an operator's, and rare.
func (d *director) followInterfaces() {
	for i := range d.ifaces {
		f := &d.ifaces[i]
		now, err := net.InterfaceByIndex(f.Index)
		if err != nil || len(now.HardwareAddr) != len(f.MAC) {
			d.fail(fmt.Errorf("interface %s is gone", f.Name))
			return
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
			if most := largestMTU(f.frameSize); now.MTU > most {
				d.log.Warn("the new MTU is too large for the frames made at the start: longer packets are lost", "interface", f.Name, "longest", most)
			}
			f.MTU = now.MTU
		}
	}
	if d.ownChanges.Load() != d.ownSeen {
		if err := d.addresses.restore(); err != nil {
			d.log.Error("--assign-addresses", "error", err)
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
