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
	vlan    int
	active  int // a bond's active member (active-backup), 0: it uses all
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
		r.parent, r.vlan = a.ParentIndex, t.VlanId
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

// egress returns the given interface that a frame for addr leaves through when the kernel's route says out, or why
// there is none. A bond is sent through by its members, because that is where weir's sockets are.
func (ls links) egress(out int, addr lb.Addr, given map[int]bool) (int, string) {
	l, ok := ls[out]
	switch {
	case !ok:
		return 0, fmt.Sprintf("leaves through an interface that is gone (index %d)", out)
	case !l.ether:
		return 0, fmt.Sprintf("leaves through %s, which is not an Ethernet device", l.name)
	case given[out]:
		return out, ""
	case l.kind == "bond":
		return ls.member(l, addr, given)
	}
	what := ""
	switch {
	case l.kind == "bridge":
		if m := ls.members(out); len(m) > 0 {
			what = ", a bridge over " + strings.Join(names(m), ", ")
		} else {
			what = ", a bridge"
		}
	case l.kind == "vlan":
		what = fmt.Sprintf(", VLAN %d on %s", l.vlan, ls[l.parent].name)
	}
	return 0, fmt.Sprintf("leaves through %s%s, which weir was not given: --interface %s", l.name, what, l.name)
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
