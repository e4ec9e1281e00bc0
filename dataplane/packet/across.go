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

// CanCross reports whether TranslateAcross can take the packet: one of TCP, UDP or SCTP, or a fragment of one, but no ICMP error, and no first
// fragment of a UDP datagram over IPv4 that has no checksum. IPv6 wants one, over all of the datagram (RFC 7915 section 4.5).
func (p *Packet) CanCross() bool {
	if p.Kind == Error {
		return false
	}
	if p.Is6() || p.Flow.Proto != lb.UDP || p.Kind == Later {
		return true
	}
	_, fragment := p.piece4()
	return !fragment || binary.BigEndian.Uint16(p.Buf[p.L4+udpChecksum:]) != 0
}

// piece4 returns a fragment's offset, in units of eight bytes, and "more fragments", as IPv4 writes both; false: the packet is whole.
func (p *Packet) piece4() (word uint16, fragment bool) {
	if !p.Is6() {
		word = binary.BigEndian.Uint16(p.Buf[p.L3+6:]) & (0x1fff | moreFragments)
		return word, word != 0
	}
	if p.L4 == p.L3+IPv6Len {
		return 0, false
	}
	walked := *p
	if _, why := walked.walk(p.IP6(), p.IP6().NextHeader()); why != reason.Fragment {
		return 0, false
	}
	word = binary.BigEndian.Uint16(p.Buf[p.L4-fragmentHeaderLen+2:])
	return word>>3 | word&1<<13, true
}

// Across returns how long the packet's headers in front of layer 4, the IP header included, are in the other IP version.
func (p *Packet) Across() int {
	if p.Is6() {
		return IPv4MinLen
	}
	if _, fragment := p.piece4(); fragment {
		return IPv6Len + fragmentHeaderLen
	}
	return IPv6Len
}

// TranslateAcross makes an IPv4 packet of an IPv6 one or the other way round (RFC 7915 sections 4.1 and 5.1), whole, a fragment, or as an
// ICMP error quotes it, with both addresses as to says, which are of the other family, and the ports that it has. TOS and TTL are kept;
// IPv4 options, IPv6 extension headers but a fragment's, and the flow label are not. The checksum of layer 4 is brought along by the
// difference; a UDP checksum that IPv4 spared is computed, since IPv6 needs it. The Ethernet header moves with the IP header's
// front. id is the identification of an IPv4 packet that may be fragmented; a fragment keeps its own.
func (p *Packet) TranslateAcross(to *Endpoints, id uint16) {
	word, fragment := p.piece4()
	length := p.l4Len()
	if fragment {
		length = int(p.Datagram)
	}
	// Any two addresses' difference is a sum of words: 0xffff, which the inverted old ones are taken from, counts as nothing.
	delta := 16*0xffff - words(p.Flow.Src) - words(p.Flow.Dst) + words(to.Src) + words(to.Dst)
	if p.Is6() {
		p.head4(to, id, word, fragment)
	} else {
		p.head6(to, word, fragment)
	}
	p.Flow.Src, p.Flow.Dst = to.Src, to.Dst
	if p.Kind != Later {
		p.translatePorts(to, delta, length)
	}
}

// head4 puts an IPv4 header in the place of an IPv6 one.
func (p *Packet) head4(to *Endpoints, id, word uint16, fragment bool) {
	ip, length, ether := p.IP6(), p.l4Len(), p.L3-p.Off
	tos, ttl := ip.TrafficClass(), ip.HopLimit()
	df := IPv4MinLen+length > maxWithoutDF
	if fragment {
		df, id = false, binary.BigEndian.Uint16(p.Buf[p.L4-2:p.L4])
	}
	p.moveEthernet(p.L4-IPv4MinLen-ether, ether, EtherIPv4)
	PutIPv4(p.Buf[p.L3:], IPv4Fields{
		TOS: tos, TTL: ttl, Protocol: uint8(p.Flow.Proto), TotalLen: uint16(IPv4MinLen + length), ID: id, DF: df,
		Src: to.Src.V4(), Dst: to.Dst.V4(),
	})
	if fragment {
		made := IPv4(p.Buf[p.L3 : p.L3+IPv4MinLen])
		binary.BigEndian.PutUint16(made[6:8], word)
		made.setChecksum(Update16(made.Checksum(), 0, word))
	}
}

// head6 puts an IPv6 header, and a fragment header if need be, in the place of an IPv4 one.
func (p *Packet) head6(to *Endpoints, word uint16, fragment bool) {
	ip, length, ether := p.IP(), p.l4Len(), p.L3-p.Off
	tos, ttl, id, next := ip.TOS(), ip.TTL(), ip.ID(), uint8(p.Flow.Proto)
	header := IPv6Len
	if fragment {
		header += fragmentHeaderLen
	}
	p.moveEthernet(p.L4-header-ether, ether, EtherIPv6)
	if fragment {
		putFragmentHeader(p.Buf[p.L3+IPv6Len:], next, word<<3|word>>13, uint32(id))
		next, length = nextFragment, length+fragmentHeaderLen
	}
	PutIPv6(p.Buf[p.L3:], IPv6Fields{TrafficClass: tos, HopLimit: ttl, NextHeader: next, PayloadLen: uint16(length), Src: to.Src, Dst: to.Dst})
}

// translatePorts writes the ports, and brings along the checksum of layer 4, to whose sum the addresses add delta, and of which the whole
// datagram has so many bytes.
func (p *Packet) translatePorts(to *Endpoints, delta uint32, length int) {
	l4 := p.L4Bytes()
	ports := uint32(cmp.Or(to.SrcPort, p.Flow.SrcPort))<<16 | uint32(cmp.Or(to.DstPort, p.Flow.DstPort))
	old := binary.BigEndian.Uint32(l4[0:4])
	delta += delta32(old, ports)
	binary.BigEndian.PutUint32(l4[0:4], ports)
	if p.Flow.Proto == lb.SCTP {
		updateCRC(l4, old, length)
		return
	}
	at := tcpChecksum
	if p.Flow.Proto == lb.UDP {
		at = udpChecksum
	}
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
		c = nonZero(Pseudo(to.Src, to.Dst, uint8(p.Flow.Proto), l4[:binary.BigEndian.Uint16(l4[4:6])]))
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
