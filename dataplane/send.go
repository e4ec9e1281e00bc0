package dataplane

import (
	"weir/dataplane/forward"
	"weir/dataplane/packet"
	"weir/dataplane/reason"
)

// send hands the frame to the queue of interface out: itself when that is where it came from, else a copy of it.
func (w *Worker) send(in *IfaceQueue, out int, f *Frame) {
	if out == in.Iface {
		if !in.Queue.Send(f) {
			w.count.Reasons[reason.NoTxRoom]++
		}
		return
	}
	w.sendCopy(out, f.Packet())
	in.Queue.Drop(f)
}

// sendCopy hands a copy of b to the queue of interface out.
func (w *Worker) sendCopy(out int, b []byte) {
	q, frame := w.out[out], &w.copy
	var ok bool
	if *frame, ok = q.Alloc(); !ok {
		w.count.Reasons[reason.NoTxRoom]++
		return
	}
	if frame.End = frame.Off + copy(frame.Buf[frame.Off:], b); frame.End-frame.Off < len(b) { // its MTU grew beyond its frames
		w.count.Reasons[reason.TooBig]++
		q.Drop(frame)
		return
	}
	if !q.Send(frame) {
		w.count.Reasons[reason.NoTxRoom]++
	}
}

// toHost gives the kernel a copy of the frame as it came.
func (w *Worker) toHost(in *IfaceQueue, f *Frame) {
	w.hostCopy(in.Iface, f.Packet())
	in.Queue.Drop(f)
}

// hostCopy gives the kernel a copy of b, which came by interface iface.
func (w *Worker) hostCopy(iface int, b []byte) {
	if w.host != nil && w.host.Send(iface, b) {
		w.count.ToHost++
	} else {
		w.count.Reasons[reason.HostRefused]++
	}
}

// refusal is what is to be told of a packet that a mode refused: its TTL was up, or it did not fit.
type refusal struct {
	fits   int  // bytes of IP packet that do
	answer bool // it was a server's
}

// answer turns a packet that was stopped for why into the ICMP error its sender is owed, if it is owed one.
func (w *Worker) answer(t *Table, in *IfaceQueue, p *packet.Packet, why reason.Reason) bool {
	if p.Kind == packet.Error || p.Kind == packet.Later { // RFC 1122 section 3.2.2
		return false
	}
	var message forward.ICMP
	mtu := 0
	switch why {
	case reason.TTLExceeded:
		message = forward.TimeExceeded
	case reason.NoServer, reason.StrayAnswer:
		message = forward.PortUnreachable // for TCP as well: ip_vs_leave sends no RST
	case reason.TooBig:
		message, mtu = forward.FragNeeded, w.refused.fits
	default:
		return false
	}
	if !p.Is6() && packet.Checksum(p.IP()[:p.IP().HeaderLen()]) != 0 { // RFC 1812 section 5.2.2: it may have come from anybody
		return false
	}
	if !w.mayAnswer() {
		return false
	}
	// The sender is the address the packet was for, while that is a service's; an answer's destination is the client's.
	source := p.Flow.Dst
	if why == reason.StrayAnswer || why != reason.NoServer && w.refused.answer {
		if source = t.ifaces[in.Iface].Addr; p.Is6() {
			source = t.ifaces[in.Iface].Addr6
		}
	}
	return forward.Answer(p, message, source, mtu)
}
