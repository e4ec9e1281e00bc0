// Package forward holds the modes: what changes in a packet on its way to a server and back. A mode decides nothing; it is
// handed a parsed packet and a Hop that says what to write, and either writes all of it or leaves the packet as it came.
//
//	mode := forward.Modes[lb.NAT]
//	if r := mode.ToServer(&packet, &hop); r != reason.None { ... }
package forward

import (
	"weir/dataplane/packet"
	"weir/dataplane/reason"
	"weir/lb"
)

// Path is how the next station is reached: which interface, which MAC addresses, and what fits.
type Path struct {
	Iface  int      // index into the director's interfaces
	DstMAC [6]byte  // the next hop's
	SrcMAC [6]byte  // the interface's own
	VLANs  lb.VLANs // the tags of its frames
	Source lb.Addr  // the address the kernel would send from
	MTU    int      // bytes of IP packet that fit
}

// address writes the frame's header for the path.
func (path *Path) address(p *packet.Packet) { p.SetEthernet(&path.DstMAC, &path.SrcMAC, path.VLANs) }

// Hop is everything a mode needs to know about one packet's next step. It is plain data, made of the connection and its
// server's path: nothing in it depends on the packet.
type Hop struct {
	Path *Path
	To   packet.Endpoints // NAT, FULLNAT: what to write

	// TUN; all zero in the other modes, but for ID.
	Source, Server lb.Addr   // of the outer header, both of one family
	Tunnel         lb.Tunnel // what is between the outer header and the packet
	ID             uint16    // outer identification, for packets that may be fragmented on their way; also FULLNAT's from IPv6 to IPv4
	Entropy        uint32    // GUE: a number that is the flow's own
	MTU            int       // what the network said of the way there, if less than Path.MTU; 0: nothing
}

// MaxLen returns the longest packet that fits the way, whose sender is to be told when one does not: those over IPv4 without DF may be
// fragmented, and IPv6 carries 1,280 bytes everywhere (RFC 8200 section 5).
func (h *Hop) MaxLen(p *packet.Packet) int {
	n := h.Path.MTU - h.Overhead() - h.growth(p)
	if h.MTU == 0 || h.MTU >= h.Path.MTU {
		return n
	}
	switch learnt := h.MTU - h.Overhead(); {
	case p.Is6():
		return min(n, max(learnt, 1280))
	case p.IP().DontFragment():
		return learnt
	}
	return n
}

// crosses reports whether the packet becomes one of the other IP version: FULLNAT between two families.
func (h *Hop) crosses(p *packet.Packet) bool { return h.To.Dst.IsValid() && h.To.Dst.Is4() == p.Is6() }

// growth returns by how much a packet's IP header grows on its way to the other IP version, below 0 to IPv4.
func (h *Hop) growth(p *packet.Packet) int {
	switch {
	case !h.crosses(p):
		return 0
	case p.Is6():
		return packet.IPv4MinLen - packet.IPv6Len
	}
	return packet.IPv6Len - packet.IPv4MinLen
}

// Mode is one forwarding method. Both methods return a Reason other than None before they have changed anything.
type Mode interface {
	// ToServer rewrites a client's packet for its server.
	ToServer(p *packet.Packet, h *Hop) reason.Reason
	// ToClient rewrites a server's answer for the client.
	ToClient(p *packet.Packet, h *Hop) reason.Reason
}

// Modes are all modes by their lb.Mode; nil where a packet never passes one (lb.Local).
var Modes = [...]Mode{lb.DR: dr{}, lb.NAT: nat{}, lb.FULLNAT: nat{}, lb.TUN: tun{}, lb.Local: nil}

// admit refuses what a router refuses: a TTL that ends here (RFC 1812 5.3.1), a packet that does not fit the path.
func admit(p *packet.Packet, path *Path, overhead int) reason.Reason {
	if p.TTL() <= 1 {
		return reason.TTLExceeded
	}
	if p.Len()+overhead > path.MTU {
		return reason.TooBig
	}
	return reason.None
}
