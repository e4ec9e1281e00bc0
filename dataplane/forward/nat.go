package forward

import (
	"weir/dataplane/packet"
	"weir/dataplane/reason"
)

// nat is network address translation, in both its kinds: NAT writes the server's end only, FULLNAT both ends. Which, is in
// the Hop: an end that is not to change is zero there.
type nat struct{}

func (nat) ToServer(p *packet.Packet, h *Hop) reason.Reason { return translate(p, h) }
func (nat) ToClient(p *packet.Packet, h *Hop) reason.Reason { return translate(p, h) }

func translate(p *packet.Packet, h *Hop) reason.Reason {
	if h.crosses(p) {
		return cross(p, h)
	}
	if r := admit(p, h.Path, 0); r != reason.None {
		return r
	}
	p.DecrementTTL()
	if p.Kind == packet.Whole {
		p.Translate(&h.To)
	} else {
		p.TranslatePart(&h.To)
	}
	h.Path.address(p)
	return reason.None
}

// cross is FULLNAT between two IP versions (RFC 7915), for whole packets only; ICMP errors are the worker's matter (errorAcross).
func cross(p *packet.Packet, h *Hop) reason.Reason {
	if !p.CanCross() {
		return reason.CannotCross
	}
	grows := packet.IPv6Len
	if p.Is6() {
		grows = packet.IPv4MinLen
	}
	if r := admit(p, h.Path, grows-(p.L4-p.L3)); r != reason.None {
		return r
	}
	p.DecrementTTL()
	p.TranslateAcross(&h.To, h.ID)
	h.Path.address(p)
	return reason.None
}
