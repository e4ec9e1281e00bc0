package packet

import (
	"encoding/binary"

	"weir/lb"
)

// The plainest of frames, and nearly all of them: untagged, IPv4 without options, no fragment, TCP or UDP.
const (
	plainIP  = EtherLen
	plainL4  = plainIP + IPv4MinLen
	plainUDP = plainL4 + UDPLen
	plainTCP = plainL4 + TCPMinLen
)

// parsePlain is Parse for b, the frame from its first byte on, if that is as plain as can be and has nothing wrong with it; false: nothing
// has been said of it. It asks what Parse asks, but with every offset a constant: a third of the time. TestPlainAgrees and FuzzParse hold
// the two against each other.
func (p *Packet) parsePlain(b []byte) bool {
	if len(b) < plainUDP {
		return false
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
		return false
	}
	proto, flags := lb.Proto(second>>32), uint8(0)
	switch proto {
	case lb.UDP:
		if n := int(uint16(ports >> 16)); n < UDPLen || n > total-IPv4MinLen {
			return false
		}
	case lb.TCP:
		if total < IPv4MinLen+TCPMinLen || len(b) < plainTCP {
			return false
		}
		if n := int(b[plainL4+12]>>4) * 4; n < TCPMinLen || n > total-IPv4MinLen {
			return false
		}
		flags = b[plainL4+13]
	default:
		return false
	}
	p.L3 = p.Off + plainIP
	p.L4 = p.Off + plainL4
	p.End = p.Off + plainIP + total
	p.TCPFlags = flags
	f := &p.Flow // field by field: a literal would be made elsewhere first, and copied
	f.Src, f.Dst = lb.AddrFrom4(uint32(ends>>32)), lb.AddrFrom4(uint32(ends))
	f.SrcPort, f.DstPort, f.Proto = uint16(ports>>48), uint16(ports>>32), proto
	return true
}
