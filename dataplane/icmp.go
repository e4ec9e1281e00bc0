package dataplane

import (
	"encoding/binary"

	"weir/conntrack"
	"weir/dataplane/forward"
	"weir/dataplane/packet"
	"weir/dataplane/reason"
	"weir/lb"
)

// icmpError brings an ICMP error to the end of the connection that sent the packet it is about: an error travels against the packet
// inside it, so the flow it belongs to is that packet's, reversed. It leaves the connection's state and time alone, and opens none
// (ip_vs_core.c, ip_vs_in_icmp and ip_vs_out_icmp).
func (w *Worker) icmpError(t *Table, in *IfaceQueue, p *packet.Packet) (int, reason.Reason) {
	q := &w.quote
	// The quoted packet's sender is who the error is for; another one is an attempt to reset or slow down somebody else's flow.
	if t.services.count == 0 || !p.Quote(q) || q.Flow.Src != p.Flow.Dst {
		return 0, reason.ICMPError
	}
	if martian(p.Flow.Src) {
		return 0, reason.Martian
	}
	flow, c := packet.ConnFlow(q.Flow.Reverse()), &w.conn
	ref, dir := w.shared.conns.Lookup(&flow, w.shared.conns.Hash(&flow), c)
	if dir == conntrack.None { // as have none weir's outer packets; but what is UDP to a TUN server may be NAT's
		return w.tunnelError(t, p, q)
	}
	if packet.IsIPsec(q.Flow.Proto) && c.Mode == lb.FULLNAT {
		return 0, reason.ICMPError // see ipsec
	}
	if c.Mode == lb.FULLNAT && w.shared.conns.Load(ref, c) && c.Client.Is4() != c.Server.Is4() {
		return w.errorAcross(t, p, q, c, dir)
	}
	if dir == conntrack.Reverse {
		// A server speaks as the service; a router keeps its name, which is what traceroute is for.
		p.KeepSender = p.Flow.Src != c.Server
		return w.toClient(t, p, c)
	}
	s := t.Server(c.ServerID)
	if s == nil || s.Removed {
		return 0, reason.ServerRemoved
	}
	p.Flow.SrcPort, p.Flow.DstPort = flow.SrcPort, flow.DstPort // for a tunnel's choice by flow
	return w.toServer(t, in, p, 0, c, s)
}

// tunnelError is for errors about weir's own outer packets, from the way to a TUN server: it learns the path's MTU and turns
// the error into one to the client, about the packet inside (RFC 2003 section 4). ICMPError: it is no such error.
func (w *Worker) tunnelError(t *Table, p, q *packet.Packet) (int, reason.Reason) {
	tunnel, at, inner6 := tunnelled(q)
	if !tunnel || !t.isTunnelServer(q.Flow.Dst) {
		return 0, reason.ICMPError
	}
	if why := p.SoundError(); why != reason.None {
		return 0, why
	}
	mtu, tooBig := p.NextHopMTU(q)
	if tooBig {
		mtu = w.shared.mtus.learn(q.Flow.Dst, mtu, w.now)
	}
	inner, c := &w.inner, &w.conn
	unknown := reason.BadQuote
	if q.Flow.Proto == lb.UDP {
		unknown = reason.ICMPError // the host may have sent it
	}
	// A router that quotes eight bytes of what it could not deliver does not say whose they were.
	if !q.Inner(inner, at, inner6) {
		return 0, unknown
	}
	flow := packet.ConnFlow(inner.Flow)
	ref, dir := w.shared.conns.Lookup(&flow, w.shared.conns.Hash(&flow), c)
	if dir != conntrack.Forward || c.Mode != lb.TUN || !w.shared.conns.Load(ref, c) {
		return 0, unknown
	}
	s := t.Server(c.ServerID)
	if s == nil || s.Addr != q.Flow.Dst {
		return 0, reason.BadQuote
	}
	message, source := forward.HostUnreachable, c.Virtual
	switch {
	case p.TimeExceeded():
		// The outer packet has the inner one's TTL: it is that one's which has ended, as on any other way. The router keeps its name.
		if message = forward.TimeExceeded; p.Is6() == inner.Is6() {
			source = p.Flow.Src
		}
	case tooBig:
		if !inner.Is6() && !inner.IP().DontFragment() {
			return 0, reason.BadQuote // the client lets routers fragment
		}
		w.hop = forward.Hop{Path: s.Path, Server: s.Addr, Tunnel: s.Tunnel, MTU: mtu}
		if s.Path == nil {
			return 0, reason.ServerUnreachable
		}
		mtu, message = w.hop.MaxLen(inner), forward.FragNeeded
	case p.ParameterProblem():
		return 0, reason.BadQuote // weir's own header: nothing that the client could change
	}
	if !w.mayAnswer() {
		return 0, reason.BadQuote
	}
	// The inner packet becomes one that came as it is, so that Answer can quote it: Ethernet header in front, the rest forgotten.
	ether := p.L3 - p.Off
	inner.Off = inner.L3 - ether
	copy(inner.Buf[inner.Off:inner.L3], p.Ethernet())
	etherType := uint16(packet.EtherIPv4)
	if inner.Is6() {
		etherType = packet.EtherIPv6
	}
	binary.BigEndian.PutUint16(inner.Buf[inner.L3-2:], etherType)
	if !forward.Answer(inner, message, source, mtu) {
		return 0, reason.BadQuote
	}
	out := int(c.ClientIface)
	inner.SetEthernet(&c.ClientMAC, &t.ifaces[out].MAC, c.ClientVLANs)
	*p = *inner
	w.count.ToClient++
	return out, reason.None
}

// tunnelled reports whether q is an outer packet as tun.go makes them, and where in its buffer the inner one is, of which family.
func tunnelled(q *packet.Packet) (ok bool, at int, inner6 bool) {
	l4 := q.L4Bytes() // eight bytes at least
	switch q.Flow.Proto {
	case 4:
		return true, q.L4, false
	case 41:
		return true, q.L4, true
	case 47: // GRE: RFC 2784 section 2; nothing but a checksum may be present
		at = q.L4 + 4
		if l4[0]&0x80 != 0 {
			at += 4
		}
		return l4[0]&^0x80 == 0, at, binary.BigEndian.Uint16(l4[2:4]) == packet.EtherIPv6
	case lb.UDP: // GUE, variant 0 without options
		const gue = 4
		if len(l4) < packet.UDPLen+gue {
			return true, q.End, false
		}
		return l4[8] == 0, q.L4 + packet.UDPLen + gue, l4[9] == 41
	}
	return false, 0, false
}

// mayAnswer takes one off what this worker may send in ICMP errors this second; false: nothing is left.
func (w *Worker) mayAnswer() bool {
	if w.icmpSecond != w.now {
		w.icmpSecond, w.icmpBudget = w.now, icmpPerSecond
	}
	if w.icmpBudget == 0 {
		return false
	}
	w.icmpBudget--
	return true
}
