package packet

import (
	"encoding/binary"

	"weir/dataplane/reason"
	"weir/lb"
)

// The plainest of frames, and nearly all of them: untagged, IPv4 without options, no fragment, TCP or UDP.
const (
	plainIP  = EtherLen
	plainL4  = plainIP + IPv4MinLen
	plainUDP = plainL4 + UDPLen
	plainTCP = plainL4 + TCPMinLen
)

// Parse looks at the frame Buf[off:end]. Anything but None leaves only Buf, Off and what was reached before valid.
//
// Steer has checked much of this already, but a worker must stand on its own: frames also come from tests, captures and
// whatever a changed BPF program lets through.
//
// A plain frame, with nothing wrong with it, is recognized here, with every offset a constant; parse, for all others, asks the same
// questions. TestPlain and FuzzParse hold the two against each other.
func (p *Packet) Parse(buf []byte, off, end int) reason.Reason {
	p.Buf, p.Off, p.End, p.Kind, p.Plain, p.Cut = buf, off, end, Whole, false, 0
	b := buf[off:end:end]
	if len(b) < plainUDP {
		return p.parse(b)
	}
	h := (*[plainUDP]byte)(b)
	// EtherType(16) | version and header length(8) | TOS(8) | total length(16) | identification(16)
	first := binary.BigEndian.Uint64(h[12:20])
	// flags and offset(16) | TTL(8) | protocol(8) | checksum(16) | the source's first half(16)
	second := binary.BigEndian.Uint64(h[20:28])
	ends := binary.BigEndian.Uint64(h[26:34])  // source(32) | destination(32)
	ports := binary.BigEndian.Uint64(h[34:42]) // source port(16) | destination port(16) | UDP: length(16) | checksum(16)
	total := int(uint16(first >> 16))
	if first>>40 != EtherIPv4<<8|0x45 || second>>48&0x3fff != 0 || h[0]&1 != 0 || total > len(b)-plainIP {
		return p.parse(b)
	}
	proto, flags := lb.Proto(second>>32), uint8(0)
	switch proto {
	case lb.UDP:
		if n := int(uint16(ports >> 16)); n < UDPLen || n > total-IPv4MinLen {
			return p.parse(b)
		}
	case lb.TCP:
		if total < IPv4MinLen+TCPMinLen || len(b) < plainTCP {
			return p.parse(b)
		}
		if n := int(b[plainL4+12]>>4) * 4; n < TCPMinLen || n > total-IPv4MinLen {
			return p.parse(b)
		}
		flags = b[plainL4+13]
	default:
		return p.parse(b)
	}
	p.Plain = true
	p.L3, p.L4, p.End = off+plainIP, off+plainL4, off+plainIP+total
	p.TCPFlags = flags
	f := &p.Flow // field by field: a literal would be made elsewhere first, and copied
	f.Src, f.Dst = lb.AddrFrom4(uint32(ends>>32)), lb.AddrFrom4(uint32(ends))
	f.SrcPort, f.DstPort, f.Proto = uint16(ports>>48), uint16(ports>>32), proto
	return reason.None
}

// AgePlain is DecrementTTL.
func (p *Packet) AgePlain() { IPv4(p.Buf[p.Off+plainIP : p.End]).DecrementTTL() }

// RelayPlain is Relay to a destination: an IPv4 address, and a port unless that is 0.
func (p *Packet) RelayPlain(addr lb.Addr, port uint16) {
	b := p.Buf[p.Off:p.End]
	h := (*[plainUDP]byte)(b)
	// TTL(8) | protocol(8) | checksum(16) | source(32)
	ip := binary.BigEndian.Uint64(h[22:30])
	// destination(32) | source port(16) | destination port(16)
	old := binary.BigEndian.Uint64(h[30:38])
	ends := uint64(addr.V4())<<32 | old&0xffffffff
	if port != 0 {
		ends = ends&^0xffff | uint64(port)
	}
	delta := delta32(uint32(old>>32), uint32(ends>>32))
	// The TTL is the upper byte of its word: one less adds ~0x0100.
	sum := ^fold(uint32(^uint16(ip>>32)) + delta + 0xfeff)
	binary.BigEndian.PutUint64(h[22:30], ip&^(0xffff<<32)-1<<56|uint64(sum)<<32)
	binary.BigEndian.PutUint64(h[30:38], ends)
	if delta += delta16(uint16(old), uint16(ends)); p.Flow.Proto == lb.TCP {
		field := b[plainL4+tcpChecksum : plainL4+tcpChecksum+2]
		binary.BigEndian.PutUint16(field, ^fold(uint32(^binary.BigEndian.Uint16(field))+delta))
		return
	}
	field := h[plainL4+udpChecksum : plainL4+udpChecksum+2]
	if c := binary.BigEndian.Uint16(field); c != 0 {
		binary.BigEndian.PutUint16(field, nonZero(^fold(uint32(^c)+delta)))
	}
}

// AddressPlain is SetEthernet without tags.
func (p *Packet) AddressPlain(dst, src *[6]byte) {
	e := (*[12]byte)(p.Buf[p.Off:p.End])
	*(*[6]byte)(e[0:6]) = *dst
	*(*[6]byte)(e[6:12]) = *src
}
