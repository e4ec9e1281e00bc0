package dataplane

import (
	"weir/conntrack"
	"weir/dataplane/forward"
	"weir/dataplane/packet"
	"weir/dataplane/reason"
)

// headersDiffer is by how much an IPv6 header is longer than an IPv4 one.
const headersDiffer = packet.IPv6Len - packet.IPv4MinLen

// errorAcross makes of p, an ICMP error about a packet q that FULLNAT took to the other IP version, one about the packet that its sender
// sent (RFC 7915 sections 4.2 to 5.3). Its source is the address that the sender sent to: a router of the one version has none in the other.
func (w *Worker) errorAcross(t *Table, p, q *packet.Packet, c *conntrack.Conn, dir conntrack.Dir) (int, reason.Reason) {
	if why := p.SoundError(); why != reason.None {
		return 0, why
	}
	message, ok := forward.Counterpart(p)
	if !ok {
		return 0, reason.CannotCross
	}
	// A way that carries the least that its version may carry is told so: the sender cannot know that the other version's header is shorter.
	mtu, tooBig := p.NextHopMTU(q)
	if tooBig && dir == conntrack.Reverse {
		w.shared.mtus.learn(q.Flow.Dst, mtu, w.now) // for packets that leave it to weir to cut them
	}
	if p.Is6() {
		mtu = max(mtu-headersDiffer, leastMTU4)
	} else {
		mtu = max(mtu+headersDiffer, leastMTU6)
	}
	var back forward.Path
	var sent packet.Endpoints
	if dir == conntrack.Reverse {
		sent = packet.Endpoints{Src: c.Client, SrcPort: c.ClientPort, Dst: c.Virtual, DstPort: c.VirtualPort}
		back = forward.Path{Iface: int(c.ClientIface), DstMAC: c.ClientMAC, SrcMAC: t.ifaces[c.ClientIface].MAC, VLANs: c.ClientVLANs}
	} else {
		s := t.Server(c.ServerID)
		if s == nil || s.Removed {
			return 0, reason.ServerRemoved
		}
		if s.Path == nil {
			return 0, reason.ServerUnreachable
		}
		sent = packet.Endpoints{Src: c.Server, SrcPort: c.ServerPort, Dst: c.Local, DstPort: c.LocalPort}
		back = *s.Path
	}
	// The quoted packet becomes one that came as it was sent, so that Answer can quote it: with an Ethernet header in front.
	ether := p.Ethernet()
	q.Off = q.L3 - len(ether)
	copy(q.Buf[q.Off:q.L3], ether)
	q.TranslateAcross(&sent, w.nextID())
	if !forward.Answer(q, message, sent.Dst, mtu) {
		return 0, reason.CannotCross
	}
	q.SetEthernet(&back.DstMAC, &back.SrcMAC, back.VLANs)
	*p = *q
	if dir == conntrack.Reverse {
		w.count.ToClient++
	} else {
		w.count.ToServer++
	}
	return back.Iface, reason.None
}
