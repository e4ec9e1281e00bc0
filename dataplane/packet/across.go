package packet

import (
	"cmp"
	"encoding/binary"

	"weir/dataplane/reason"
	"weir/lb"
)

// maxWithoutDF is the longest IPv4 packet that is made of an IPv6 one without DF: one that IPv6 would carry everywhere, less the
// difference of the headers (RFC 7915 section 5.1).
const maxWithoutDF = 1260

// CanCross reports whether TranslateAcross can take the packet: a whole one of TCP or UDP, not a fragment and not an ICMP error.
func (p *Packet) CanCross() bool {
	if p.Kind != Whole {
		return false
	}
	if !p.Is6() {
		return binary.BigEndian.Uint16(p.Buf[p.L3+6:])&0x3fff == 0
	}
	if p.L4 == p.L3+IPv6Len {
		return true
	}
	walked := *p
	_, why := walked.walk(p.IP6(), p.IP6().NextHeader())
	return why == reason.None
}

// TranslateAcross makes an IPv4 packet of an IPv6 one or the other way round (RFC 7915 sections 4.1 and 5.1), whole or as an ICMP error
// quotes it, with both addresses
// as to says, which are of the other family, and the ports that it has. TOS and TTL are kept; IPv4 options, IPv6 extension headers and the flow label are not. The
// checksum of layer 4 is brought along by the difference; a UDP checksum that IPv4 spared is computed, since IPv6 needs it. The Ethernet
// header moves with the IP header's front. id is the identification of an IPv4 packet that may be fragmented.
func (p *Packet) TranslateAcross(to *Endpoints, id uint16) {
	l4 := p.L4Bytes()
	// Any two addresses' difference is a sum of words: 0xffff, which the inverted old ones are taken from, counts as nothing.
	delta := 16*0xffff - words(p.Flow.Src) - words(p.Flow.Dst) + words(to.Src) + words(to.Dst)
	ports := uint32(cmp.Or(to.SrcPort, p.Flow.SrcPort))<<16 | uint32(cmp.Or(to.DstPort, p.Flow.DstPort))
	delta += delta32(binary.BigEndian.Uint32(l4[0:4]), ports)
	binary.BigEndian.PutUint32(l4[0:4], ports)
	proto := uint8(p.Flow.Proto)
	ether := p.L3 - p.Off
	length := p.l4Len()
	if p.Is6() {
		ip := p.IP6()
		tos, ttl := ip.TrafficClass(), ip.HopLimit()
		p.moveEthernet(p.L4-IPv4MinLen-ether, ether, EtherIPv4)
		PutIPv4(p.Buf[p.L3:], IPv4Fields{
			TOS: tos, TTL: ttl, Protocol: proto, TotalLen: uint16(IPv4MinLen + length), ID: id, DF: IPv4MinLen+length > maxWithoutDF,
			Src: to.Src.V4(), Dst: to.Dst.V4(),
		})
	} else {
		ip := p.IP()
		tos, ttl := ip.TOS(), ip.TTL()
		p.moveEthernet(p.L4-IPv6Len-ether, ether, EtherIPv6)
		PutIPv6(p.Buf[p.L3:], IPv6Fields{TrafficClass: tos, HopLimit: ttl, NextHeader: proto, PayloadLen: uint16(length), Src: to.Src, Dst: to.Dst})
	}
	at := tcpChecksum
	if p.Flow.Proto == lb.UDP {
		at = udpChecksum
	}
	p.Flow.Src, p.Flow.Dst = to.Src, to.Dst
	if len(l4) < at+2 {
		return // what an ICMP error quotes of TCP need not have it
	}
	field := l4[at : at+2]
	c := binary.BigEndian.Uint16(field)
	switch {
	case p.Flow.Proto != lb.UDP:
		c = ^fold(uint32(^c) + delta)
	case c != 0:
		c = nonZero(^fold(uint32(^c) + delta))
	case !to.Src.Is4() && len(l4) >= int(binary.BigEndian.Uint16(l4[4:6])):
		c = nonZero(Pseudo(to.Src, to.Dst, proto, l4[:binary.BigEndian.Uint16(l4[4:6])]))
	}
	binary.BigEndian.PutUint16(field, c)
}

// l4Len returns how many bytes the IP header says that layer 4 has; a quoted packet may have fewer.
func (p *Packet) l4Len() int {
	if p.Is6() {
		return p.IP6().PayloadLen() - (p.L4 - p.L3 - IPv6Len)
	}
	return p.IP().TotalLen() - (p.L4 - p.L3)
}

// moveEthernet moves the Ethernet header to off, gives it another EtherType and lets the IP header begin behind it.
func (p *Packet) moveEthernet(off, length int, etherType uint16) {
	copy(p.Buf[off:off+length], p.Buf[p.Off:p.L3])
	p.Off, p.L3 = off, off+length
	binary.BigEndian.PutUint16(p.Buf[p.L3-2:p.L3], etherType)
}

// words adds up an address's 16-bit words, as its family writes it.
func words(a lb.Addr) uint32 {
	if a.Is4() {
		return a.V4()>>16 + a.V4()&0xffff
	}
	var s uint32
	for _, w := range [2]uint64{a.Hi, a.Lo} {
		s += uint32(w>>48) + uint32(w>>32&0xffff) + uint32(w>>16&0xffff) + uint32(w&0xffff)
	}
	return s
}

// nonZero is a UDP checksum as it is sent: zero would say that there is none (RFC 768).
func nonZero(c uint16) uint16 {
	if c == 0 {
		return 0xffff
	}
	return c
}
