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

	// TUN; all zero in the other modes, but for ID and MTU.
	Source, Server lb.Addr   // of the outer header, both of one family
	Tunnel         lb.Tunnel // what is between the outer header and the packet
	ID             uint16    // outer identification, for packets that may be fragmented on their way; also FULLNAT's from IPv6 to IPv4
	Entropy        uint32    // GUE: a number that is the flow's own
	MTU            int       // what the network said of the way there, if less than Path.MTU; 0: nothing; also FULLNAT's to the other IP version
}

// Mode is one forwarding method. Both methods return a Reason other than None before they have changed anything: FragmentHeld for a first
// fragment whose checksum can only be kept right when its datagram's size is known (packet.Packet's Datagram).
type Mode interface {
	// ToServer rewrites a client's packet for its server.
	ToServer(p *packet.Packet, h *Hop) reason.Reason
	// ToClient rewrites a server's answer for the client.
	ToClient(p *packet.Packet, h *Hop) reason.Reason
}

// Modes are all modes by their lb.Mode; nil where a packet never passes one (lb.Local).
var Modes = [...]Mode{lb.DR: dr{}, lb.NAT: nat{}, lb.FULLNAT: fullnat{}, lb.TUN: tun{}, lb.Local: nil}
