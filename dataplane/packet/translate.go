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
	l4 := p.L4Bytes()
	var delta uint32 // at most 36 × 0xffff
	if p.Is6() {
		ip := p.IP6()
		if to.Src.IsValid() {
			delta = delta128(ip.Src(), to.Src)
			putAddr6(ip[8:24], to.Src)
		}
		if to.Dst.IsValid() {
			delta += delta128(ip.Dst(), to.Dst)
			putAddr6(ip[24:40], to.Dst)
		}
	} else {
		ip := p.IP()
		if to.Src.IsValid() {
			delta = delta32(ip.Src(), to.Src.V4())
			ip.SetSrc(to.Src.V4())
		}
		if to.Dst.IsValid() {
			delta += delta32(ip.Dst(), to.Dst.V4())
			ip.SetDst(to.Dst.V4())
		}
	}
	old := binary.BigEndian.Uint32(l4[0:4])
	ports := old
	if to.SrcPort != 0 {
		ports = ports&0xffff | uint32(to.SrcPort)<<16
	}
	if to.DstPort != 0 {
		ports = ports&^0xffff | uint32(to.DstPort)
	}
	if ports != old {
		binary.BigEndian.PutUint32(l4[0:4], ports)
		delta += delta32(old, ports)
	}
	if p.Flow.Proto == lb.TCP {
		field := l4[tcpChecksum : tcpChecksum+2]
		binary.BigEndian.PutUint16(field, ^fold(uint32(^binary.BigEndian.Uint16(field))+delta))
		return
	}
	if p.Flow.Proto == lb.SCTP {
		updateCRC(l4, old, len(l4))
		return
	}
	field := l4[udpChecksum : udpChecksum+2]
	if c := binary.BigEndian.Uint16(field); c != 0 {
		if c = ^fold(uint32(^c) + delta); c == 0 {
			c = 0xffff
		}
		binary.BigEndian.PutUint16(field, c)
	}
}
