package paths

import (
	"encoding/binary"
	"fmt"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"weir/lb"
)

// inquiry asks the kernel for routes, for many destinations with one system call. It belongs to the namespace of the thread that opened it.
//
// A request is answered before sendto returns (netlink_unicast_kernel in net/netlink/af_netlink.c runs it in the caller's context), so
// the answers are there to be taken without waiting. This costs 3 to 4 us a route, a fifth of what a
// request and its answer by themselves cost through the library (BenchmarkRoutes; AMD EPYC, Linux 6.18, 2026-11-23).
type inquiry struct {
	mu     sync.Mutex
	fd     int // -1: closed
	serial uint32
	ask    []byte
	answer [16 << 10]byte
}

// atOnce is how many routes are asked for with one system call. The answers, less than 1 KiB each as the kernel counts them, must fit
// the socket's buffer, which takes 212,992 bytes unless the host says otherwise (net.core.rmem_default).
const atOnce = 128

func newInquiry() (*inquiry, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<20) // what finds no room is asked for again
	return &inquiry{fd: fd}, nil
}

func (q *inquiry) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.fd >= 0 {
		unix.Close(q.fd)
		q.fd = -1
	}
}

// route returns the route to one address.
func (q *inquiry) route(addr lb.Addr) route { return q.routes([]lb.Addr{addr})[0] }

// routes returns the routes to addrs, as the kernel has them for a local sender without a bound source: policy rules on source addresses or
// marks do not see what weir sends.
func (q *inquiry) routes(addrs []lb.Addr) []route {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := make([]route, len(addrs))
	for from := 0; from < len(addrs); from += atOnce {
		to := min(from+atOnce, len(addrs))
		q.some(addrs[from:to], all[from:to])
	}
	return all
}

// some is routes for as many as are asked for at once.
func (q *inquiry) some(addrs []lb.Addr, found []route) {
	waiting := make([]int, 0, len(addrs)) // those not known yet
	for i, a := range addrs {
		if ip := a.Netip(); ip.Is6() && ip.IsLinkLocalUnicast() {
			found[i] = route{refused: "a link-local address, which names no server without its interface"}
			continue
		}
		waiting = append(waiting, i)
	}
	// An answer that found no room is not sent again (netlink_attachskb), so what is missing is asked for anew.
	for tries := 0; len(waiting) > 0; tries++ {
		err := q.exchange(addrs, waiting, found)
		left := waiting[:0]
		for _, i := range waiting {
			if found[i] == (route{}) {
				left = append(left, i)
			}
		}
		if tries > 3 && err == nil && len(left) == len(waiting) {
			err = unix.ENOBUFS
		}
		if waiting = left; err != nil {
			for _, i := range waiting {
				found[i] = route{refused: refusal(err)}
			}
			return
		}
	}
}

// exchange sends the requests for those of addrs and takes the answers that there are.
func (q *inquiry) exchange(addrs []lb.Addr, which []int, found []route) error {
	q.ask = q.ask[:0]
	first := q.serial + 1
	for _, i := range which {
		q.serial++
		q.ask = appendRouteRequest(q.ask, q.serial, addrs[i])
	}
	for {
		err := unix.Sendto(q.fd, q.ask, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return err
		}
	}
	for taken := 0; taken < len(which); {
		n, err := unix.Read(q.fd, q.answer[:])
		switch {
		case err == unix.EAGAIN:
			return nil
		case err == unix.EINTR, err == unix.ENOBUFS: // the latter: an answer was lost
			continue
		case err != nil:
			return err
		}
		for b := q.answer[:n]; len(b) >= unix.NLMSG_HDRLEN; {
			size, kind, serial := binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint32(b[8:])
			if size < unix.NLMSG_HDRLEN || int(size) > len(b) {
				break
			}
			if at := serial - first; int(at) < len(which) {
				found[which[at]] = answered(kind, b[unix.NLMSG_HDRLEN:size])
				taken++
			}
			b = b[min(align(int(size)), len(b)):]
		}
	}
	return nil
}

// align rounds up as netlink does, messages and attributes.
func align(n int) int { return (n + 3) &^ 3 }

// appendRouteRequest appends an RTM_GETROUTE for one destination (include/uapi/linux/rtnetlink.h, struct rtmsg).
func appendRouteRequest(b []byte, serial uint32, addr lb.Addr) []byte {
	ip := addr.Netip()
	family, bytes := byte(unix.AF_INET), ip.AsSlice()
	if ip.Is6() {
		family = unix.AF_INET6
	}
	native := binary.NativeEndian
	size := unix.NLMSG_HDRLEN + unix.SizeofRtMsg + unix.SizeofRtAttr + len(bytes)
	b = native.AppendUint32(b, uint32(size))
	b = native.AppendUint16(b, unix.RTM_GETROUTE)
	b = native.AppendUint16(b, unix.NLM_F_REQUEST)
	b = native.AppendUint32(b, serial)
	b = native.AppendUint32(b, 0) // from this socket
	b = append(b, family, byte(ip.BitLen()), 0, 0, 0, 0, 0, 0)
	b = native.AppendUint32(b, unix.RTM_F_LOOKUP_TABLE)
	b = native.AppendUint16(b, uint16(unix.SizeofRtAttr+len(bytes)))
	b = native.AppendUint16(b, unix.RTA_DST)
	return append(b, bytes...)
}

// answered reads the answer to a request.
func answered(kind uint16, b []byte) route {
	switch {
	case kind == unix.NLMSG_ERROR && len(b) >= 4:
		return route{refused: refusal(syscall.Errno(-int32(binary.NativeEndian.Uint32(b))))}
	case kind != unix.RTM_NEWROUTE || len(b) < unix.SizeofRtMsg:
		return route{refused: fmt.Sprintf("no route: the kernel's answer is of type %d", kind)}
	}
	msg := nl.DeserializeRtMsg(b)
	if msg.Type != unix.RTN_UNICAST && msg.Type != unix.RTN_LOCAL {
		return route{refused: fmt.Sprintf("the route to it is of type %s", routeType(int(msg.Type)))}
	}
	r := route{local: msg.Type == unix.RTN_LOCAL}
	eachAttribute(b[unix.SizeofRtMsg:], func(kind uint16, value []byte) {
		switch kind {
		case unix.RTA_OIF:
			r.iface = number(value)
		case unix.RTA_GATEWAY:
			r.gateway = addrFrom(value)
		case unix.RTA_VIA: // an IPv6 next hop of an IPv4 route, RFC 8950: struct rtvia has the family first
			r.gateway = addrFrom(value[min(2, len(value)):])
		case unix.RTA_PREFSRC:
			r.source = addrFrom(value)
		case unix.RTA_METRICS:
			eachAttribute(value, func(kind uint16, value []byte) {
				if kind == unix.RTAX_MTU {
					r.mtu = number(value)
				}
			})
		}
	})
	return r
}

// eachAttribute calls f for every attribute of a message (struct rtattr).
func eachAttribute(b []byte, f func(kind uint16, value []byte)) {
	for len(b) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			return
		}
		f(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofRtAttr:size])
		b = b[min(align(size), len(b)):]
	}
}

func number(value []byte) int {
	if len(value) < 4 {
		return 0
	}
	return int(int32(binary.NativeEndian.Uint32(value)))
}
