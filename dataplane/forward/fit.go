package forward

import (
	"weir/dataplane/packet"
	"weir/dataplane/reason"
)

// leastMTU6 is what IPv6 carries everywhere, and the least that a sender can be told (RFC 8200 section 5, RFC 8201 section 4).
const leastMTU6 = 1280

// MaxLen returns the longest packet that fits the way whole; of IPv6 never less than every sender may send.
func (h *Hop) MaxLen(p *packet.Packet) int {
	n := h.mtu() - h.Overhead()
	if h.crosses(p) {
		n -= growth(p)
	}
	if p.Is6() {
		n = max(n, leastMTU6)
	}
	return n
}

// mtu returns how many bytes of IP packet the way carries: as the routes say, or less if the network has told so.
func (h *Hop) mtu() int {
	if h.MTU != 0 && h.MTU < h.Path.MTU {
		return h.MTU
	}
	return h.Path.MTU
}

// crosses reports whether the packet becomes one of the other IP version: FULLNAT between two families.
func (h *Hop) crosses(p *packet.Packet) bool { return h.To.Dst.IsValid() && h.To.Dst.Is4() == p.Is6() }

// growth returns by how much a packet grows on its way to the other IP version, below 0 to IPv4.
func growth(p *packet.Packet) int { return p.Across() - (p.L4 - p.L3) }

// admit refuses what a router refuses: a TTL that ends here (RFC 1812 section 5.3.1), a packet that with what is added to it does not fit
// mtu, and that may not be cut.
func (h *Hop) admit(p *packet.Packet, added, mtu int) reason.Reason {
	if p.TTL() <= 1 {
		return reason.TTLExceeded
	}
	if p.Len()+added > mtu {
		return h.tooLong(p, added, mtu)
	}
	return reason.None
}

// tooLong says whether a packet that does not fit goes on in pieces. That is so when its sender leaves it to routers, which is IPv4
// without DF, and when its sender need not be able to send a shorter one: an IPv6 packet of no more than 1,280 bytes, inside a
// tunnel (RFC 2473 section 7.1, RFC 4213 section 3.2.2) or become one of IPv4. IPVS has both done by the kernel's output (ip_vs_xmit.c, ensure_mtu_is_adequate).
func (h *Hop) tooLong(p *packet.Packet, added, mtu int) reason.Reason {
	if p.Is6() {
		if p.Len() > leastMTU6 || added == 0 {
			return reason.TooBig
		}
	} else if p.IP().DontFragment() {
		return reason.TooBig
	}
	p.Cut = mtu
	return reason.None
}
