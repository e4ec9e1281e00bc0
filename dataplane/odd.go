package dataplane

import (
	"weir/dataplane/packet"
	"weir/dataplane/reason"
	"weir/lb"
)

// odd says what keeps a packet from opening a connection although a service has its address: what the kernel refuses before IPVS
// sees it, or does not show IPVS. An established connection's packets need not be asked again: its addresses are the same.
func odd(t *Table, p *packet.Packet) reason.Reason {
	src, dst := p.Flow.Src, p.Flow.Dst
	switch {
	// A firewall mark's rule may name them; they are no one host's to balance.
	case manyHosts(dst):
		return reason.NotUnicast
	// The kernel drops these as it routes (ip_route_input_slow, fib_validate_source; ip6_rcv_core), so giving them back would only let
	// forged sources use up the host path's rate. An own address, the VIP's among them, cannot come in by a wire, but in a land attack.
	case martian(src) || src == dst || t.own[src]:
		return reason.Martian
	// The kernel would ask for its sender's address; weir answers to where a packet came from.
	case p.FromGroup():
		return reason.Martian
	}
	if p.Is6() {
		return reason.None
	}
	ip := p.IP()
	switch header := ip[:ip.HeaderLen()]; {
	// ip_rcv_core. On an established connection a wrong checksum stays wrong on its way, and the receiver drops it.
	case packet.Checksum(header) != 0:
		return reason.BadIPHeader
	// ip_rcv_options drops these unless accept_source_route is set: its decision. All other options travel along, as in IPVS.
	case len(header) > packet.IPv4MinLen && sourceRouted(header[packet.IPv4MinLen:]):
		return reason.SourceRoute
	}
	return reason.None
}

// manyHosts reports whether a destination is a group's or everybody's.
func manyHosts(a lb.Addr) bool {
	if a.Is4() {
		return a.V4()>>28 == 0xe || a.V4() == 0xffffffff
	}
	return a.Hi>>56 == 0xff
}

// martian reports whether an address cannot be a sender's outside a host (RFC 1812 section 5.3.7, RFC 6890, RFC 4291 section 2.5, 2.7):
// "this network", loopback, multicast, class E (which Linux would route), broadcast; ::, ::1, multicast. IPv4-mapped ones do not get
// past parsing.
func martian(a lb.Addr) bool {
	if a.Is4() {
		first := a.V4() >> 24
		return first == 0 || first == 127 || first >= 224
	}
	return a.Hi>>56 == 0xff || a.Hi == 0 && a.Lo <= 1
}

// Options of IPv4 (RFC 791 section 3.1). Those from two on have a length.
const (
	optionEnd, optionNop                = 0, 1
	optionLooseRoute, optionStrictRoute = 131, 137
)

// sourceRouted reports whether options say which way a packet is to go on from here, or cannot be read.
func sourceRouted(b []byte) bool {
	for len(b) > 0 && b[0] != optionEnd {
		switch {
		case b[0] == optionNop:
			b = b[1:]
		case len(b) < 2 || b[1] < 2 || int(b[1]) > len(b), b[0] == optionLooseRoute, b[0] == optionStrictRoute:
			return true
		default:
			b = b[b[1]:]
		}
	}
	return false
}

// SetOwn makes addrs the host's own addresses: no client has one of them.
func (e *Edit) SetOwn(addrs []lb.Addr) {
	e.table.own = make(map[lb.Addr]bool, len(addrs))
	for _, a := range addrs {
		e.table.own[a] = true
	}
}
