package paths

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weir/lb"
)

// route is the kernel's answer for one destination.
type route struct {
	local   bool
	iface   int
	gateway lb.Addr // zero: on link
	source  lb.Addr
	mtu     int    // the route's metric, 0: none
	refused string // why there is no route
}

// next returns the neighbour that packets for addr are handed to.
func (r route) next(addr lb.Addr) hop {
	if r.gateway.IsValid() {
		addr = r.gateway
	}
	return hop{r.iface, addr}
}

// lookupRoute asks the kernel as a local sender without a bound source would: policy rules on source addresses or
// marks do not see what weir sends.
func lookupRoute(h *netlink.Handle, addr lb.Addr) route {
	ip := addr.Netip()
	if ip.IsLinkLocalUnicast() && ip.Is6() {
		return route{refused: "a link-local address, which names no server without its interface"}
	}
	rs, err := h.RouteGet(net.IP(ip.AsSlice()))
	if err == nil && len(rs) == 0 {
		err = unix.ENETUNREACH
	}
	if err != nil {
		return route{refused: refusal(err)}
	}
	r := rs[0]
	switch r.Type {
	case unix.RTN_UNICAST, unix.RTN_LOCAL:
	default:
		return route{refused: fmt.Sprintf("the route to it is of type %s", routeType(r.Type))}
	}
	out := route{
		local:   r.Type == unix.RTN_LOCAL,
		iface:   r.LinkIndex,
		gateway: addrFrom(r.Gw),
		source:  addrFrom(r.Src),
		mtu:     r.MTU,
	}
	if via, ok := r.Via.(*netlink.Via); ok { // an IPv6 next hop of an IPv4 route, RFC 8950
		out.gateway = addrFrom(via.Addr)
	}
	return out
}

// refusal words the errors of fib_props (net/ipv4/fib_semantics.c), which are what route types other than unicast
// and local look like to a lookup.
func refusal(err error) string {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return fmt.Sprintf("no route: %v", err)
	}
	switch errno {
	case unix.ENETUNREACH:
		return "no route"
	case unix.EHOSTUNREACH:
		return "no route (unreachable)"
	case unix.EACCES:
		return "no route (prohibited)"
	case unix.EINVAL:
		return "no route (blackhole)"
	}
	return fmt.Sprintf("no route: %v", err)
}

func routeType(t int) string {
	switch t {
	case unix.RTN_BROADCAST:
		return "broadcast"
	case unix.RTN_ANYCAST:
		return "anycast"
	case unix.RTN_MULTICAST:
		return "multicast"
	case unix.RTN_BLACKHOLE:
		return "blackhole"
	case unix.RTN_UNREACHABLE:
		return "unreachable"
	case unix.RTN_PROHIBIT:
		return "prohibit"
	}
	return fmt.Sprint(t)
}

func addrFrom(ip net.IP) lb.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return lb.AddrFrom(a)
}
