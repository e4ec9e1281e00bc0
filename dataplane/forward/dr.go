package forward

import (
	"weir/dataplane/packet"
	"weir/dataplane/reason"
)

// dr is direct routing: the frame goes to the server's MAC address and the IP packet stays as it is but for its TTL, which
// IPVS takes down in this mode too. Answers do not pass the director.
type dr struct{}

func (dr) ToServer(p *packet.Packet, h *Hop) reason.Reason {
	if r := h.admit(p, 0, h.Path.MTU); r != reason.None {
		return r
	}
	p.DecrementTTL()
	h.Path.address(p)
	return reason.None
}

// ToClient is never reached by a connection of this mode: none has a reverse key.
func (dr) ToClient(*packet.Packet, *Hop) reason.Reason { return reason.NoConnection }
