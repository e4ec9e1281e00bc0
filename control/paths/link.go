package paths

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weir/lb"
)

// link is what a path needs to know of a device. Comparable: a notification that changes none of it is no change.
type link struct {
	index   int
	name    string
	kind    string // "bond", "bridge", "vlan", "veth", "device", ...
	mac     [6]byte
	mtu     int
	ether   bool // frames have Ethernet headers
	running bool // up, and has carrier
	master  int  // the bond or bridge it is a member of, 0: none
	parent  int  // the device a VLAN is on, 0: none
	vlan    uint16
	service bool // the VLAN's tag is an 802.1ad one
	active  int  // a bond's active member (active-backup), 0: it uses all
}

func linkFrom(l netlink.Link) link {
	a := l.Attrs()
	r := link{
		index: a.Index, name: a.Name, kind: l.Type(), mtu: a.MTU, master: a.MasterIndex,
		ether:   a.EncapType == "ether",
		running: a.RawFlags&unix.IFF_UP != 0 && a.RawFlags&unix.IFF_RUNNING != 0,
	}
	copy(r.mac[:], a.HardwareAddr)
	switch t := l.(type) {
	case *netlink.Vlan:
		r.parent, r.vlan, r.service = a.ParentIndex, uint16(t.VlanId), t.VlanProtocol == netlink.VLAN_PROTOCOL_8021AD
	case *netlink.Bond:
		r.active = max(t.ActiveSlave, 0)
	}
	return r
}

// links are the devices of the host by index.
type links map[int]link

// members returns the devices whose master is index, in order of their own.
func (ls links) members(index int) []link {
	var m []link
	for _, i := range slices.Sorted(maps.Keys(ls)) {
		if ls[i].master == index {
			m = append(m, ls[i])
		}
	}
	return m
}

// egress returns the given interface that a frame for addr leaves through when the kernel's route says out, and the VLAN tags it gets,
// or why there is none. A bond is sent through by its members, because that is where weir's sockets are, and a VLAN by what it is on.
func (ls links) egress(out int, addr lb.Addr, given map[int]bool) (iface int, vlans lb.VLANs, refused string) {
	return ls.below(out, addr, given, 0)
}

// below is egress for a device that a number of VLAN devices are on.
func (ls links) below(out int, addr lb.Addr, given map[int]bool, tags int) (iface int, vlans lb.VLANs, refused string) {
	l, ok := ls[out]
	switch {
	case !ok:
		return 0, 0, fmt.Sprintf("leaves through an interface that is gone (index %d)", out)
	case !l.ether:
		return 0, 0, fmt.Sprintf("leaves through %s, which is not an Ethernet device", l.name)
	case given[out]:
		return out, 0, ""
	case l.kind == "bond":
		iface, refused = ls.member(l, addr, given)
		return iface, 0, refused
	case l.kind == "vlan":
		return ls.tagged(l, addr, given, tags)
	}
	what := ""
	switch {
	case l.kind == "bridge":
		if m := ls.members(out); len(m) > 0 {
			what = ", a bridge over " + strings.Join(names(m), ", ")
		} else {
			what = ", a bridge"
		}
	}
	return 0, 0, fmt.Sprintf("leaves through %s%s, which weir was not given: --interface %s", l.name, what, l.name)
}

// tagged is below for a VLAN device: what it is on, and one more tag inside.
func (ls links) tagged(vlan link, addr lb.Addr, given map[int]bool, tags int) (iface int, vlans lb.VLANs, refused string) {
	if tags == lb.MaxVLANs {
		return 0, 0, fmt.Sprintf("needs a VLAN tag outside of %d others, the outermost of %s", tags, vlan.name)
	}
	iface, vlans, refused = ls.below(vlan.parent, addr, given, tags+1)
	etherType := uint16(lb.CustomerTag)
	if vlan.service {
		etherType = lb.ServiceTag
	}
	if refused != "" {
		return 0, 0, refused
	}
	return iface, vlans.Push(etherType, vlan.vlan), ""
}

// member picks the member of a bond that frames for addr leave through: the active one of an active-backup bond, else
// always the same one for a server, as a bond's own hash would.
func (ls links) member(bond link, addr lb.Addr, given map[int]bool) (int, string) {
	all := ls.members(bond.index)
	if len(all) == 0 {
		return 0, fmt.Sprintf("leaves through %s, a bond without members", bond.name)
	}
	var missing []string
	for _, m := range all {
		if !given[m.index] {
			missing = append(missing, "--interface "+m.name)
		}
	}
	if bond.active != 0 && given[bond.active] {
		return bond.active, ""
	}
	usable := slices.DeleteFunc(all, func(m link) bool { return !given[m.index] || !m.running || bond.active != 0 })
	if len(usable) > 0 {
		return usable[(addr.Hi^addr.Lo)%uint64(len(usable))].index, ""
	}
	if len(missing) > 0 {
		return 0, fmt.Sprintf("leaves through %s, a bond; weir is given its members: %s", bond.name, strings.Join(missing, " "))
	}
	return 0, fmt.Sprintf("leaves through %s, none of whose members has a link", bond.name)
}

func names(ls []link) []string {
	n := make([]string, len(ls))
	for i, l := range ls {
		n[i] = l.name
	}
	return n
}
