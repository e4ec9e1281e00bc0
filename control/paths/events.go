package paths

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"weir/lb"
)

// event is one notification of the kernel's, reduced to what a Watcher does about it.
type event struct {
	kind    eventKind
	prefix  netip.Prefix // routeChanged: destinations inside may be routed differently now
	hop     hop          // neighChanged
	neigh   neigh        // neighChanged; zero: the entry is gone
	link    int          // linkChanged: its index
	address address      // addressAdded, addressRemoved
}

type eventKind uint8

const (
	nothing eventKind = iota
	routeChanged
	rulesChanged // policy rules or next-hop objects: any destination may be routed differently
	neighChanged
	linkChanged
	addressAdded
	addressRemoved
	overrun // the kernel had to drop notifications
)

// address is one of the host's own addresses, where it is. One address may be on several interfaces.
type address struct {
	iface  int
	addr   lb.Addr
	prefix uint8
}

// groups that are listened to, as bits; all on one socket, so that there is one order and one overrun.
const groups = 1<<(unix.RTNLGRP_LINK-1) | 1<<(unix.RTNLGRP_NEIGH-1) |
	1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV6_IFADDR-1) |
	1<<(unix.RTNLGRP_IPV4_ROUTE-1) | 1<<(unix.RTNLGRP_IPV6_ROUTE-1) |
	1<<(unix.RTNLGRP_IPV4_RULE-1) | 1<<(unix.RTNLGRP_IPV6_RULE-1) | 1<<(unix.RTNLGRP_NEXTHOP-1)

// receiveBuffer takes some 10,000 notifications while the watcher is busy.
const receiveBuffer = 8 << 20

// subscription is the socket notifications come by. It belongs to the namespace of the thread that opened it.
type subscription struct {
	file   *os.File
	raw    syscall.RawConn
	closed atomic.Bool // the poller's own error for a closed file is not exported
}

func subscribe() (*subscription, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	file := os.NewFile(uintptr(fd), "netlink")
	// Without the privilege for a large buffer the default one has to do; an overrun is survived.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		file.Close()
		return nil, fmt.Errorf("subscribe to netlink: %w", err)
	}
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return &subscription{file: file, raw: raw}, nil
}

// close makes read return.
func (s *subscription) close() {
	if !s.closed.Swap(true) {
		s.file.Close()
	}
}

// read hands every event to emit until the socket is closed (nil) or fails.
func (s *subscription) read(emit func(event)) error {
	buf := make([]byte, 64<<10) // the kernel's notifications are at most a page or two; dumps do not come this way
	for {
		n, err := s.receive(buf)
		switch {
		case err != nil && s.closed.Load():
			return nil
		case errors.Is(err, unix.ENOBUFS):
			// Nothing more is queued until what is queued was taken (netlink_broadcast_deliver, NETLINK_S_CONGESTED).
			// It is older than what was dropped: applied after the reload that follows it would bring the past back.
			if err := s.drain(buf); err != nil && !s.closed.Load() {
				return err
			}
			emit(event{kind: overrun})
			continue
		case err != nil:
			return fmt.Errorf("read netlink: %w", err)
		}
		msgs, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return fmt.Errorf("read netlink: %w", err)
		}
		for _, m := range msgs {
			if e := decode(m); e.kind != nothing {
				emit(e)
			}
		}
	}
}

// receive blocks for one datagram of the kernel's; those of other processes (they need CAP_NET_ADMIN) are of length 0.
func (s *subscription) receive(buf []byte) (n int, err error) {
	var from unix.Sockaddr
	rerr := s.raw.Read(func(fd uintptr) bool {
		n, from, err = unix.Recvfrom(int(fd), buf, 0)
		return err != unix.EAGAIN && err != unix.EINTR
	})
	if rerr != nil {
		return 0, rerr
	}
	if err != nil {
		return 0, err
	}
	if sa, ok := from.(*unix.SockaddrNetlink); !ok || sa.Pid != 0 {
		return 0, nil
	}
	return n, nil
}

// drain throws away what is queued.
func (s *subscription) drain(buf []byte) error {
	var err error
	rerr := s.raw.Read(func(fd uintptr) bool {
		for err == nil || err == unix.ENOBUFS || err == unix.EINTR {
			_, _, err = unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
		}
		return true
	})
	if rerr != nil {
		return fmt.Errorf("read netlink: %w", rerr)
	}
	if err != unix.EAGAIN {
		return fmt.Errorf("read netlink: %w", err)
	}
	return nil
}

// decode reads one message; what it does not understand is nothing.
func decode(m syscall.NetlinkMessage) event {
	switch m.Header.Type {
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		if len(m.Data) < unix.SizeofNdMsg {
			return event{}
		}
		n, err := netlink.NeighDeserialize(m.Data)
		if err != nil {
			return event{}
		}
		h, entry, ok := neighFrom(n)
		if !ok {
			return event{}
		}
		if m.Header.Type == unix.RTM_DELNEIGH {
			entry = neigh{}
		}
		return event{kind: neighChanged, hop: h, neigh: entry}
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return decodeRoute(m.Data)
	case unix.RTM_NEWRULE, unix.RTM_DELRULE, unix.RTM_NEWNEXTHOP, unix.RTM_DELNEXTHOP:
		return event{kind: rulesChanged}
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		// A device that leaves a bridge is reported as RTM_DELLINK of family AF_BRIDGE; the device itself is not gone.
		if len(m.Data) < unix.SizeofIfInfomsg || m.Data[0] != unix.AF_UNSPEC {
			return event{}
		}
		return event{kind: linkChanged, link: int(nl.DeserializeIfInfomsg(m.Data).Index)}
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		a, ok := decodeAddress(m.Data)
		switch {
		case !ok:
			return event{}
		case m.Header.Type == unix.RTM_NEWADDR:
			return event{kind: addressAdded, address: a}
		}
		return event{kind: addressRemoved, address: a}
	}
	return event{}
}

func decodeRoute(b []byte) event {
	if len(b) < unix.SizeofRtMsg {
		return event{}
	}
	msg := nl.DeserializeRtMsg(b)
	attrs, err := nl.ParseRouteAttr(b[msg.Len():])
	if err != nil {
		return event{}
	}
	dst := netip.IPv4Unspecified()
	if msg.Family == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	} else if msg.Family != unix.AF_INET {
		return event{}
	}
	for _, a := range attrs {
		if a.Attr.Type == unix.RTA_DST {
			if d, ok := netip.AddrFromSlice(a.Value); ok {
				dst = d
			}
		}
	}
	return event{kind: routeChanged, prefix: netip.PrefixFrom(dst, int(msg.Dst_len))}
}

func decodeAddress(b []byte) (address, bool) {
	if len(b) < unix.SizeofIfAddrmsg {
		return address{}, false
	}
	msg := nl.DeserializeIfAddrmsg(b)
	attrs, err := nl.ParseRouteAttr(b[msg.Len():])
	if err != nil {
		return address{}, false
	}
	a := address{iface: int(msg.Index), prefix: msg.Prefixlen}
	for _, at := range attrs {
		switch {
		case at.Attr.Type == unix.IFA_LOCAL: // on a point-to-point device IFA_ADDRESS is the other end
			a.addr = addrFrom(at.Value)
		case at.Attr.Type == unix.IFA_ADDRESS && !a.addr.IsValid():
			a.addr = addrFrom(at.Value)
		}
	}
	return a, a.addr.IsValid()
}
