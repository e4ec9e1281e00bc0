package paths

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

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
