package dataplane

import (
	"weir/conntrack"
	"weir/dataplane/packet"
	"weir/dataplane/reason"
	"weir/lb"
)

// fragment brings a fragment where its datagram's first one goes, since only that one says which flow it is of. One that comes before
// it waits until it comes. The first one itself waits for the last, if its checksum depends on the length of the whole.
func (w *Worker) fragment(t *Table, in *IfaceQueue, f *Frame, p *packet.Packet) (int, reason.Reason) {
	if packet.IsIPsec(p.Flow.Proto) { // each says as much as the first
		p.Kind = packet.Later
		return w.ipsec(t, in, p)
	}
	if t.services.count == 0 || p.Flow.Proto != lb.TCP && p.Flow.Proto != lb.UDP && p.Flow.Proto != lb.SCTP {
		return 0, reason.Fragment
	}
	piece, why := p.Fragment()
	if why != reason.None {
		return 0, why
	}
	first := piece.Start == 0
	if first {
		if why := p.ParseFirst(); why != reason.None {
			return 0, why
		}
	} else if p.Flow.Proto == lb.TCP && piece.Start < packet.TCPMinLen || p.Flow.Proto == lb.SCTP && piece.Start < packet.SCTPMinLen {
		return 0, reason.BadL4Header // it would replace what the first one says: RFC 3128
	}
	if p.Kind = packet.Whole; !first {
		p.Kind = packet.Later
	}
	key := datagramKey{src: p.Flow.Src, dst: p.Flow.Dst, id: piece.ID, proto: p.Flow.Proto}
	ds, took := &w.shared.datagrams, &w.took
	ds.take(key, piece, w.now, in.Iface, f, took)
	w.countGivenUp(took)
	if !took.decide {
		w.handleHeld(t, key, &took.decision, took.first)
		if took.why == reason.None {
			return w.along(t, in, p, &took.decision, took.id)
		}
		return 0, took.why
	}
	return w.firstFragment(t, in, f, p, key)
}

// firstFragment forwards a datagram's first fragment, or has it wait for the last one, and brings those that have waited for it where it goes.
func (w *Worker) firstFragment(t *Table, in *IfaceQueue, f *Frame, p *packet.Packet, key datagramKey) (out int, why reason.Reason) {
	ds, took, made := &w.shared.datagrams, &w.took, &w.made
	*made = decision{}
	w.conn = conntrack.Conn{}
	from := p.Flow // which FULLNAT to the other IP version changes
	p.Datagram = uint16(took.size)
	conns := w.shared.conns
	out, why = w.forwardHit(t, in, p, conns.Find(&p.Flow, conns.Hash(&p.Flow), 0, &w.conn))
	if why == reason.None || why == reason.FragmentHeld {
		made.conn, made.dir = w.conn, conntrack.Forward
		if from.Src != w.conn.Client || from.SrcPort != w.conn.ClientPort {
			made.dir = conntrack.Reverse
		}
	}
	switch why {
	case reason.None:
		made.renumber(p, took.id)
	case reason.FragmentHeld:
		var held *heldFrame
		if held, why = ds.await(key, made, in.Iface, f, took); why != reason.None {
			w.countGivenUp(took)
			w.handleHeld(t, key, made, held)
			return 0, why
		}
		p.Datagram = uint16(took.size)
		out, why = w.along(t, in, p, made, took.id)
	}
	made.why = why
	w.handleHeld(t, key, made, ds.decide(key, made))
	return out, why
}

// countGivenUp counts fragments that had waited in vain.
func (w *Worker) countGivenUp(took *taken) {
	w.count.Reasons[reason.FragmentLate] += uint64(took.late)
	w.count.Reasons[reason.FragmentTableFull] += uint64(took.full)
	w.count.Reasons[reason.FragmentOverlap] += uint64(took.overlapping)
}

// along forwards a fragment as its datagram's decision says.
func (w *Worker) along(t *Table, in *IfaceQueue, p *packet.Packet, d *decision, id uint32) (out int, why reason.Reason) {
	w.conn = d.conn
	if d.dir == conntrack.Reverse {
		out, why = w.toClient(t, p, &w.conn)
	} else {
		s := w.server(t, w.conn.ServerID)
		if s == nil || s.Removed {
			return 0, reason.ServerRemoved
		}
		p.Flow.SrcPort, p.Flow.DstPort = w.conn.ClientPort, w.conn.VirtualPort // for a tunnel's choice by flow
		out, why = w.toServer(t, in, p, 0, &w.conn, s)
	}
	if why == reason.None {
		d.renumber(p, id)
	}
	return out, why
}

// renumber gives a forwarded fragment its datagram's new identification, where its source address is no longer its sender's own.
func (d *decision) renumber(p *packet.Packet, id uint32) {
	if d.conn.Mode == lb.FULLNAT || d.conn.Mode == lb.NAT && d.dir == conntrack.Reverse {
		p.SetFragmentID(id)
	}
}

// handleHeld brings fragments that have waited to their ends, and gives them back.
func (w *Worker) handleHeld(t *Table, key datagramKey, d *decision, list *heldFrame) {
	if list == nil {
		return
	}
	shares := w.shares // the packet at hand's
	for h := list; h != nil; h = h.next {
		w.handleWaited(t, d, h)
	}
	w.shares = shares
	w.shared.datagrams.giveBack(key, list)
}

// handleWaited brings a fragment that has waited to its end, as handle does with one that has just come.
func (w *Worker) handleWaited(t *Table, d *decision, h *heldFrame) {
	p, why := &w.inner, d.why
	in := IfaceQueue{Iface: h.iface}
	if why == reason.None {
		p.Parse(h.buf, h.off, h.end)
		p.Kind = packet.Later
		if piece, _ := p.Fragment(); piece.Start == 0 {
			p.ParseFirst()
			p.Kind, p.Datagram = packet.Whole, uint16(w.took.size)
		}
		var out int
		if out, why = w.along(t, &in, p, d, w.took.id); why == reason.None {
			if p.Cut != 0 {
				w.sendPieces(p, out)
			} else {
				w.sendCopy(out, p.Buf[p.Off:p.End])
			}
			return
		}
	}
	w.count.Reasons[why]++
	if why.ToHost() {
		w.hostCopy(h.iface, h.buf[h.off:h.end])
	}
}
