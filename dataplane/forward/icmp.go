package forward

import (
	"encoding/binary"

	"weir/dataplane/packet"
)

// ICMP messages a director sends itself (RFC 792, RFC 1191).
type ICMP struct{ Type, Code uint8 }

var (
	PortUnreachable = ICMP{3, 3}
	FragNeeded      = ICMP{3, 4}
	TimeExceeded    = ICMP{11, 0}
)

const (
	protoICMP  = 1
	icmpHeader = 8
	// maxICMP bounds the whole message: as much of the original as fits 576 bytes (RFC 1812 4.3.2.3).
	maxICMP = 576
	icmpTTL = 64
	// icmpTOS is precedence "internetwork control" (RFC 1812 4.3.2.5), which Linux uses for errors too (net/ipv4/icmp.c).
	icmpTOS = 0xc0
)

// Answer turns a packet, unchanged since it was parsed, into an ICMP error back to the station it came from, with source as
// its sender and mtu in a "fragmentation needed". The frame goes out by the interface it came in by. It reports false, and
// leaves the packet alone, when no error may be sent about it (RFC 1812 4.3.2.7): not to a broadcast or multicast frame, nor
// to a source that names no single host. Fragments and ICMP errors never come here: Parse stops them.
func Answer(p *packet.Packet, m ICMP, source uint32, mtu int) bool {
	ip := p.IP()
	if p.Buf[p.Off]&1 != 0 || !singleHost(ip.Src()) {
		return false
	}
	quote := min(len(ip), maxICMP-packet.IPv4MinLen-icmpHeader)
	added := packet.IPv4MinLen + icmpHeader
	ether := p.L3 - p.Off
	off := p.Off - added
	dst, src := p.SrcMAC(), p.DstMAC()
	to := ip.Src()
	copy(p.Buf[off:off+ether], p.Buf[p.Off:p.L3])
	l3 := off + ether
	packet.PutIPv4(p.Buf[l3:], packet.IPv4Fields{
		TOS: icmpTOS, TTL: icmpTTL, Protocol: protoICMP,
		TotalLen: uint16(added + quote),
		Src:      source, Dst: to,
	})
	message := p.Buf[l3+packet.IPv4MinLen : l3+added+quote]
	clear(message[:icmpHeader])
	message[0], message[1] = m.Type, m.Code
	if m == FragNeeded {
		binary.BigEndian.PutUint16(message[6:8], uint16(mtu))
	}
	binary.BigEndian.PutUint16(message[2:4], packet.Checksum(message))
	p.Off, p.L3, p.L4, p.End = off, l3, l3+packet.IPv4MinLen, l3+added+quote
	p.SetMACs(dst, src)
	return true
}

// singleHost reports whether an IPv4 source names one host: not "this network", loopback, multicast, class E or broadcast.
func singleHost(a uint32) bool {
	first := a >> 24
	return first != 0 && first != 127 && first < 224
}
