package addresses

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"weir/lb"
)

// Addresses are marked as weir's by their protocol (IFA_PROTO, Linux 5.18; include/uapi/linux/if_addr.h), so that a run knows those that one
// before it left behind when it was killed. The library does not know the attribute. Numbers from 4 on are anybody's; this is a W.
const (
	ifaProto  = 11
	weirProto = 'W'
)

// marker adds and lists addresses with their protocol. It belongs to the namespace of the thread that made it.
type marker struct{ sockets map[int]*nl.SocketHandle }

func newMarker() (*marker, error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE) // to nothing: it is the way to a socket of our own
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return &marker{map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: s}}}, nil
}

func (m *marker) close() {
	for _, s := range m.sockets {
		s.Close()
	}
}

// add puts addr on an interface, as host describes it.
func (m *marker) add(link netlink.Link, addr lb.Addr) error {
	a, ip := host(addr), addr.Netip().AsSlice()
	family := unix.AF_INET
	if !addr.Is4() {
		family = unix.AF_INET6
	}
	msg := nl.NewIfAddrmsg(family)
	msg.Index, msg.Prefixlen = uint32(link.Attrs().Index), uint8(addr.Bits())
	req := nl.NewNetlinkRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	req.Sockets = m.sockets
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, ip))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, ip))
	req.AddData(nl.NewRtAttr(ifaProto, []byte{weirProto}))
	if a.Flags != 0 {
		req.AddData(nl.NewRtAttr(unix.IFA_FLAGS, binary.NativeEndian.AppendUint32(nil, uint32(a.Flags))))
	}
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// there returns the addresses that the host has; true: a weir put it on the interface with this index.
func (m *marker) there(index int) (map[lb.Addr]bool, error) {
	var all [][]byte
	var err error
	for range 10 { // other changes meanwhile
		req := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
		req.Sockets = m.sockets
		req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
		if all, err = req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWADDR); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	r := make(map[lb.Addr]bool, len(all))
	for _, b := range all {
		msg := nl.DeserializeIfAddrmsg(b)
		attrs, err := nl.ParseRouteAttr(b[msg.Len():])
		if err != nil {
			return nil, fmt.Errorf("list addresses: %w", err)
		}
		var addr lb.Addr
		marked := false
		for _, a := range attrs {
			switch a.Attr.Type {
			case unix.IFA_LOCAL: // on a point-to-point device IFA_ADDRESS is the other end
				addr = from(a.Value)
			case unix.IFA_ADDRESS:
				if !addr.IsValid() {
					addr = from(a.Value)
				}
			case ifaProto:
				marked = len(a.Value) == 1 && a.Value[0] == weirProto
			}
		}
		ours := marked && int(msg.Index) == index && int(msg.Prefixlen) == addr.Bits()
		if before, seen := r[addr]; !seen || before {
			r[addr] = ours // on two interfaces: someone else's too
		}
	}
	return r, nil
}

func from(b []byte) lb.Addr {
	ip, _ := netip.AddrFromSlice(b)
	return lb.AddrFrom(ip)
}
