package packet

import (
	"encoding/binary"
	"math/bits"

	"weir/lb"
)

// Plain is what there is to know of a plain frame, and nearly all are: untagged, TCP or UDP right behind an IP header without options or
// extensions, no fragment, no SYN, hops left. Every offset in it is a constant of its IP version, so that it is read, compared and
// rewritten in a third of the steps that any frame may need. Anything that is odd in the least is left to Packet.
//
//	var p packet.Plain
//	if p.Glance(f.Buf, f.Off, f.End) {
//		... p.Src, p.Dst, p.Ports ...
//		p.Relay(f.Buf[f.Off:f.End], src, dst, ports)
//	}
type Plain struct {
	Src, Dst lb.Addr
	Ports    uint32 // source(16) | destination(16)
	Len      uint16 // bytes of IP packet
	Proto    lb.Proto
	TCPFlags uint8 // 0 for UDP
	Is6      bool  // IPv6
}

const (
	plainIP   = EtherLen
	plain4L4  = plainIP + IPv4MinLen
	plain6L4  = plainIP + IPv6Len
	plain4UDP = plain4L4 + UDPLen
	plain6UDP = plain6L4 + UDPLen
)

// Glance reads the frame buf[off:end], and reports whether it is a plain one; if not, p is undefined. Of a plain one Packet.Parse says the
// same (TestPlain, FuzzParse).
func (p *Plain) Glance(buf []byte, off, end int) bool {
	b := buf[off:end:end]
	if len(b) < plain4UDP {
		return false
	}
	h := (*[plain4UDP]byte)(b)
	// EtherType(16) | version and header length(8) | TOS(8) | total length(16) | identification(16)
	first := binary.BigEndian.Uint64(h[12:20])
	// flags and offset(16) | TTL(8) | protocol(8) | checksum(16) | the source's first half(16)
	second := binary.BigEndian.Uint64(h[20:28])
	total := int(uint16(first >> 16))
	if first>>40 != EtherIPv4<<8|0x45 {
		return first>>48 == EtherIPv6 && p.glance6(b)
	}
	// No fragment, two hops or more (their upper seven bits), from and to one station.
	if second>>48&0x3fff != 0 || second>>41&0x7f == 0 || h[0]&1 != 0 || total > len(b)-plainIP {
		return false
	}
	ends := binary.BigEndian.Uint64(h[26:34])  // source(32) | destination(32)
	ports := binary.BigEndian.Uint64(h[34:42]) // source port(16) | destination port(16) | UDP: length(16) | checksum(16)
	proto, flags := lb.Proto(second>>32), uint8(0)
	if proto == lb.UDP {
		if n := int(uint16(ports >> 16)); n < UDPLen || n > total-IPv4MinLen {
			return false
		}
	} else if proto != lb.TCP || !plainTCP(b[plain4L4:], total-IPv4MinLen, &flags) {
		return false
	}
	p.Src, p.Dst = lb.AddrFrom4(uint32(ends>>32)), lb.AddrFrom4(uint32(ends))
	p.Ports, p.Len, p.Proto, p.TCPFlags, p.Is6 = uint32(ports>>32), uint16(total), proto, flags, false
	return true
}

// glance6 is Glance for IPv6.
func (p *Plain) glance6(b []byte) bool {
	if len(b) < plain6UDP {
		return false
	}
	h := (*[plain6UDP]byte)(b)
	// flow label(16) | payload length(16) | next header(8) | hop limit(8) | the source's first 16 bits
	word := binary.BigEndian.Uint64(h[16:24])
	payload := int(uint16(word >> 32))
	if h[14]>>4 != 6 || word>>17&0x7f == 0 || h[0]&1 != 0 || payload > len(b)-plain6L4 {
		return false
	}
	src, dst := addr6(h[22:38]), addr6(h[38:54])
	if src.Is4() || dst.Is4() || !src.IsValid() || !dst.IsValid() {
		return false
	}
	ports := binary.BigEndian.Uint64(h[54:62])
	proto, flags := lb.Proto(word>>24), uint8(0)
	if proto == lb.UDP {
		if n := int(uint16(ports >> 16)); n < UDPLen || n > payload || uint16(ports) == 0 {
			return false
		}
	} else if proto != lb.TCP || !plainTCP(b[plain6L4:], payload, &flags) {
		return false
	}
	p.Src, p.Dst = src, dst
	p.Ports, p.Len, p.Proto, p.TCPFlags, p.Is6 = uint32(ports>>32), uint16(IPv6Len+payload), proto, flags, true
	return true
}

// plainTCP looks at a TCP header with n bytes of IP payload at most, of which b has no fewer.
func plainTCP(b []byte, n int, flags *uint8) bool {
	if n < TCPMinLen || len(b) < TCPMinLen {
		return false
	}
	header := int(b[12]>>4) * 4
	*flags = b[13]
	return header >= TCPMinLen && header <= n && b[13]&SYN == 0
}

// Flow returns the packet's flow.
func (p *Plain) Flow() lb.Flow {
	return lb.Flow{Src: p.Src, Dst: p.Dst, SrcPort: uint16(p.Ports >> 16), DstPort: uint16(p.Ports), Proto: p.Proto}
}

// Age takes one off the TTL or hop limit of frame b, as Packet.DecrementTTL does.
func (p *Plain) Age(b []byte) {
	h := (*[plain4UDP]byte)(b)
	if p.Is6 {
		h[plainIP+7]--
		return
	}
	h[plainIP+8]--
	c := uint32(binary.BigEndian.Uint16(h[plainIP+10:])) + 0x100
	binary.BigEndian.PutUint16(h[plainIP+10:], uint16(c+(c+1)>>16))
}

// Relay writes both ends' addresses, of the frame's own family, and ports into frame b, and is Packet.Relay in all else. At least one of the addresses is
// another than p's: then what does not change adds nothing to a checksum, though it is counted in.
func (p *Plain) Relay(b []byte, src, dst lb.Addr, ports uint32) {
	if p.Is6 {
		p.relay6(b, src, dst, ports)
		return
	}
	h := (*[plain4UDP]byte)(b)
	ends := uint64(src.V4())<<32 | uint64(dst.V4())
	delta := deltaEnds(uint64(p.Src.V4())<<32|uint64(p.Dst.V4()), ends)
	// TTL(8) | protocol(8) | checksum(16), and the source. The TTL is the upper byte of its word: one less adds ~0x0100.
	word := binary.BigEndian.Uint32(h[22:26])
	sum := ^fold(^word&0xffff + delta + 0xfeff)
	binary.BigEndian.PutUint32(h[22:26], word&(0xffff<<16)-1<<24|uint32(sum))
	binary.BigEndian.PutUint64(h[26:34], ends)
	binary.BigEndian.PutUint32(h[34:38], ports)
	p.sumL4(b[plain4L4:], delta+delta32(p.Ports, ports))
}

func (p *Plain) relay6(b []byte, src, dst lb.Addr, ports uint32) {
	h := (*[plain6UDP]byte)(b)
	delta := deltaEnds(p.Src.Hi, src.Hi) + deltaEnds(p.Src.Lo, src.Lo) + deltaEnds(p.Dst.Hi, dst.Hi) + deltaEnds(p.Dst.Lo, dst.Lo)
	h[plainIP+7]--
	putAddr6(h[22:38], src)
	putAddr6(h[38:54], dst)
	binary.BigEndian.PutUint32(h[54:58], ports)
	p.sumL4(b[plain6L4:], delta+delta32(p.Ports, ports))
}

// Numbers of what follows an outer IP header: an IPv4 packet (RFC 2003), an IPv6 packet (RFC 4213, RFC 2473).
const (
	ProtoIPv4 = 4
	ProtoIPv6 = 41
)

// Wrap takes one off the hops of the frame that begins at buf[off], and puts an outer IP header in front of its packet, as forward's tunnels do for IPIP.
// The Ethernet header moves on to the front of it, but for its addresses. It returns where the frame begins and ends now.
func (p *Plain) Wrap(buf []byte, off int, source, server lb.Addr, id uint16) (from, to int) {
	b := buf[off:]
	p.Age(b)
	h := (*[plain4UDP]byte)(b)
	follows, tos, ttl, df := uint8(ProtoIPv4), h[15], h[22], h[20]&(DF>>8) != 0
	if p.Is6 {
		follows, tos, ttl, df = ProtoIPv6, uint8(binary.BigEndian.Uint16(h[14:16])>>4), h[21], false
	}
	end := off + plainIP + int(p.Len)
	if server.Is4() {
		from = off - IPv4MinLen
		PutIPv4(buf[from+plainIP:end], IPv4Fields{TOS: tos, TTL: ttl, Protocol: follows, TotalLen: IPv4MinLen + p.Len, ID: id, DF: df,
			Src: source.V4(), Dst: server.V4()})
		binary.BigEndian.PutUint16(buf[from+12:], EtherIPv4)
		return from, end
	}
	from = off - IPv6Len
	PutIPv6(buf[from+plainIP:end], IPv6Fields{TrafficClass: tos, HopLimit: ttl, NextHeader: follows, PayloadLen: p.Len, Src: source, Dst: server})
	binary.BigEndian.PutUint16(buf[from+12:], EtherIPv6)
	return from, end
}

// sumL4 adds delta to the checksum of the layer-4 header b.
func (p *Plain) sumL4(b []byte, delta uint32) {
	if p.Proto == lb.TCP {
		field := b[tcpChecksum : tcpChecksum+2]
		binary.BigEndian.PutUint16(field, ^fold(uint32(^binary.BigEndian.Uint16(field))+delta))
		return
	}
	field := b[udpChecksum : udpChecksum+2]
	if c := binary.BigEndian.Uint16(field); c != 0 { // 0: none was computed
		binary.BigEndian.PutUint16(field, nonZero(^fold(uint32(^c)+delta)))
	}
}

// deltaEnds is what changing eight bytes adds to the one's complement sum, below 2^18. What stays the same adds a multiple of 0xffff, which is nothing
// but to a sum of zero.
func deltaEnds(old, new uint64) uint32 {
	s, carry := bits.Add64(^old, new, 0)
	s += carry
	s = s>>32 + s&0xffffffff
	return uint32(s>>16 + s&0xffff)
}

// Address writes a frame's MAC addresses: destination, then source.
func Address(b []byte, macs *[12]byte) { *(*[12]byte)(b) = *macs }

// SourceBits is Packet.SrcMACBits of a frame.
func SourceBits(b []byte) uint64 { return binary.LittleEndian.Uint64(b[6:EtherLen]) & (1<<48 - 1) }
