package forward

import (
	"weir/dataplane/packet"
	"weir/dataplane/reason"
)

// protoIPIP is IPv4 in IPv4 (RFC 2003).
const protoIPIP = 4

// tun is tunnelling: the client's packet, its TTL apart, travels inside another one to the server (RFC 2003). TOS is copied
// outwards with its ECN bits (RFC 6040, normal mode) and so is DF, so that the sender's path MTU discovery sees the tunnel.
// The outer TTL is the inner one after its decrement, as IPVS does.
type tun struct{}

func (tun) ToServer(p *packet.Packet, h *Hop) reason.Reason {
	if r := admit(p, h.Path, packet.IPv4MinLen); r != reason.None {
		return r
	}
	inner := p.IP()
	inner.DecrementTTL()

	// The Ethernet header moves into the headroom; the outer header takes its place.
	ether := p.L3 - p.Off
	off := p.Off - packet.IPv4MinLen
	copy(p.Buf[off:off+ether], p.Buf[p.Off:p.L3])
	l3 := off + ether
	packet.PutIPv4(p.Buf[l3:], packet.IPv4Fields{
		TOS:      inner.TOS(),
		TTL:      inner.TTL(),
		Protocol: protoIPIP,
		TotalLen: uint16(packet.IPv4MinLen + len(inner)),
		ID:       h.ID,
		DF:       inner.DontFragment(),
		Src:      h.Path.Source.V4(),
		Dst:      h.Server.V4(),
	})
	p.Off, p.L4, p.L3 = off, l3+packet.IPv4MinLen, l3
	p.SetMACs(h.Path.DstMAC, h.Path.SrcMAC)
	return reason.None
}

// ToClient is never reached by a connection of this mode: none has a reverse key.
func (tun) ToClient(*packet.Packet, *Hop) reason.Reason { return reason.NoConnection }
