package paths

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Interface is what there is to know of a network interface before weir attaches to it.
type Interface struct {
	Index     int
	Name      string
	Kind      string // the kernel's word: "veth", "bond", "bridge", "vlan", "tun"; "device" for hardware
	Driver    string // "" where the driver does not say
	MAC       [6]byte
	MTU       int    // bytes
	Up        bool   // set up by the operator (IFF_UP)
	OperState string // RFC 2863: "up", "down", "dormant", "unknown" (many virtual devices), ...
	Ethernet  bool   // frames have Ethernet headers; weir serves no other
	RxQueues  int    // in use now; AF_XDP queue numbers are below
	TxQueues  int

	Master     string // the bond, bridge or VRF it is a member of; "" for none
	MasterKind string // Master's Kind
}

// Interfaces returns the interfaces of the calling thread's network namespace, by index.
func Interfaces() ([]Interface, error) {
	ls, err := dump(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	byIndex := make(map[int]netlink.Link, len(ls))
	for _, l := range ls {
		byIndex[l.Attrs().Index] = l
	}
	r := make([]Interface, 0, len(ls))
	for _, l := range ls {
		r = append(r, interfaceFrom(l, byIndex[l.Attrs().MasterIndex]))
	}
	slices.SortFunc(r, func(a, b Interface) int { return a.Index - b.Index })
	return r, nil
}

// InterfaceByName returns one of them; the error for a name that no interface has lists those there are.
func InterfaceByName(name string) (Interface, error) {
	all, err := Interfaces()
	if err != nil {
		return Interface{}, err
	}
	known := make([]string, len(all))
	for i, f := range all {
		if f.Name == name {
			return f, nil
		}
		known[i] = f.Name
	}
	return Interface{}, fmt.Errorf("no interface %s; there are %s", name, strings.Join(known, ", "))
}

func interfaceFrom(l, master netlink.Link) Interface {
	a := l.Attrs()
	f := Interface{
		Index: a.Index, Name: a.Name, Kind: l.Type(), MTU: a.MTU,
		Up: a.RawFlags&unix.IFF_UP != 0, OperState: a.OperState.String(), Ethernet: a.EncapType == "ether",
	}
	copy(f.MAC[:], a.HardwareAddr)
	if master != nil {
		f.Master, f.MasterKind = master.Attrs().Name, master.Type()
	}
	f.Driver = driver(a.Name)
	var ok bool
	if f.RxQueues, f.TxQueues, ok = channels(a.Index); !ok {
		// What the device was made with; drivers that use fewer than that have channels to say so.
		f.RxQueues, f.TxQueues = max(a.NumRxQueues, 1), max(a.NumTxQueues, 1)
	}
	return f
}

// driver returns the name of the interface's driver, "" where it does not say.
func driver(name string) string {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	info, err := unix.IoctlGetEthtoolDrvinfo(fd, name)
	if err != nil {
		return ""
	}
	return unix.ByteSliceToString(info.Driver[:])
}

// channels returns how many receive and transmit queues the device has in use, false where the driver does not say. By
// netlink (Documentation/networking/ethtool-netlink.rst, CHANNELS_GET), because /sys shows the namespace it was mounted in.
func channels(index int) (rx, tx int, ok bool) {
	family, err := netlink.GenlFamilyGet(unix.ETHTOOL_GENL_NAME)
	if err != nil {
		return 0, 0, false
	}
	req := nl.NewNetlinkRequest(int(family.ID), 0)
	req.AddData(&nl.Genlmsg{Command: unix.ETHTOOL_MSG_CHANNELS_GET, Version: unix.ETHTOOL_GENL_VERSION})
	header := nl.NewRtAttr(unix.NLA_F_NESTED|unix.ETHTOOL_A_CHANNELS_HEADER, nil)
	header.AddRtAttr(unix.ETHTOOL_A_HEADER_DEV_INDEX, nl.Uint32Attr(uint32(index)))
	req.AddData(header)
	msgs, err := req.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil || len(msgs) != 1 || len(msgs[0]) < nl.SizeofGenlmsg {
		return 0, 0, false
	}
	attrs, err := nl.ParseRouteAttr(msgs[0][nl.SizeofGenlmsg:])
	if err != nil {
		return 0, 0, false
	}
	for _, a := range attrs {
		if len(a.Value) != 4 {
			continue
		}
		n := int(binary.NativeEndian.Uint32(a.Value))
		switch a.Attr.Type {
		case unix.ETHTOOL_A_CHANNELS_RX_COUNT:
			rx += n
		case unix.ETHTOOL_A_CHANNELS_TX_COUNT:
			tx += n
		case unix.ETHTOOL_A_CHANNELS_COMBINED_COUNT:
			rx, tx = rx+n, tx+n
		}
	}
	return rx, tx, rx > 0 && tx > 0
}
