package packet

import (
	"encoding/binary"

	"weir/lb"
)

// Where the checksum stands in each L4 header (RFC 9293, RFC 768).
const (
	tcpChecksum = 16
	udpChecksum = 6
)

// Endpoints are the addresses and ports to write into a packet. A zero address or port leaves the packet's own.
type Endpoints struct {
	Src, Dst         lb.Addr
	SrcPort, DstPort uint16
}

// Translate rewrites addresses and ports of a TCP, UDP or SCTP packet, with addresses of its own family, and brings the checksums along
// by the difference. A UDP checksum of zero means "none was computed" and stays so; one that becomes zero is sent as 0xffff (RFC 768).
func (p *Packet) Translate(to *Endpoints) {
	p.translateL4(to, p.translateAddresses(to))
}

// Relay is Translate and DecrementTTL in one.
func (p *Packet) Relay(to *Endpoints) {
	if p.Is6() {
		p.DecrementTTL()
		p.translateL4(to, p.translateAddresses6(to))
	} else {
		p.translateL4(to, p.translateAddresses4(to, 1))
	}
}

// translateAddresses4 writes IPv4 addresses and takes hops off the TTL, in one pass over the header, and returns what the addresses add to
// the sum of a pseudo header.
func (p *Packet) translateAddresses4(to *Endpoints, hops uint64) (delta uint32) {
	ip := (*[IPv4MinLen]byte)(p.Buf[p.L3:p.End])
	// TTL(8) | protocol(8) | checksum(16) | source(32), and the destination
	word, dst := binary.BigEndian.Uint64(ip[8:16]), binary.BigEndian.Uint32(ip[16:20])
	src := uint32(word)
	if to.Src.IsValid() {
		delta = delta32(src, to.Src.V4())
		src = to.Src.V4()
	}
	if to.Dst.IsValid() {
		delta += delta32(dst, to.Dst.V4())
		binary.BigEndian.PutUint32(ip[16:20], to.Dst.V4())
	}
	// The TTL is the upper byte of its word: one less adds ~0x0100.
	sum := ^fold(uint32(^uint16(word>>32)) + delta + uint32(hops)*0xfeff)
	binary.BigEndian.PutUint64(ip[8:16], word&(0xffff<<48)-hops<<56|uint64(sum)<<32|uint64(src))
	return delta
}

// translateAddresses6 is translateAddresses4 for IPv6, which has no checksum of its own.
func (p *Packet) translateAddresses6(to *Endpoints) (delta uint32) {
	ip := (*[IPv6Len]byte)(p.Buf[p.L3:p.End])
	if to.Src.IsValid() {
		delta = delta128(addr6(ip[8:24]), to.Src)
		putAddr6(ip[8:24], to.Src)
	}
	if to.Dst.IsValid() {
		delta += delta128(addr6(ip[24:40]), to.Dst)
		putAddr6(ip[24:40], to.Dst)
	}
	return delta
}

// translateL4 writes the ports, and brings the checksum along, to which the addresses have added delta (at most 32 × 0xffff).
func (p *Packet) translateL4(to *Endpoints, delta uint32) {
	l4 := p.Buf[p.L4:p.End:p.End]
	head := (*[UDPLen]byte)(l4)
	old := binary.BigEndian.Uint32(head[0:4])
	ports := old
	if to.SrcPort != 0 {
		ports = ports&0xffff | uint32(to.SrcPort)<<16
	}
	if to.DstPort != 0 {
		ports = ports&^0xffff | uint32(to.DstPort)
	}
	if ports != old {
		binary.BigEndian.PutUint32(head[0:4], ports)
		delta += delta32(old, ports)
	}
	if p.Flow.Proto == lb.TCP {
		field := l4[tcpChecksum : tcpChecksum+2]
		binary.BigEndian.PutUint16(field, ^fold(uint32(^binary.BigEndian.Uint16(field))+delta))
		return
	}
	if p.Flow.Proto == lb.SCTP {
		updateCRC(l4, old, p.datagramLen())
		return
	}
	field := head[udpChecksum : udpChecksum+2]
	if c := binary.BigEndian.Uint16(field); c != 0 {
		if c = ^fold(uint32(^c) + delta); c == 0 {
			c = 0xffff
		}
		binary.BigEndian.PutUint16(field, c)
	}
}
