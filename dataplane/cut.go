package dataplane

import (
	"weir/dataplane/packet"
	"weir/dataplane/reason"
)

// sendPieces hands copies of a rewritten packet's pieces, each of at most p.Cut bytes of IP packet, to the queue of interface out. The frame
// is still its owner's then. Memory for them is that queue's: a flood of long packets takes what packets of the same number would.
func (w *Worker) sendPieces(p *packet.Packet, out int) {
	q := w.out[out]
	id := w.shared.datagrams.nextID.Add(1)
	// Behind an address that many senders share, the packet's own identification may be another's, too. A fragment has got one already.
	if w.shares {
		p.Renumber(uint16(id))
	}
	for pieces := p.Pieces(p.Cut, id); pieces.Left(); {
		frame := &w.copy
		var ok bool
		if *frame, ok = q.Alloc(); !ok {
			w.count.Reasons[reason.NoTxRoom]++
			return
		}
		n := pieces.Next(frame.Buf[frame.Off:])
		if n == 0 { // the interface's MTU grew beyond its frames
			w.count.Reasons[reason.TooBig]++
			q.Drop(frame)
			return
		}
		frame.End = frame.Off + n
		if !q.Send(frame) {
			w.count.Reasons[reason.NoTxRoom]++
			return
		}
	}
}
