// Package addresses puts service and local addresses on an interface, as keepalived does, and takes them off again.
//
//	assigned, err := addresses.Assign("eth0", vips)
//	defer assigned.Close()
//
// The kernel then answers ARP and neighbour solicitations for them and knows them for its own. What the host had before
// stays untouched: an address that is there already, on whichever interface, is neither added nor ever removed. After a kill
// the addresses stay; the next run knows those that it wants by their mark (mark.go) and has them for its own.
package addresses

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weir/lb"
)

// Assigned are the addresses that were added to one interface. Its methods may be called from any goroutine; they work in
// the network namespace of the thread that Assign ran on.
type Assigned struct {
	link     netlink.Link
	handle   *netlink.Handle
	marker   *marker
	announce *announcer

	mu     sync.Mutex
	own    []lb.Addr // those added here, in order
	closed bool
}

// Assign adds addrs to the named interface, with prefix lengths 32 and 128, and announces them to the neighbours. It adds
// all or, with an error that names every address in the way, none. It needs CAP_NET_ADMIN and CAP_NET_RAW.
func Assign(iface string, addrs []lb.Addr) (*Assigned, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("assign addresses: netlink socket: %w", err)
	}
	link, err := h.LinkByName(iface)
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("assign addresses to %s: %w", iface, err)
	}
	a := &Assigned{link: link, handle: h}
	if a.marker, err = newMarker(); err != nil {
		h.Close()
		return nil, fmt.Errorf("assign addresses to %s: %w", iface, err)
	}
	// Without an Ethernet address there is nothing to tell neighbours: lo, a tunnel.
	if link.Attrs().EncapType == "ether" && link.Attrs().RawFlags&unix.IFF_NOARP == 0 {
		if a.announce, err = newAnnouncer(link.Attrs().Index, a.mac); err != nil {
			a.marker.close()
			h.Close()
			return nil, fmt.Errorf("assign addresses to %s: %w", iface, err)
		}
	}
	if err := a.Add(addrs...); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// Add adds addresses that the host does not have, and takes over those that a weir left on the interface. One that was added before and has gone since (an IPv6 address goes
// when its interface is set down) is added again. It tries all; the error names those that could not be added.
func (a *Assigned) Add(addrs ...lb.Addr) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return errors.New("assign addresses: closed")
	}
	there, err := a.marker.there(a.link.Attrs().Index)
	if err != nil {
		return fmt.Errorf("assign addresses to %s: %w", a.link.Attrs().Name, err)
	}
	var errs []error
	var added []lb.Addr
	own := make(map[lb.Addr]bool, len(a.own))
	for _, addr := range a.own {
		own[addr] = true
	}
	for _, addr := range addrs {
		ours, is := there[addr]
		if is && (!ours || own[addr]) {
			continue
		}
		if !is {
			err := a.marker.add(a.link, addr)
			switch {
			case errors.Is(err, unix.EEXIST):
				continue // someone else's, since there looked
			case err != nil:
				errs = append(errs, fmt.Errorf("assign address %s to %s: %w", addr, a.link.Attrs().Name, err))
				continue
			}
		}
		there[addr] = true
		added = append(added, addr)
		if !own[addr] {
			own[addr] = true
			a.own = append(a.own, addr)
		}
	}
	if a.announce != nil && len(added) > 0 {
		a.announce.start(added)
	}
	return errors.Join(errs...)
}

// Restore adds IPv6 addresses again that were lost with the interface's link: the kernel takes them away when it is set down, but not
// IPv4's (addrconf_ifdown in net/ipv6/addrconf.c).
func (a *Assigned) Restore() error {
	a.mu.Lock()
	six := slices.DeleteFunc(slices.Clone(a.own), lb.Addr.Is4)
	closed := a.closed
	a.mu.Unlock()
	if closed || len(six) == 0 {
		return nil
	}
	return a.Add(six...)
}

// Remove removes those of the addresses that Assign or Add added; others are left alone. It tries all.
func (a *Assigned) Remove(addrs ...lb.Addr) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.remove(addrs)
}

func (a *Assigned) remove(addrs []lb.Addr) error {
	var errs []error
	for _, addr := range slices.Clone(addrs) {
		i := slices.Index(a.own, addr)
		if i < 0 {
			continue
		}
		if a.announce != nil {
			a.announce.stop(addr)
		}
		err := a.handle.AddrDel(a.link, host(addr))
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.ENODEV) { // gone already
			errs = append(errs, fmt.Errorf("remove address %s from %s: %w", addr, a.link.Attrs().Name, err))
			continue
		}
		a.own = slices.Delete(a.own, i, i+1)
	}
	return errors.Join(errs...)
}

// Close removes what was added and is still there. It may be called twice.
func (a *Assigned) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	a.closed = true
	if a.announce != nil {
		a.announce.close()
	}
	err := a.remove(a.own)
	a.marker.close()
	a.handle.Close()
	return err
}

// mac returns the interface's MAC address as it is now.
func (a *Assigned) mac() (net.HardwareAddr, error) {
	l, err := a.handle.LinkByIndex(a.link.Attrs().Index)
	if err != nil {
		return nil, err
	}
	return l.Attrs().HardwareAddr, nil
}

// host returns addr as netlink takes it: alone on its prefix, without a route to it, and usable at once in IPv6 (no
// duplicate address detection: in a failover the other director may still have it).
func host(addr lb.Addr) *netlink.Addr {
	bits := addr.Bits()
	r := &netlink.Addr{IPNet: &net.IPNet{IP: addr.Netip().AsSlice(), Mask: net.CIDRMask(bits, bits)}}
	if !addr.Is4() {
		r.Flags = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE
	}
	return r
}
