package dataplane

import (
	"weir/dataplane/forward"
	"weir/dataplane/packet"
)

// clampMSS lowers the MSS that a SYN or SYN/ACK names, which limits what comes back, to what fits the way that it takes, with what is
// added to it there, and the way that it came by, which carries IP packets of cameBy bytes. In DR and TUN what comes back does not
// pass here: weir takes that way to be as narrow as the way there.
func clampMSS(p *packet.Packet, hop *forward.Hop, cameBy int) {
	header := packet.IPv4MinLen
	if p.Is6() {
		header = packet.IPv6Len
	}
	if most := min(hop.MaxLen(p), cameBy) - header - packet.TCPMinLen; most > 0 {
		p.ClampMSS(most)
	}
}
