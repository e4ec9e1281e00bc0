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

// Translate rewrites addresses and ports of a TCP or UDP packet, whose family to's addresses have.
func (p *Packet) Translate(to Endpoints) {
	if p.Is6() {
		p.TranslateIPv6(to)
		return
	}
	p.TranslateIPv4(to)
}

// TranslateIPv4 rewrites addresses and ports of a TCP or UDP packet over IPv4 and brings both checksums along by the
// difference. A UDP checksum of zero means "none was computed" and stays so; one that becomes zero is sent as 0xffff (RFC 768).
func (p *Packet) TranslateIPv4(to Endpoints) {
	ip, l4 := p.IP(), p.L4Bytes()
	var delta uint32 // at most 3 × 4 × 0xffff
	if to.Src.IsValid() {
		old := ip.Src()
		ip.SetSrc(to.Src.V4())
		delta += delta32(old, to.Src.V4())
	}
	if to.Dst.IsValid() {
		old := ip.Dst()
		ip.SetDst(to.Dst.V4())
		delta += delta32(old, to.Dst.V4())
	}
	delta += putPorts(l4, to)
	updateL4(l4, p.Flow.Proto, delta)
}

// TranslateIPv6 rewrites addresses and ports of a TCP or UDP packet over IPv6 and brings its checksum along by the difference.
func (p *Packet) TranslateIPv6(to Endpoints) {
	ip, l4 := p.IP6(), p.L4Bytes()
	var delta uint32 // at most 9 × 4 × 0xffff
	if to.Src.IsValid() {
		delta += delta128(ip.Src(), to.Src)
		putAddr6(ip[8:24], to.Src)
	}
	if to.Dst.IsValid() {
		delta += delta128(ip.Dst(), to.Dst)
		putAddr6(ip[24:40], to.Dst)
	}
	delta += putPorts(l4, to)
	updateL4(l4, p.Flow.Proto, delta)
}

// putPorts writes the ports and returns what that adds to the sum.
func putPorts(l4 []byte, to Endpoints) uint32 {
	old := binary.BigEndian.Uint32(l4[0:4])
	ports := old
	if to.SrcPort != 0 {
		ports = ports&0xffff | uint32(to.SrcPort)<<16
	}
	if to.DstPort != 0 {
		ports = ports&^0xffff | uint32(to.DstPort)
	}
	if ports == old {
		return 0
	}
	binary.BigEndian.PutUint32(l4[0:4], ports)
	return delta32(old, ports)
}

// updateL4 brings the checksum of a TCP segment or UDP datagram along.
func updateL4(l4 []byte, proto lb.Proto, delta uint32) {
	if proto == lb.TCP {
		field := l4[tcpChecksum : tcpChecksum+2]
		binary.BigEndian.PutUint16(field, ^fold(uint32(^binary.BigEndian.Uint16(field))+delta))
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
