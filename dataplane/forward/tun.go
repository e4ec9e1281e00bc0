package forward

import (
	"encoding/binary"

	"weir/dataplane/packet"
	"weir/dataplane/reason"
	"weir/lb"
)

// Protocol numbers of the tunnels (IANA "protocol-numbers").
const (
	protoIPIP = packet.ProtoIPv4
	protoIPv6 = packet.ProtoIPv6
	protoGRE  = 47
)

// Lengths of what stands between the outer IP header and the inner packet.
const (
	gueLen     = packet.UDPLen + 4
	greLen     = 4
	greCsumLen = 8
)

// tun is tunnelling: the client's packet, its TTL apart, travels inside another one to the server. Both may be of either family.
//
// TOS or traffic class is copied outwards with its ECN bits (RFC 6040, normal mode). So is DF from IPv4 to IPv4, so that the sender's
// path MTU discovery sees the tunnel; around IPv6 it is clear (RFC 4213 section 3.2). The outer TTL is the inner one after
// its decrement and an outer IPv6 flow label is 0, as in IPVS (ip_vs_xmit.c, ip_vs_tunnel_xmit and ip_vs_tunnel_xmit_v6).
type tun struct{}

func (tun) ToServer(p *packet.Packet, h *Hop) reason.Reason {
	overhead := h.Overhead()
	if r := h.admit(p, overhead, h.mtu()); r != reason.None {
		return r
	}
	p.DecrementTTL()
	inside, tos, ttl, df := uint8(protoIPIP), uint8(0), uint8(0), false
	if p.Is6() {
		ip := p.IP6()
		inside, tos, ttl = protoIPv6, ip.TrafficClass(), ip.HopLimit()
	} else {
		ip := p.IP()
		tos, ttl, df = ip.TOS(), ip.TTL(), ip.DontFragment()
	}

	// The outer headers take the Ethernet header's place, which is written anew, in the headroom.
	l3 := p.L3 - overhead
	outer := p.Buf[l3:p.End:p.End]
	follows := inside
	switch h.Tunnel.Type {
	case lb.GUE:
		follows = uint8(lb.UDP)
	case lb.GRE:
		follows = protoGRE
	}
	etherType := p.Buf[l3-2 : l3]
	if h.Server.Is4() {
		binary.BigEndian.PutUint16(etherType, packet.EtherIPv4)
		packet.PutIPv4(outer, packet.IPv4Fields{
			TOS: tos, TTL: ttl, Protocol: follows, TotalLen: uint16(len(outer)), ID: h.ID, DF: df,
			Src: h.Source.V4(), Dst: h.Server.V4(),
		})
		p.L4 = l3 + packet.IPv4MinLen
	} else {
		binary.BigEndian.PutUint16(etherType, packet.EtherIPv6)
		packet.PutIPv6(outer, packet.IPv6Fields{
			TrafficClass: tos, HopLimit: ttl, NextHeader: follows, PayloadLen: uint16(len(outer) - packet.IPv6Len),
			Src: h.Source, Dst: h.Server,
		})
		p.L4 = l3 + packet.IPv6Len
	}
	if h.Tunnel.Type != lb.IPIP {
		b := p.Buf[p.L4:p.End:p.End]
		if h.Tunnel.Type == lb.GUE {
			putGUE(b, h, inside)
		} else {
			putGRE(b, h, inside)
		}
	}
	p.L3 = l3
	h.Path.address(p)
	return reason.None
}

// ToClient is never reached by a connection of this mode: none has a reverse key.
func (tun) ToClient(*packet.Packet, *Hop) reason.Reason { return reason.NoConnection }

// Overhead returns how many bytes the mode adds to a packet: the outer headers of TUN.
func (h *Hop) Overhead() int {
	if !h.Server.IsValid() {
		return 0
	}
	n := packet.IPv6Len
	if h.Server.Is4() {
		n = packet.IPv4MinLen
	}
	switch h.Tunnel.Type {
	case lb.GUE:
		n += gueLen
	case lb.GRE:
		if n += greLen; h.Tunnel.Csum {
			n += greCsumLen - greLen
		}
	}
	return n
}

// putGUE writes a UDP header and a GUE header of variant 0 without options (draft-ietf-intarea-gue section 3.1).
//
//	| 0 |C|  Hlen   |  Proto/ctype  |             Flags             |
//
// The source port says which flow it is, so that the server's network card spreads flows over its queues (section 5.11).
// Without a checksum the UDP one is zero, over IPv6 too (RFC 6935). Remote checksum offload, IPVS's third choice, applies there to
// packets whose checksum is yet to be computed; one from the wire gets a plain UDP checksum instead (ip_vs_xmit.c, ip_vs_gue_encap).
func putGUE(b []byte, h *Hop, inside uint8) {
	binary.BigEndian.PutUint16(b[0:2], guePort(h.Entropy))
	binary.BigEndian.PutUint16(b[2:4], h.Tunnel.Port)
	binary.BigEndian.PutUint16(b[4:6], uint16(len(b)))
	b[6], b[7] = 0, 0
	b[8], b[9], b[10], b[11] = 0, inside, 0, 0
	if h.Tunnel.Csum || h.Tunnel.Remcs {
		c := packet.Pseudo(h.Source, h.Server, uint8(lb.UDP), b)
		if c == 0 {
			c = 0xffff // RFC 768: zero would say there is none
		}
		binary.BigEndian.PutUint16(b[6:8], c)
	}
}

// guePort maps a flow to the dynamic ports, 49152 to 65535 (RFC 6335 section 6).
func guePort(entropy uint32) uint16 { return 0xc000 | uint16(entropy&0x3fff) }

// putGRE writes a GRE header without key or sequence number (RFC 2784 section 2).
//
//	|C|       Reserved0       | Ver |         Protocol Type         |
//	|      Checksum (optional)      |       Reserved1 (optional)    |
func putGRE(b []byte, h *Hop, inside uint8) {
	b[0], b[1] = 0, 0
	etherType := uint16(packet.EtherIPv4)
	if inside == protoIPv6 {
		etherType = packet.EtherIPv6
	}
	binary.BigEndian.PutUint16(b[2:4], etherType)
	if h.Tunnel.Csum {
		b[0] = 0x80
		clear(b[4:8])
		binary.BigEndian.PutUint16(b[4:6], packet.Checksum(b))
	}
}
