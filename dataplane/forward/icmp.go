package forward

import (
	"encoding/binary"

	"weir/dataplane/packet"
	"weir/lb"
)

// ICMP is an error that a director sends itself.
type ICMP uint8

const (
	PortUnreachable ICMP = iota
	FragNeeded           // "packet too big" over IPv6
	TimeExceeded
	HostUnreachable

	// What FULLNAT between IP versions says as well.
	noRoute
	prohibited
	protocolUnreachable // over IPv6 a parameter problem: the next header
	reassemblyTimeExceeded
)

// messages are the types and codes by family (RFC 792, RFC 4443).
var messages = [...]struct{ type4, code4, type6, code6 uint8 }{
	PortUnreachable: {3, 3, 1, 4},
	FragNeeded:      {3, 4, 2, 0},
	TimeExceeded:    {11, 0, 3, 0},
	HostUnreachable: {3, 1, 1, 3},

	noRoute:                {3, 0, 1, 0},
	prohibited:             {3, 10, 1, 1},
	protocolUnreachable:    {3, 2, 4, 1},
	reassemblyTimeExceeded: {11, 1, 3, 1},
}

// nextHeaderAt is where in an IPv6 header the next one's type stands: what protocolUnreachable points at.
const nextHeaderAt = 6

const (
	protoICMP   = 1
	protoICMPv6 = 58
	icmpHeader  = 8
	// maxICMP bounds the whole message: as much of the original as fits 576 bytes (RFC 1812 4.3.2.3), over IPv6 the least MTU that a link
	// may have (RFC 4443 section 2.4 c).
	maxICMP   = 576
	maxICMPv6 = 1280
	icmpTTL   = 64
	// icmpTOS is precedence "internetwork control" (RFC 1812 4.3.2.5), which Linux uses for errors too (net/ipv4/icmp.c); over IPv6 it uses
	// none (net/ipv6/icmp.c).
	icmpTOS = 0xc0
)

// Answer turns a packet, unchanged since it was parsed, into an ICMP error back to the station it came from, with source as
// its sender, of the packet's family, and mtu in a FragNeeded. The frame goes out by the interface it came in by. It reports false, and
// leaves the packet alone, when no error may be sent about it (RFC 1812 4.3.2.7, RFC 4443 section 2.4 e): to a source that names no
// single host, by its IP or its MAC address. Broadcast frames do not get past parsing; whoever calls it keeps ICMP errors and later fragments from it.
func Answer(p *packet.Packet, m ICMP, source lb.Addr, mtu int) bool {
	if !singleHost(p.Flow.Src) || p.FromGroup() || source.Is4() == p.Is6() || !source.IsValid() {
		return false
	}
	header, most := packet.IPv4MinLen, maxICMP
	if p.Is6() {
		header, most = packet.IPv6Len, maxICMPv6
	}
	quote := min(p.Len(), most-header-icmpHeader)
	added := header + icmpHeader
	dst, src, vlans := p.SrcMAC(), p.DstMAC(), p.VLANs()
	l3 := p.L3 - added
	copy(p.Buf[l3-2:l3], p.Buf[p.L3-2:p.L3]) // the EtherType
	message := p.Buf[l3+header : l3+added+quote]
	clear(message[:icmpHeader])
	if p.Is6() {
		message[0], message[1] = messages[m].type6, messages[m].code6
		switch m {
		case FragNeeded:
			binary.BigEndian.PutUint32(message[4:8], uint32(mtu))
		case protocolUnreachable:
			message[7] = nextHeaderAt
		}
		packet.PutIPv6(p.Buf[l3:], packet.IPv6Fields{
			HopLimit: icmpTTL, NextHeader: protoICMPv6, PayloadLen: uint16(len(message)), Src: source, Dst: p.Flow.Src,
		})
		binary.BigEndian.PutUint16(message[2:4], packet.Pseudo(source, p.Flow.Src, protoICMPv6, message))
	} else {
		message[0], message[1] = messages[m].type4, messages[m].code4
		if m == FragNeeded {
			binary.BigEndian.PutUint16(message[6:8], uint16(mtu))
		}
		packet.PutIPv4(p.Buf[l3:], packet.IPv4Fields{
			TOS: icmpTOS, TTL: icmpTTL, Protocol: protoICMP, TotalLen: uint16(added + quote), Src: source.V4(), Dst: p.Flow.Src.V4(),
		})
		binary.BigEndian.PutUint16(message[2:4], packet.Checksum(message))
	}
	p.L3, p.L4, p.End = l3, l3+header, l3+added+quote
	p.SetEthernet(&dst, &src, vlans)
	return true
}

// singleHost reports whether a source names one host: in IPv4 not "this network", loopback, multicast, class E or broadcast, in
// IPv6 not the unspecified address, loopback or multicast (RFC 4291 section 2.4).
func singleHost(a lb.Addr) bool {
	if !a.Is4() {
		return a.Hi>>56 != 0xff && (a.Hi != 0 || a.Lo > 1)
	}
	first := a.V4() >> 24
	return first != 0 && first != 127 && first < 224
}

// Counterpart returns which error says in the other IP version what p, an ICMP error, says in its own (RFC 7915 sections 4.2 and 5.2). False:
// none does, as for a parameter that is wrong in a header which the other version has not.
func Counterpart(p *packet.Packet) (ICMP, bool) {
	l4 := p.L4Bytes()
	if p.Is6() {
		return counterpart4(l4[0], l4[1])
	}
	return counterpart6(l4[0], l4[1])
}

// counterpart6 is for an error of IPv4: what tells IPv6 of it.
func counterpart6(typ, code uint8) (ICMP, bool) {
	switch typ {
	case 3:
		switch code {
		case 0, 1, 5, 6, 7, 8, 11, 12:
			return noRoute, true
		case 2:
			return protocolUnreachable, true
		case 3:
			return PortUnreachable, true
		case 4:
			return FragNeeded, true
		case 9, 10, 13, 15:
			return prohibited, true
		}
	case 11:
		return timeExceeded(code)
	}
	return 0, false
}

// counterpart4 is for an error of IPv6: what tells IPv4 of it.
func counterpart4(typ, code uint8) (ICMP, bool) {
	switch typ {
	case 1:
		switch code {
		case 0, 2, 3:
			return HostUnreachable, true
		case 1:
			return prohibited, true
		case 4:
			return PortUnreachable, true
		}
	case 2:
		return FragNeeded, true
	case 3:
		return timeExceeded(code)
	case 4:
		return protocolUnreachable, code == 1
	}
	return 0, false
}

func timeExceeded(code uint8) (ICMP, bool) {
	switch code {
	case 0:
		return TimeExceeded, true
	case 1:
		return reassemblyTimeExceeded, true
	}
	return 0, false
}
