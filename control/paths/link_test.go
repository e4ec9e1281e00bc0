package paths

import (
	"strings"
	"testing"

	"weir/lb"
)

// Bonds and VLANs are not to be had on every kernel; what is decided about them depends on facts alone.
func TestEgress(t *testing.T) {
	const eth0, eth1, bond0, vlan, br0, lonely, tun, inner, third, service, bonded, far = 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13
	host := links{
		eth0:   {index: eth0, name: "eth0", ether: true, running: true, master: bond0},
		eth1:   {index: eth1, name: "eth1", ether: true, running: true, master: bond0},
		bond0:  {index: bond0, name: "bond0", kind: "bond", ether: true, running: true},
		vlan:   {index: vlan, name: "eth0.100", kind: "vlan", ether: true, running: true, parent: eth0, vlan: 100},
		br0:    {index: br0, name: "br0", kind: "bridge", ether: true, running: true},
		lonely: {index: lonely, name: "bond1", kind: "bond", ether: true, running: true},
		tun:    {index: tun, name: "tun0", kind: "tun", running: true},

		inner:   {index: inner, name: "eth0.100.7", kind: "vlan", ether: true, running: true, parent: vlan, vlan: 7},
		third:   {index: third, name: "eth0.100.7.8", kind: "vlan", ether: true, running: true, parent: inner, vlan: 8},
		service: {index: service, name: "s200", kind: "vlan", ether: true, running: true, parent: eth1, vlan: 200, service: true},
		bonded:  {index: bonded, name: "bond0.9", kind: "vlan", ether: true, running: true, parent: bond0, vlan: 9},
		far:     {index: far, name: "far", kind: "vlan", ether: true, running: true, parent: far, vlan: 3}, // the index is another namespace's
	}
	change := func(index int, f func(*link)) links {
		c := links{}
		for i, l := range host {
			c[i] = l
		}
		l := c[index]
		f(&l)
		c[index] = l
		return c
	}
	a, b := lb.MustParseAddr("10.0.0.2"), lb.MustParseAddr("10.0.0.3") // of different parity
	for _, row := range []struct {
		name   string
		links  links
		out    int
		addr   lb.Addr
		given  []int
		want   int
		reason string // or, of an interface, its VLAN tags
	}{
		{"a given interface", host, eth0, a, []int{eth0}, eth0, ""},
		{"an interface that is not given", host, eth1, a, []int{eth0}, 0, "eth1, which weir was not given: --interface eth1"},
		{"a VLAN over a given interface", host, vlan, a, []int{eth0}, eth0, "100"},
		{"a VLAN over an interface that is not given", host, vlan, a, []int{eth1}, 0, "eth0, which weir was not given: --interface eth0"},
		{"a VLAN inside a VLAN", host, inner, a, []int{eth0}, eth0, "100.7"},
		{"a VLAN inside a given VLAN", host, inner, a, []int{vlan}, vlan, "7"},
		{"a VLAN inside two others", host, third, a, []int{eth0}, 0, "needs a VLAN tag outside of 2 others, the outermost of eth0.100"},
		{"a service VLAN", host, service, a, []int{eth1}, eth1, "200ad"},
		{"a VLAN over a bond", host, bonded, b, []int{eth0, eth1}, eth1, "9"},
		{"a VLAN whose device is in another namespace", host, far, a, []int{eth0}, 0, "needs a VLAN tag outside of 2 others, the outermost of far"},
		{"a given VLAN", host, vlan, a, []int{vlan}, vlan, ""},
		{"an empty bridge", host, br0, a, []int{eth0}, 0, "br0, a bridge, which weir was not given: --interface br0"},
		{"a bond, none of whose members is given", host, bond0, a, []int{vlan}, 0, "bond0, a bond; weir is given its members: --interface eth0 --interface eth1"},
		{"a bond, both of whose members are given: one server", host, bond0, a, []int{eth0, eth1}, eth0, ""},
		{"a bond, both of whose members are given: another server", host, bond0, b, []int{eth0, eth1}, eth1, ""},
		{"a bond, one of whose members is given", host, bond0, b, []int{eth0}, eth0, ""},
		{"a bond, one of whose members lost its link", change(eth1, func(l *link) { l.running = false }), bond0, b, []int{eth0, eth1}, eth0, ""},
		{"a bond's active member", change(bond0, func(l *link) { l.active = eth1 }), bond0, a, []int{eth0, eth1}, eth1, ""},
		{"a bond whose active member is not given", change(bond0, func(l *link) { l.active = eth1 }), bond0, a, []int{eth0}, 0, "weir is given its members: --interface eth1"},
		{"a bond without members", host, lonely, a, []int{eth0}, 0, "bond1, a bond without members"},
		{"a tunnel", host, tun, a, []int{tun}, 0, "tun0, which is not an Ethernet device"},
		{"a device that is gone", host, 99, a, []int{99}, 0, "gone"},
	} {
		given := map[int]bool{}
		for _, g := range row.given {
			given[g] = true
		}
		got, vlans, reason := row.links.egress(row.out, row.addr, given)
		if row.want != 0 {
			if got != row.want || reason != "" || vlans.String() != row.reason {
				t.Errorf("%s: %d with tags %q %q, want %d with %q", row.name, got, vlans, reason, row.want, row.reason)
			}
			continue
		}
		if got != 0 || reason == "" || !strings.HasSuffix(strings.TrimSuffix(reason, " (index 99)"), row.reason) {
			t.Errorf("%s: %d %q, want %d %q", row.name, got, reason, row.want, row.reason)
		}
	}
}
