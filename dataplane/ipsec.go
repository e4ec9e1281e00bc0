package dataplane

import (
	"weir/conntrack"
	"weir/dataplane/packet"
	"weir/dataplane/reason"
	"weir/lb"
)

// ipsec brings a packet of AH or ESP, or a fragment of one, where its client's ISAKMP exchange goes (UDP port 500 to 500 between the same
// addresses), and keeps that connection alive; it opens none (ip_vs_proto_ah_esp.c). NAT changes one address, which ESP survives and AH
// does not. FULLNAT cannot tell one client's answers from another's, having no ports to tell them by: such packets are the kernel's.
func (w *Worker) ipsec(t *Table, in *IfaceQueue, p *packet.Packet) (int, reason.Reason) {
	if t.services.count == 0 {
		return 0, reason.IPsec
	}
	p.Flow.SrcPort, p.Flow.DstPort = 0, 0 // of a fragment, what another packet has left
	conns, c := w.shared.conns, &w.conn
	flow := packet.ConnFlow(p.Flow)
	ref, dir := conns.Lookup(&flow, conns.Hash(&flow), c)
	if dir == conntrack.None || c.Mode == lb.FULLNAT {
		return 0, reason.IPsec
	}
	s := w.server(t, c.ServerID)
	switch {
	case dir == conntrack.Forward && (s == nil || s.Removed):
		return 0, reason.ServerRemoved
	case !conns.Renew(ref, w.now):
		return 0, reason.IPsec
	case dir == conntrack.Reverse:
		return w.toClient(t, p, c)
	}
	return w.toServer(t, in, p, ref, c, s)
}
