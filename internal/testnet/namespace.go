package testnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Namespace is one host of a network. Its methods that return no error fail the test instead, and so belong to the test's goroutine.
type Namespace struct {
	Name string // for ip netns exec
	Role string // the name it was made by

	net    *Net
	handle netns.NsHandle
	nl     *netlink.Handle
	tables int // routing tables that RouteFrom has filled
}

// Do runs f on a thread that is in the namespace, and returns f's error. Goroutines that f starts are not in the namespace; sockets that it
// opens stay in it.
func (ns *Namespace) Do(f func() error) error {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("namespace %s: %w", ns.Name, err)
	}
	defer home.Close()
	defer func() {
		// A thread that cannot go home stays locked, and ends with its goroutine.
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
	}()
	if err := netns.Set(ns.handle); err != nil {
		return fmt.Errorf("namespace %s: %w", ns.Name, err)
	}
	return f()
}

// Listen is net.Listen in the namespace.
func (ns *Namespace) Listen(network, address string) (l net.Listener, err error) {
	err = ns.Do(func() error {
		l, err = net.Listen(network, address)
		return err
	})
	return l, err
}

// ListenPacket is net.ListenPacket in the namespace.
func (ns *Namespace) ListenPacket(network, address string) (c net.PacketConn, err error) {
	err = ns.Do(func() error {
		c, err = net.ListenPacket(network, address)
		return err
	})
	return c, err
}

// Dial connects from the namespace, within five seconds.
func (ns *Namespace) Dial(network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return ns.DialContext(ctx, network, address)
}

// DialContext connects from the namespace; it is what an http.Transport takes. The address must be an IP address.
func (ns *Namespace) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return ns.DialFrom(ctx, network, "", address)
}

// DialFrom is DialContext from a local address, host:port; "" leaves it to the kernel.
func (ns *Namespace) DialFrom(ctx context.Context, network, local, address string) (c net.Conn, err error) {
	var d net.Dialer
	if local != "" {
		from, err := netip.ParseAddrPort(local)
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(network, "udp") {
			d.LocalAddr = net.UDPAddrFromAddrPort(from)
		} else {
			d.LocalAddr = net.TCPAddrFromAddrPort(from)
		}
	}
	err = ns.Do(func() error {
		c, err = d.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Sysctl sets a variable of the namespace, named with dots.
func (ns *Namespace) Sysctl(name, value string) {
	ns.net.t.Helper()
	err := ns.Do(func() error {
		return os.WriteFile("/proc/sys/"+strings.ReplaceAll(name, ".", "/"), []byte(value), 0)
	})
	if err != nil {
		ns.net.t.Fatalf("%s: set %s to %s: %v", ns.Name, name, value, err)
	}
}

// Forward makes the namespace a router, of both families.
func (ns *Namespace) Forward() {
	ns.net.t.Helper()
	ns.Sysctl("net.ipv4.ip_forward", "1")
	ns.Sysctl("net.ipv6.conf.all.forwarding", "1")
}

// AddAddr adds an address with its prefix length to a device; an IPv6 one is usable at once.
func (ns *Namespace) AddAddr(device, prefix string) {
	ns.net.t.Helper()
	err := ns.addAddr(device, prefix)
	if err != nil {
		ns.net.t.Fatalf("%s: add address %s to %s: %v", ns.Name, prefix, device, err)
	}
}

func (ns *Namespace) addAddr(device, prefix string) error {
	addr, err := netlink.ParseAddr(prefix)
	if err != nil {
		return err
	}
	link, err := ns.nl.LinkByName(device)
	if err != nil {
		return err
	}
	if addr.IP.To4() == nil {
		addr.Flags = unix.IFA_F_NODAD // even with accept_dad off, an address is tentative until a kernel worker has looked at it
	}
	return ns.nl.AddrReplace(link, addr)
}

// Route adds or replaces the route to a prefix ("10.0.0.0/24"; everything is "0.0.0.0/0" or "::/0") by a gateway's address ("10.0.0.1") or
// by a device ("eth0"). Packets on it are of at most 1,500 bytes, whatever the device could carry.
func (ns *Namespace) Route(prefix, by string) {
	ns.net.t.Helper()
	if err := ns.route(0, prefix, by); err != nil {
		ns.net.t.Fatalf("%s: route %s by %s: %v", ns.Name, prefix, by, err)
	}
}

// RouteFrom is Route for packets whose source is the address from, and for no others.
func (ns *Namespace) RouteFrom(from netip.Addr, prefix, by string) {
	ns.net.t.Helper()
	ns.tables++
	rule := netlink.NewRule()
	rule.Family, rule.Table, rule.Src = family(from), 100+ns.tables, ipNet(netip.PrefixFrom(from, from.BitLen()))
	err := ns.nl.RuleAdd(rule)
	if err == nil {
		err = ns.route(rule.Table, prefix, by)
	}
	if err != nil {
		ns.net.t.Fatalf("%s: route from %s to %s by %s: %v", ns.Name, from, prefix, by, err)
	}
}

func (ns *Namespace) route(table int, prefix, by string) error {
	dst, err := netip.ParsePrefix(prefix)
	if err != nil {
		return err
	}
	r := &netlink.Route{Table: table, Dst: ipNet(dst), Family: family(dst.Addr()), MTU: 1500}
	if gateway, err := netip.ParseAddr(by); err == nil {
		r.Gw = gateway.AsSlice()
		return ns.nl.RouteReplace(r)
	}
	link, err := ns.nl.LinkByName(by)
	if err != nil {
		return err
	}
	r.LinkIndex = link.Attrs().Index
	if dst.Addr().Is4() {
		r.Scope = netlink.SCOPE_LINK
	}
	return ns.nl.RouteReplace(r)
}

func family(a netip.Addr) int {
	if a.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
