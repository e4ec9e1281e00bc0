package paths

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
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
	HidesTags string // the features, as for ethtool -K, by which the device takes VLAN tags out of frames before XDP sees these; "" for none

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
	f.HidesTags = hidesTags(a.Index)
	return f
}
