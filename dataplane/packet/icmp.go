package packet

import (
	"encoding/binary"

	"weir/dataplane/reason"
	"weir/lb"
)

// Protocol numbers of ICMP (IANA "protocol-numbers").
const (
	ICMP   lb.Proto = 1
	ICMPv6 lb.Proto = 58
)

// An ICMP error (RFC 792, RFC 4443 section 2.4): what stands in front of the packet that it quotes. The last four bytes are the type's own.
//
//	|     Type      |     Code      |          Checksum             |
//	|                  next hop's MTU, or unused                    |
const icmpHeaderLen = 8

// Types of errors. Source quench (4) is dead (RFC 6633) and a redirect (5) is for the host.
const (
	unreachable4, timeExceeded4, parameter4          = 3, 11, 12
	unreachable6, tooBig6, timeExceeded6, parameter6 = 1, 2, 3, 4
	fragNeeded4                                      = 4 // code of unreachable4
)

// parseICMP looks whether a packet of a protocol without ports is an ICMP error, or one of IPsec.
func (p *Packet) parseICMP(b []byte) reason.Reason {
	p.TCPFlags = 0
	p.Flow.SrcPort, p.Flow.DstPort = 0, 0
	switch {
	case IsIPsec(p.Flow.Proto):
		p.Kind = Sealed
		return reason.IPsec
	case p.Flow.Proto == ICMP && !p.Is6() && len(b) >= icmpHeaderLen:
		if t := b[0]; t == unreachable4 || t == timeExceeded4 || t == parameter4 {
			p.Kind, p.KeepSender = Error, false
			return reason.ICMPError
		}
	case p.Flow.Proto == ICMPv6 && p.Is6() && len(b) >= icmpHeaderLen:
		if t := b[0]; t == unreachable6 || t == tooBig6 || t == timeExceeded6 || t == parameter6 {
			p.Kind, p.KeepSender = Error, false
			return reason.ICMPError
		}
	}
	return reason.NotL4
}

// Quote looks at the packet that an ICMP error quotes, and at the one inside that again if it is a tunnel's (see Packet.Inner).
// False: too little of it is there to say which flow it is of, or it is a later fragment. What is behind an offset of q's is
// there; what a length field says need not be.
func (p *Packet) Quote(q *Packet) bool {
	at, end := p.L4+icmpHeaderLen, p.End
	if n := p.quotedLen(); n >= leastExtended {
		end = min(end, at+n)
	}
	return p.quoteAt(q, at, end, p.Is6())
}

// leastExtended is how long a quote is at least that an extension follows: a smaller number where its length stands is no length.
const leastExtended = 128

// quotedLen returns how many bytes of an error are the packet that it quotes, where it says so because an extension follows (RFC 4884
// sections 4 and 5); 0: all.
func (p *Packet) quotedLen() int {
	b := p.L4Bytes()
	if p.Is6() {
		if b[0] == unreachable6 || b[0] == timeExceeded6 {
			return int(b[4]) * 8
		}
		return 0
	}
	return int(b[5]) * 4
}

func (p *Packet) quoteAt(q *Packet, at, end int, is6 bool) bool {
	b := p.Buf[at:end:end]
	*q = Packet{Buf: p.Buf, Off: at, L3: at, End: end}
	var l4 int
	if is6 {
		if len(b) < IPv6Len || b[0]>>4 != 6 {
			return false
		}
		q.Flow.Src, q.Flow.Dst = addr6(b[8:24]), addr6(b[24:40])
		if q.Flow.Src.Is4() || q.Flow.Dst.Is4() {
			return false
		}
		q.End = min(q.End, at+IPv6Len+int(binary.BigEndian.Uint16(b[4:6])))
		var why reason.Reason
		if l4, why = q.walk(b, b[6]); why == reason.Fragment && binary.BigEndian.Uint16(b[l4-6:l4-4])&^7 != 0 {
			return false
		} else if why != reason.None && why != reason.Fragment {
			return false
		}
	} else {
		if len(b) < IPv4MinLen || b[0]>>4 != 4 {
			return false
		}
		l4 = int(b[0]&0xf) * 4
		if l4 < IPv4MinLen || binary.BigEndian.Uint16(b[6:8])&0x1fff != 0 {
			return false
		}
		q.Flow.Src = lb.AddrFrom4(binary.BigEndian.Uint32(b[12:16]))
		q.Flow.Dst = lb.AddrFrom4(binary.BigEndian.Uint32(b[16:20]))
		q.Flow.Proto = lb.Proto(b[9])
		q.End = min(q.End, at+int(binary.BigEndian.Uint16(b[2:4])))
	}
	// Eight bytes are what RFC 792 has every host quote of layer 4.
	if q.L4 = at + l4; q.End < q.L4+8 {
		return false
	}
	if q.Flow.Proto == lb.TCP || q.Flow.Proto == lb.UDP || q.Flow.Proto == lb.SCTP {
		q.Flow.SrcPort = binary.BigEndian.Uint16(q.Buf[q.L4:])
		q.Flow.DstPort = binary.BigEndian.Uint16(q.Buf[q.L4+2:])
	}
	return true
}

// NextHopMTU returns the MTU that an error tells the sender to keep to; false: it is another error. A router that tells none
// (RFC 1191 section 4) is taken to mean the next plateau below what did not fit.
func (p *Packet) NextHopMTU(q *Packet) (mtu int, ok bool) {
	b := p.L4Bytes()
	if p.Is6() {
		return int(min(binary.BigEndian.Uint32(b[4:8]), 65535)), b[0] == tooBig6
	}
	if b[0] != unreachable4 || b[1] != fragNeeded4 {
		return 0, false
	}
	if mtu = int(binary.BigEndian.Uint16(b[6:8])); mtu == 0 {
		length := q.IP().TotalLen()
		for _, mtu = range [...]int{32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68} { // RFC 1191 section 7.1
			if mtu < length {
				break
			}
		}
	}
	return mtu, true
}

// ParameterProblem reports whether an error says that a header makes no sense.
func (p *Packet) ParameterProblem() bool {
	t := p.L4Bytes()[0]
	return t == parameter4 && !p.Is6() || t == parameter6 && p.Is6()
}

// TimeExceeded reports whether an error says that a packet's TTL or hop limit has ended on its way.
func (p *Packet) TimeExceeded() bool {
	t, code := p.L4Bytes()[0], p.L4Bytes()[1]
	return code == 0 && (t == timeExceeded4 && !p.Is6() || t == timeExceeded6 && p.Is6())
}

// Inner looks at the packet that a quoted one carries from offset at on, which is IPv6 or IPv4. Like Quote.
func (p *Packet) Inner(q *Packet, at int, is6 bool) bool {
	return at < p.End && p.quoteAt(q, at, p.End, is6)
}

// SoundError returns None when an ICMP error arrived as it was sent, as far as checksums tell: what is made anew of one that did not would
// look sound.
func (p *Packet) SoundError() reason.Reason {
	l4 := p.L4Bytes()
	if p.Is6() {
		if Pseudo(p.Flow.Src, p.Flow.Dst, uint8(ICMPv6), l4) != 0 {
			return reason.BadL4Header
		}
		return reason.None
	}
	if Checksum(p.IP()[:p.IP().HeaderLen()]) != 0 {
		return reason.BadIPHeader
	}
	if Checksum(l4) != 0 {
		return reason.BadL4Header
	}
	return reason.None
}

// translateError rewrites an ICMP error that travels along with the packets that Translate(to) rewrites: its own addresses as
// theirs, and those of the packet it quotes, which travelled the other way, the other way about (RFC 5508 section 4). The
// checksums, the quoted ones as far as they are there, are brought along by the difference.
func (p *Packet) translateError(to *Endpoints) {
	var q Packet
	if !p.Quote(&q) {
		return
	}
	back := Endpoints{Src: to.Dst, SrcPort: to.DstPort, Dst: to.Src, DstPort: to.SrcPort}
	field := p.Buf[p.L4+2 : p.L4+4]
	// All that changes of the quoted packet stands between its first byte and the end of its ports and checksum.
	changing := q.Buf[q.L3 : q.L4+q.quotedHeader()]
	before := foldSum(sum(0, changing))
	q.translateQuoted(&back)
	c := Update16(binary.BigEndian.Uint16(field), before, foldSum(sum(0, changing)))

	outer := Endpoints{Src: to.Src, Dst: to.Dst}
	if p.KeepSender {
		outer.Src = lb.Addr{}
	}
	delta := p.translateAddresses(&outer)
	if p.Is6() { // ICMPv6's checksum has a pseudo header, ICMP's has not
		c = ^fold(uint32(^c) + delta)
	}
	binary.BigEndian.PutUint16(field, c)
}

// quotedHeader returns how many bytes of layer 4 are there, up to its checksum.
func (p *Packet) quotedHeader() int {
	switch n := p.End - p.L4; {
	case p.Flow.Proto == lb.TCP && n >= tcpChecksum+2:
		return tcpChecksum + 2
	case p.Flow.Proto == lb.SCTP && n >= sctpHeader:
		return sctpHeader
	}
	return UDPLen
}

// translateQuoted is Translate for a packet of which the end may be missing.
func (p *Packet) translateQuoted(to *Endpoints) {
	if p.Flow.Proto == lb.UDP || p.Flow.Proto == lb.TCP && p.End-p.L4 >= tcpChecksum+2 {
		p.Translate(to)
		return
	}
	p.translateAddresses(to)
	if IsIPsec(p.Flow.Proto) {
		return
	}
	l4 := p.Buf[p.L4 : p.L4+p.quotedHeader()]
	old := binary.BigEndian.Uint32(l4)
	if to.SrcPort != 0 {
		binary.BigEndian.PutUint16(l4[0:2], to.SrcPort)
	}
	if to.DstPort != 0 {
		binary.BigEndian.PutUint16(l4[2:4], to.DstPort)
	}
	if p.Flow.Proto == lb.SCTP {
		updateCRC(l4, old, p.datagramLen())
	}
}

// translateAddresses writes addresses, with IPv4's header checksum, and returns what that adds to the sum of a pseudo header.
func (p *Packet) translateAddresses(to *Endpoints) (delta uint32) {
	if p.Is6() {
		return p.translateAddresses6(to)
	}
	return p.translateAddresses4(to, 0)
}
