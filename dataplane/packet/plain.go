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
	ip := b[plainIP:plainUDP]
	total := int(binary.BigEndian.Uint16(ip[2:4]))
	more := binary.BigEndian.Uint16(ip[6:8]) & 0x3fff
	if binary.BigEndian.Uint16(b[12:14]) != EtherIPv4 || b[0]&1 != 0 || ip[0] != 0x45 || more != 0 || total > len(b)-plainIP {
		return false
	}
	proto := lb.Proto(ip[9])
	flags := uint8(0)
	switch proto {
	case lb.UDP:
		if n := int(binary.BigEndian.Uint16(ip[24:26])); n < UDPLen || n > total-IPv4MinLen {
			return false
		}
	case lb.TCP:
		if total < IPv4MinLen+TCPMinLen {
			return false
		}
		tcp := b[plainL4:plainTCP]
		if n := int(tcp[12]>>4) * 4; n < TCPMinLen || n > total-IPv4MinLen {
			return false
		}
		flags = tcp[13]
	default:
		return false
	}
	p.L3 = p.Off + plainIP
	p.L4 = p.Off + plainL4
	p.End = p.L3 + total
	p.TCPFlags = flags
	f := &p.Flow
	f.Src = lb.AddrFrom4(binary.BigEndian.Uint32(ip[12:16]))
	f.Dst = lb.AddrFrom4(binary.BigEndian.Uint32(ip[16:20]))
	f.SrcPort = binary.BigEndian.Uint16(ip[20:22])
	f.DstPort = binary.BigEndian.Uint16(ip[22:24])
	f.Proto = proto
	return true
}
