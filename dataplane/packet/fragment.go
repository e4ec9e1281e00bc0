package packet

import (
	"encoding/binary"

	"weir/dataplane/reason"
	"weir/lb"
)

// Piece says which part of its datagram a fragment is (RFC 791 section 3.2, RFC 8200 section 4.5).
type Piece struct {
	ID         uint32 // of the datagram: 16 bits over IPv4
	Start, End int    // of the bytes behind the IP header, or over IPv6 behind the fragment header
	More       bool   // others follow
}

// maxDatagram is the most that a length field can say (RFC 791; RFC 8200 section 4.5 for what is reassembled).
const maxDatagram = 65535

// Fragment returns which piece of a datagram a packet that Parse called a fragment is. BadIPHeader: it is one that cannot be.
func (p *Packet) Fragment() (f Piece, why reason.Reason) {
	var word uint16
	header := p.L4 - p.L3
	if p.Is6() {
		h := p.Buf[p.L4-8 : p.L4]
		word = binary.BigEndian.Uint16(h[2:4])
		f.ID = binary.BigEndian.Uint32(h[4:8])
		f.Start, f.More = int(word&^7), word&1 != 0
		header -= IPv6Len + 8
	} else {
		word = binary.BigEndian.Uint16(p.Buf[p.L3+6 : p.L3+8])
		f.ID = uint32(p.IP().ID())
		f.Start, f.More = int(word&0x1fff)*8, word&0x2000 != 0
	}
	f.End = f.Start + p.End - p.L4
	// One of no bytes, or of an odd number in the middle, or one that ends beyond every datagram ("ping of death").
	if f.End == f.Start || f.More && (f.End-f.Start)%8 != 0 || header+f.End > maxDatagram {
		return f, reason.BadIPHeader
	}
	return f, reason.None
}

// ParseFirst finds the flow of a datagram's first fragment. One that does not have the whole header is refused, whatever
// follows: it could hide what it is (RFC 1858 section 3, RFC 7112).
func (p *Packet) ParseFirst() reason.Reason {
	b := p.L4Bytes()
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
		if binary.BigEndian.Uint16(b[4:6]) < UDPLen || p.Is6() && binary.BigEndian.Uint16(b[6:8]) == 0 {
			return reason.BadL4Header
		}
		p.TCPFlags = 0
	case lb.SCTP:
		if len(b) < SCTPMinLen {
			return reason.Truncated
		}
		p.TCPFlags = leadingChunk(b)
	default:
		return reason.NotL4
	}
	p.Flow.SrcPort = binary.BigEndian.Uint16(b[0:2])
	p.Flow.DstPort = binary.BigEndian.Uint16(b[2:4])
	return reason.None
}

// TranslatePart is Translate for what is no whole packet: of a later fragment it writes the addresses, of an ICMP error also what it
// quotes.
func (p *Packet) TranslatePart(to *Endpoints) {
	if p.Kind == Error {
		p.translateError(to)
		return
	}
	p.translateAddresses(to)
}

// SetFragmentID writes a fragment's identification.
func (p *Packet) SetFragmentID(id uint32) {
	if p.Is6() {
		binary.BigEndian.PutUint32(p.Buf[p.L4-4:p.L4], id)
		return
	}
	p.setID(uint16(id))
}
