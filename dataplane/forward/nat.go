package forward

import (
	"weir/dataplane/packet"
	"weir/dataplane/reason"
	"weir/lb"
)

// nat is network address translation, in both its kinds: NAT writes the server's end only, FULLNAT both ends. Which, is in
// the Hop: an end that is not to change is zero there.
type nat struct{}

func (nat) ToServer(p *packet.Packet, h *Hop) reason.Reason { return translate(p, h) }
func (nat) ToClient(p *packet.Packet, h *Hop) reason.Reason { return translate(p, h) }

// fullnat is nat that can also lead from one IP version to the other.
type fullnat struct{}

func (fullnat) ToServer(p *packet.Packet, h *Hop) reason.Reason { return translateOrCross(p, h) }
func (fullnat) ToClient(p *packet.Packet, h *Hop) reason.Reason { return translateOrCross(p, h) }

func translateOrCross(p *packet.Packet, h *Hop) reason.Reason {
	if h.crosses(p) {
		return cross(p, h)
	}
	return translate(p, h)
}

func translate(p *packet.Packet, h *Hop) reason.Reason {
	if r := h.admit(p, 0, h.Path.MTU); r != reason.None {
		return r
	}
	if p.Flow.Proto == lb.SCTP && !p.CanTranslate(&h.To) {
		return reason.FragmentHeld
	}
	if p.Kind == packet.Whole {
		p.Relay(&h.To)
	} else {
		p.DecrementTTL()
		p.TranslatePart(&h.To)
	}
	h.Path.address(p)
	return reason.None
}

// cross is FULLNAT between two IP versions (RFC 7915), for packets and fragments; ICMP errors are the worker's matter (errorAcross).
func cross(p *packet.Packet, h *Hop) reason.Reason {
	switch {
	case !p.CanCross():
		return reason.CannotCross
	case !p.Is6() && packet.Checksum(p.IP()[:p.IP().HeaderLen()]) != 0:
		return reason.BadIPHeader // IPv6 has nothing that could stay wrong
	}
	if r := h.admit(p, growth(p), h.mtu()); r != reason.None {
		return r
	}
	if p.Flow.Proto == lb.SCTP && !p.CanTranslate(&h.To) {
		return reason.FragmentHeld
	}
	p.DecrementTTL()
	p.TranslateAcross(&h.To, h.ID)
	h.Path.address(p)
	return reason.None
}
