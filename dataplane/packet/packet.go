// Package packet is a view on a frame: where its headers are and which flow it belongs to. Parsing allocates nothing, copies
// nothing and believes no length it has not checked against the bytes at hand.
//
//	var p packet.Packet
//	if r := p.Parse(buf, off, end); r != reason.None { ... }
//	p.Flow; p.IP(); p.L4()
package packet

import (
	"encoding/binary"

	"weir/dataplane/reason"
	"weir/lb"
)

// EtherTypes (IEEE 802, as listed by IANA).
const (
	EtherIPv4  = 0x0800
	EtherIPv6  = 0x86dd
	EtherVLAN  = lb.CustomerTag // 802.1Q
	EtherQinQ  = lb.ServiceTag  // 802.1ad
	EtherLen   = 14
	VLANLen    = 4
	maxVLANs   = lb.MaxVLANs
	IPv4MinLen = 20
	UDPLen     = 8
	TCPMinLen  = 20
)

// TCP flags (RFC 9293 section 3.1).
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
)

// Packet is a parsed frame. Offsets count from the start of Buf, so that a header can be prepended in front of Off.
// It is a worker's scratch: valid until the frame it looks at is sent or dropped.
type Packet struct {
	Buf      []byte
	Off      int // the Ethernet header
	L3       int // the IP header
	L4       int // the TCP, UDP or SCTP header
	End      int // one past the last byte of the IP packet; Ethernet padding is behind it
	Flow     lb.Flow
	TCPFlags uint8 // of SCTP the type of the chunk that its association's state depends on; 0 for others
	Kind     Kind
	// Cut is set by a mode when the packet, rewritten, is longer than its way carries: it is to be sent in pieces of so many bytes of IP packet.
	Cut int
	// KeepSender has TranslatePart leave an ICMP error's source as it is: a router's on the way. Parse clears it for errors.
	KeepSender bool
	// Datagram is how many bytes of layer 4 the datagram has that a first fragment is of; 0: its last fragment has not come. Only for those.
	Datagram uint16
}

// Kind says what of a packet is at hand.
type Kind uint8

const (
	Whole  Kind = iota // or a datagram's first fragment: the layer 4 header is there
	Later              // a later fragment: there is none
	Error              // an ICMP error: it is of the flow that the packet inside says
	Sealed             // AH or ESP, whole: without ports that anybody could see
)

// Parse looks at the frame Buf[off:end]. Anything but None leaves only Buf, Off and what was reached before valid.
//
// Steer has checked much of this already, but a worker must stand on its own: frames also come from tests, captures and
// whatever a changed BPF program lets through.
func (p *Packet) Parse(buf []byte, off, end int) reason.Reason {
	p.Buf, p.Off, p.End, p.Kind, p.Cut = buf, off, end, Whole, 0
	b := buf[off:end:end]
	if len(b) < EtherLen {
		return reason.Truncated
	}
	l3 := EtherLen
	etherType := binary.BigEndian.Uint16(b[12:14])
	for range maxVLANs {
		if etherType != EtherVLAN && etherType != EtherQinQ {
			break
		}
		if len(b) < l3+VLANLen {
			return reason.Truncated
		}
		etherType = binary.BigEndian.Uint16(b[l3+2 : l3+4])
		l3 += VLANLen
	}
	p.L3 = p.Off + l3
	if etherType != EtherIPv4 && etherType != EtherIPv6 {
		return reason.NotIP
	}
	// IPVS leaves what Ethernet brings to many to the kernel (net/netfilter/ipvs/ip_vs_core.c, ip_vs_in_hook: pkt_type), and so does steer.
	if b[0]&1 != 0 {
		return reason.NotUnicast
	}
	if etherType == EtherIPv4 {
		return p.parseIPv4(b[l3:])
	}
	return p.parseIPv6(b[l3:])
}

func (p *Packet) parseIPv4(b []byte) reason.Reason {
	if len(b) < IPv4MinLen {
		return reason.Truncated
	}
	header, total := int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:4]))
	// A header length below 20 would let L4 ports be read from the addresses; a total length beyond the frame would let
	// a checksum or a copy run into the next frame of the UMEM.
	if b[0]>>4 != 4 || header < IPv4MinLen || total < header || header > len(b) {
		return reason.BadIPHeader
	}
	if total > len(b) {
		return reason.Truncated
	}
	b = b[:total]
	p.End = p.L3 + total
	p.L4 = p.L3 + header
	p.Flow.Src = lb.AddrFrom4(binary.BigEndian.Uint32(b[12:16]))
	p.Flow.Dst = lb.AddrFrom4(binary.BigEndian.Uint32(b[16:20]))
	p.Flow.Proto = lb.Proto(b[9])
	// More-fragments or an offset: only the first one carries ports.
	if binary.BigEndian.Uint16(b[6:8])&0x3fff != 0 {
		return reason.Fragment
	}
	return p.parseL4(b[header:])
}

func (p *Packet) parseL4(b []byte) reason.Reason {
	switch p.Flow.Proto {
	case lb.TCP:
		if len(b) < TCPMinLen {
			return reason.Truncated
		}
		if h := int(b[12]>>4) * 4; h < TCPMinLen || h > len(b) {
			return reason.BadL4Header
		}
		p.TCPFlags = b[13]
	case lb.UDP:
		if len(b) < UDPLen {
			return reason.Truncated
		}
		if n := int(binary.BigEndian.Uint16(b[4:6])); n < UDPLen || n > len(b) {
			return reason.BadL4Header
		}
		p.TCPFlags = 0
	case lb.SCTP:
		if len(b) < SCTPMinLen {
			return reason.Truncated
		}
		p.TCPFlags = leadingChunk(b)
	default:
		return p.parseICMP(b)
	}
	p.Flow.SrcPort = binary.BigEndian.Uint16(b[0:2])
	p.Flow.DstPort = binary.BigEndian.Uint16(b[2:4])
	return reason.None
}

// Ethernet returns the frame from its first byte up to the IP header: addresses, tags, EtherType.
func (p *Packet) Ethernet() []byte { return p.Buf[p.Off:p.L3:p.L3] }

// Is6 reports whether the packet is IPv6.
func (p *Packet) Is6() bool { return !p.Flow.Src.Is4() }

// IP returns an IPv4 packet from its IP header on.
func (p *Packet) IP() IPv4 { return IPv4(p.Buf[p.L3:p.End:p.End]) }

// IP6 returns an IPv6 packet from its IP header on.
func (p *Packet) IP6() IPv6 { return IPv6(p.Buf[p.L3:p.End:p.End]) }

// Len returns the length of the IP packet.
func (p *Packet) Len() int { return p.End - p.L3 }

// TTL returns the TTL or hop limit.
func (p *Packet) TTL() uint8 {
	at := p.L3 + 8
	if p.Is6() {
		at--
	}
	return p.Buf[at]
}

// DecrementTTL takes one off the TTL or hop limit, which must be above 0, as a router does.
func (p *Packet) DecrementTTL() {
	b := p.Buf[p.L3:]
	if p.Is6() {
		b[7]--
	} else {
		IPv4(b).DecrementTTL()
	}
}

// L4Bytes returns the packet from its layer-4 header on.
func (p *Packet) L4Bytes() []byte { return p.Buf[p.L4:p.End:p.End] }

// SetEthernet writes the frame's header up to the EtherType, which stands in front of the IP header already: addresses, and exactly these
// tags, of priority 0. The header's front moves as they need it.
func (p *Packet) SetEthernet(dst, src *[6]byte, vlans lb.VLANs) {
	p.Off = p.L3 - EtherLen
	if vlans != 0 {
		p.putTags(vlans)
	}
	e := p.Buf[p.Off : p.Off+12]
	copy(e[0:6], dst[:])
	copy(e[6:12], src[:])
}

func (p *Packet) putTags(vlans lb.VLANs) {
	n := vlans.Len()
	p.Off -= n * VLANLen
	tags := p.Buf[p.Off+12 : p.L3-2]
	for i := range n {
		etherType, id := vlans.Tag(i)
		binary.BigEndian.PutUint16(tags[i*VLANLen:], etherType)
		binary.BigEndian.PutUint16(tags[i*VLANLen+2:], id)
	}
}

// VLANs returns the frame's tags.
func (p *Packet) VLANs() lb.VLANs {
	if p.L3-p.Off == EtherLen {
		return 0
	}
	return p.tags()
}

func (p *Packet) tags() (v lb.VLANs) {
	for tags := p.Buf[p.Off+12 : p.L3-2]; len(tags) >= VLANLen; tags = tags[VLANLen:] {
		v = v.Push(binary.BigEndian.Uint16(tags), binary.BigEndian.Uint16(tags[2:]))
	}
	return v
}

// SrcMAC returns the address of whoever put the frame on the wire last.
func (p *Packet) SrcMAC() [6]byte { return [6]byte(p.Buf[p.Off+6 : p.Off+12]) }

// FromGroup reports whether the frame says that it comes from a group's address, which no station has (IEEE 802.3 clause 3.2.3): what is
// sent there goes to many.
func (p *Packet) FromGroup() bool { return p.Buf[p.Off+6]&1 != 0 }

// SrcMACBits is SrcMAC as a number below 2^48, in one load.
func (p *Packet) SrcMACBits() uint64 {
	return binary.LittleEndian.Uint64(p.Buf[p.Off+6:p.Off+EtherLen]) & (1<<48 - 1)
}

// DstMAC returns the address the frame was sent to.
func (p *Packet) DstMAC() [6]byte { return [6]byte(p.Buf[p.Off : p.Off+6]) }
