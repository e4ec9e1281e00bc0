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
)

// messages are the types and codes by family (RFC 792, RFC 4443).
var messages = [...]struct{ type4, code4, type6, code6 uint8 }{
	PortUnreachable: {3, 3, 1, 4},
	FragNeeded:      {3, 4, 2, 0},
	TimeExceeded:    {11, 0, 3, 0},
	HostUnreachable: {3, 1, 1, 3},
}

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
// single host. Broadcast frames do not get past parsing; whoever calls it keeps ICMP errors and later fragments from it.
func Answer(p *packet.Packet, m ICMP, source lb.Addr, mtu int) bool {
	if !singleHost(p.Flow.Src) || source.Is4() == p.Is6() || !source.IsValid() {
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
		if m == FragNeeded {
			binary.BigEndian.PutUint32(message[4:8], uint32(mtu))
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
// none does; a parameter is wrong only in the header that it is in.
func Counterpart(p *packet.Packet) (ICMP, bool) {
	l4 := p.L4Bytes()
	typ, code := l4[0], l4[1]
	for _, m := range [...]ICMP{PortUnreachable, FragNeeded, TimeExceeded, HostUnreachable} {
		said := messages[m]
		t, c := said.type4, said.code4
		if p.Is6() {
			t, c = said.type6, said.code6
		}
		// Why a host is unreachable, or where time ran out, has codes of its own in each version.
		if typ == t && (code == c || m == TimeExceeded || m == HostUnreachable) {
			return m, true
		}
	}
	return 0, false
}
