package dataplane

import (
	"weir/dataplane/packet"
	"weir/dataplane/reason"
	"weir/lb"
)

// quick does for most packets, in one go, what handle does for any: a plain frame of a client's, of a connection to a DR or NAT server in
// whose state it changes nothing, that fits its way. It returns false, and has done nothing, when one of these is not so. Everything that it
// decides, handle would decide alike (TestQuickChangesNothing).
func (w *Worker) quick(t *Table, in *IfaceQueue, f *Frame, i int) bool {
	p, conns := &w.looks[i].packet, w.shared.conns
	if !p.Plain || p.TCPFlags&packet.SYN != 0 || t.services.count == 0 {
		return false
	}
	hit := conns.At(&p.Flow, w.places[i])
	s := t.Server(hit.ServerID()) // of no hit: none
	if s == nil || !s.ready || p.Len() > s.Path.MTU || p.TTL() <= 1 || s.Path.VLANs != 0 || !conns.Passes(hit, p.TCPFlags, w.now) {
		return false
	}
	switch hit.Mode() {
	case lb.DR:
		p.AgePlain()
	case lb.NAT:
		if clientTag(p.SrcMACBits(), in.Iface, 0) != hit.ClientTag() {
			return false
		}
		p.RelayPlain(s.hop.To.Dst, s.hop.To.DstPort)
	default:
		return false
	}
	p.AddressPlain(&s.Path.DstMAC, &s.Path.SrcMAC)
	w.countToServer(s.ID, uint64(p.Len()))
	if out := s.Path.Iface; out != in.Iface {
		w.send(in, out, f)
	} else if !in.Queue.Send(f) {
		w.count.Reasons[reason.NoTxRoom]++
	}
	return true
}
