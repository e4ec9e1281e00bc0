package packet

import (
	"encoding/binary"

	"weir/dataplane/reason"
	"weir/lb"
)

// IPv6 is a view on an IPv6 packet whose header has been checked (RFC 8200 section 3).
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	|Version| Traffic Class |           Flow Label                  |
//	|         Payload Length        |  Next Header  |   Hop Limit   |
//	|                    Source Address (16 bytes)                  |
//	|                 Destination Address (16 bytes)                |
type IPv6 []byte

// IPv6Len is the length of the fixed header.
const IPv6Len = 40

func (b IPv6) TrafficClass() uint8 { return uint8(binary.BigEndian.Uint16(b[0:2]) >> 4) }
func (b IPv6) FlowLabel() uint32   { return binary.BigEndian.Uint32(b[0:4]) & 0xfffff }
func (b IPv6) PayloadLen() int     { return int(binary.BigEndian.Uint16(b[4:6])) }
func (b IPv6) NextHeader() uint8   { return b[6] }
func (b IPv6) HopLimit() uint8     { return b[7] }
func (b IPv6) Src() lb.Addr        { return addr6(b[8:24]) }
func (b IPv6) Dst() lb.Addr        { return addr6(b[24:40]) }

func addr6(b []byte) lb.Addr {
	return lb.Addr{Hi: binary.BigEndian.Uint64(b[0:8]), Lo: binary.BigEndian.Uint64(b[8:16])}
}

func putAddr6(b []byte, a lb.Addr) {
	binary.BigEndian.PutUint64(b[0:8], a.Hi)
	binary.BigEndian.PutUint64(b[8:16], a.Lo)
}

// IPv6Fields is what PutIPv6 writes; version 6, flow label 0.
type IPv6Fields struct {
	TrafficClass, HopLimit, NextHeader uint8
	PayloadLen                         uint16
	Src, Dst                           lb.Addr
}

// PutIPv6 writes a 40-byte header to b.
func PutIPv6(b []byte, f IPv6Fields) {
	b = b[:IPv6Len]
	binary.BigEndian.PutUint32(b[0:4], 6<<28|uint32(f.TrafficClass)<<20)
	binary.BigEndian.PutUint16(b[4:6], f.PayloadLen)
	b[6], b[7] = f.NextHeader, f.HopLimit
	putAddr6(b[8:24], f.Src)
	putAddr6(b[24:40], f.Dst)
}

// Next-header values of the extension headers that are walked over (RFC 8200 section 4; IANA "protocol-numbers").
const (
	nextHopByHop    = 0
	nextRouting     = 43
	nextFragment    = 44
	nextDestination = 60
)

// maxExtensions bounds the walk. A packet that follows RFC 8200 section 4.1 has at most five such headers; the rest of any length would be
// an attacker's way to make parsing cost what he likes.
const maxExtensions = 6

func (p *Packet) parseIPv6(b []byte) reason.Reason {
	if len(b) < IPv6Len {
		return reason.Truncated
	}
	payload, next := int(binary.BigEndian.Uint16(b[4:6])), b[6]
	// A payload length of zero in front of a hop-by-hop header is a jumbogram (RFC 2675), which no link here carries.
	if b[0]>>4 != 6 || payload == 0 && next == nextHopByHop {
		return reason.BadIPHeader
	}
	if IPv6Len+payload > len(b) {
		return reason.Truncated
	}
	b = b[:IPv6Len+payload]
	p.End = p.L3 + len(b)
	src, dst := addr6(b[8:24]), addr6(b[24:40])
	// IPv4-mapped addresses name IPv4 everywhere behind this line; on the wire they are forged (draft-itojun-v6ops-v4mapped-harmful, and
	// net/ipv6/ip6_input.c, ip6_rcv_core). The unspecified address is no one's (RFC 4291 section 2.5.2).
	if src.Is4() || dst.Is4() || !src.IsValid() || !dst.IsValid() {
		return reason.BadIPHeader
	}
	p.Flow.Src, p.Flow.Dst = src, dst
	at, why := p.walk(b, next)
	p.L4 = p.L3 + at
	if why != reason.None {
		return why
	}
	if p.Flow.Proto == lb.UDP && payload-(at-IPv6Len) >= UDPLen && binary.BigEndian.Uint16(b[at+udpChecksum:]) == 0 {
		return reason.BadL4Header // illegal over IPv6: RFC 8200 section 8.1
	}
	return p.parseL4(b[at:])
}

// walk goes over the extension headers of a packet whose first is of type next, and sets the flow's protocol. It returns where in b
// layer 4 begins. What only the host could make sense of is none of weir's protocols.
func (p *Packet) walk(b []byte, next byte) (at int, why reason.Reason) {
	at = IPv6Len
	for range maxExtensions {
		p.Flow.Proto = lb.Proto(next)
		switch next {
		case nextHopByHop, nextRouting, nextDestination:
			if len(b) < at+8 {
				return at, reason.Truncated
			}
			header := 8 + 8*int(b[at+1])
			if len(b) < at+header {
				return at, reason.Truncated
			}
			// Hop-by-hop options elsewhere than first get an error from the host (RFC 8200 section 4.1). With segments left the
			// destination is not the one that the checksum below counts in (section 8.1): the host is a waypoint.
			if next == nextHopByHop && at > IPv6Len || next == nextRouting && b[at+3] != 0 {
				return at, reason.NotL4
			}
			next = b[at]
			at += header
		case nextFragment:
			if len(b) < at+8 {
				return at, reason.Truncated
			}
			next = b[at]
			// Offset, two reserved bits, more fragments. An "atomic fragment" is a whole packet (RFC 6946).
			whole := binary.BigEndian.Uint16(b[at+2:at+4])&^6 == 0
			at += 8
			if !whole {
				p.Flow.Proto = lb.Proto(next)
				return at, reason.Fragment
			}
		default:
			return at, reason.None
		}
	}
	return at, reason.NotL4
}
