// Package dataplane is what happens to a packet: a Worker takes it from a queue, finds its connection or opens one, lets the
// connection's mode rewrite it, and sends it on.
//
//	shared := dataplane.NewShared(conns, clock)
//	w := dataplane.NewWorker(shared, queues, host)
//	shared.Publish(table)
//	for { w.Turn() }
//
// A worker owns its queues and everything in it; what it shares with others is the published Table (read only), the
// connection table (lock-free to read) and each service's Picker (for the time of one pick). It allocates nothing, logs
// nothing and never waits for control.
package dataplane

import (
	"weir/conntrack"
	"weir/dataplane/forward"
	"weir/dataplane/packet"
	"weir/dataplane/reason"
	"weir/lb"
)

// IfaceQueue is a queue and the interface it is of.
type IfaceQueue struct {
	Iface int // index into Table.Ifaces
	Queue Queue
}

// Host takes packets that are the kernel's. Send copies the frame and must neither block nor allocate; false: it could not
// take it, which the worker counts as reason.HostRefused.
type Host interface {
	Send(iface int, frame []byte) bool
}

const (
	// expirePerTurn bounds the connection table slots looked at between two batches.
	expirePerTurn = 4096
	// icmpPerSecond bounds the ICMP errors of one worker, like net.ipv4.icmp_msgs_per_sec (RFC 1812 4.3.2.8).
	icmpPerSecond = 1000
)

// group is how many packets are parsed and looked up together: enough that waiting for memory is shared, few enough that what
// was fetched for the first is still in the nearest cache when the last is done (32 × 2 lines of table, 32 × 2 of packet).
const group = 32

// look is a packet on its way through the stages.
type look struct {
	packet packet.Packet
	hash   uint64
	why    reason.Reason // from parsing
}

// Worker moves the packets of its queues. It belongs to one goroutine; only Counters may be called from others.
type Worker struct {
	shared  *Shared
	queues  []IfaceQueue
	out     []Queue // by interface: where this worker transmits; nil: it has no queue there
	host    Host
	sweeper *conntrack.Sweeper

	// Scratch of the packet at hand. It stands in front of the large arrays, in whichever the memory's page ends: a hop on both sides of
	// that took NAT from 73 to 81 ns a packet.
	conn conntrack.Conn
	// replaced is the connection that the packet at hand supersedes. It counts at its server until another has been picked, as in
	// IPVS, where a timer ends it a moment later (ip_vs_conn_expire_now).
	replaced conntrack.Ref
	hop      forward.Hop
	reply    forward.Path
	quote    packet.Packet // of an ICMP error
	inner    packet.Packet // of a quoted tunnel packet, and a fragment that has waited
	took     taken
	made     decision

	// Of all packets at hand.
	looks  [group]look
	frames [BatchSize]Frame

	now        uint32 // of this batch
	id         uint16 // identification of the last IPv4 header made
	icmpBudget int    // errors this worker may still send in second icmpSecond
	icmpSecond uint32

	fragmentSecond uint32 // the last one in which datagrams were looked at whose time may be over

	meters meters
	count  Counters
	public shared
	turns  turns

	index    int
	captured *Capture // that it knows of, see takePart
	tap      *tap     // nil: no capture is under way
}

// NewWorker returns worker number index of workers, on queues that are its alone. The host path may be nil: then what would
// go there is dropped and counted as refused.
func NewWorker(s *Shared, index, workers int, queues []IfaceQueue, host Host) *Worker {
	w := &Worker{shared: s, queues: queues, host: host, sweeper: s.conns.Sweeper(index, workers), index: index}
	w.meters.changed = make([]uint32, 0, BatchSize*len(queues))
	s.join(&w.meters)
	s.turning.join(&w.turns)
	for _, q := range queues {
		for len(w.out) <= q.Iface {
			w.out = append(w.out, nil)
		}
		if w.out[q.Iface] == nil {
			w.out[q.Iface] = q.Queue
		}
	}
	return w
}

// Counters returns what the worker had counted at the end of its last turn. Safe to call from any goroutine.
func (w *Worker) Counters() Counters { return w.public.read() }

// Turn serves every queue once and does a bounded piece of housekeeping. It returns how many packets it took, and whether the
// housekeeping of this second is done: only then may the worker sleep.
func (w *Worker) Turn() (taken int, done bool) {
	w.turns.begin()
	t := w.shared.table.Load()
	w.now = w.shared.clock()
	if c := w.shared.captures.Load(); c != w.captured {
		w.takePart(c)
	}
	for i := range w.queues {
		in := &w.queues[i]
		n := in.Queue.Recv(w.frames[:])
		if n == 0 {
			continue
		}
		taken += n
		w.count.Batches++
		w.count.Received += uint64(n)
		for first := 0; first < n; first += group {
			w.handleGroup(t, in, w.frames[first:min(first+group, n)])
		}
	}
	for i := range w.queues {
		w.queues[i].Queue.Flush()
	}
	if w.fragmentSecond != w.now {
		w.fragmentSecond = w.now
		w.count.Reasons[reason.FragmentLate] += uint64(w.shared.datagrams.expire(w.now))
	}
	ended, done := w.sweeper.Sweep(w.now, expirePerTurn)
	w.count.Expired += uint64(ended)
	w.meters.show()
	w.public.show(&w.count)
	w.turns.end()
	return taken, done
}

// handleGroup brings at most group frames to their ends, in order: sent, given to the host, or dropped. The frames are the
// queue's again afterwards.
func (w *Worker) handleGroup(t *Table, in *IfaceQueue, frames []Frame) {
	conns := w.shared.conns
	looks := w.looks[:len(frames)]
	for i := range looks {
		l, f := &looks[i], &frames[i]
		if l.why = l.packet.Parse(f.Buf, f.Off, f.End); l.why == reason.None {
			l.hash = conns.Hash(&l.packet.Flow)
		}
	}
	if len(looks) > 1 {
		for i := range looks {
			conns.WarmBucket(looks[i].hash)
		}
		for i := range looks {
			conns.WarmEntry(looks[i].hash)
		}
	}
	if w.tap != nil {
		w.handleTapped(t, in, frames, looks)
		return
	}
	for i := range looks {
		w.handle(t, in, &frames[i], &looks[i])
	}
}

// handle brings one parsed frame to its end, and returns why it was not forwarded.
func (w *Worker) handle(t *Table, in *IfaceQueue, f *Frame, l *look) reason.Reason {
	p := &l.packet
	out, why := in.Iface, l.why
	switch why {
	case reason.None:
		out, why = w.forward(t, in, p, l.hash)
	case reason.Fragment:
		out, why = w.fragment(t, in, f, p)
	case reason.ICMPError:
		if out, why = w.icmpError(t, in, p); why == reason.None {
			f.Off, f.End = p.Off, p.End
		}
	}
	switch {
	case why == reason.None:
		if w.hop.Cut != 0 {
			w.sendPieces(p, out, w.hop.Cut)
			in.Queue.Drop(*f)
			return why
		}
		if p.Off != f.Off { // something was prepended: the packet ends where it says, and padding is behind it no more
			f.Off, f.End = p.Off, p.End
		}
		w.send(in, out, f)
	case why.ToHost():
		w.count.Reasons[why]++
		w.toHost(in, f)
	default:
		w.count.Reasons[why]++
		if w.answer(t, in, p, why) {
			w.count.Answered++
			f.Off, f.End = p.Off, p.End
			w.send(in, in.Iface, f)
			return why
		}
		in.Queue.Drop(*f)
	}
	return why
}

// forward finds the packet's connection, or opens one, and rewrites the packet. It returns the interface to leave by.
// With a Reason other than None the packet is as it was.
func (w *Worker) forward(t *Table, in *IfaceQueue, p *packet.Packet, hash uint64) (int, reason.Reason) {
	conns, c := w.shared.conns, &w.conn
	if t.services.count == 0 { // IPVS handles nothing then (ip_vs_core.c, ipvs->enable)
		return 0, reason.NoService
	}
	ref, dir := conns.Lookup(&p.Flow, hash, c)
	// A connection that ends between being found and being told of its packet is none: its local port may be another's already.
	switch dir {
	case conntrack.Reverse:
		if conns.Packet(ref, c, dir, p.TCPFlags, w.now) {
			return w.toClient(t, p, c)
		}
	case conntrack.Forward:
		s := w.server(t, c.ServerID)
		switch {
		case superseded(t, s, c, p.TCPFlags):
			w.replaced = ref
		case s == nil || s.Removed:
			return 0, reason.ServerRemoved
		case conns.Packet(ref, c, dir, p.TCPFlags, w.now):
			return w.toServer(t, in, p, ref, c, s)
		}
	}
	ref, why := w.open(t, in, p)
	if w.replaced != 0 { // nothing took its place
		conns.Delete(w.replaced)
		w.replaced = 0
	}
	if why != reason.None {
		return 0, why
	}
	s := w.server(t, c.ServerID)
	if s == nil {
		return 0, reason.ServerRemoved
	}
	return w.toServer(t, in, p, ref, c, s)
}

// server finds a server in the worker's table, or else in the latest: a connection may have been opened, or a list picked from, by
// a worker that has loaded a newer table since this one's turn began.
func (w *Worker) server(t *Table, id lb.ServerID) *Server {
	if s := t.Server(id); s != nil {
		return s
	}
	return w.shared.table.Load().Server(id)
}

// superseded reports whether the packet of connection c, to server s, ends c and is to be looked at as if it had none: a SYN or INIT on
// an old connection, as conn_reuse_mode has it, or on one whose server takes no more (ip_vs_core.c, ip_vs_in_hook), and
// any packet to a removed server whose connections are to end.
func superseded(t *Table, s *Server, c *conntrack.Conn, tcpFlags uint8) bool {
	nodest := t.sysctls.ExpireNodestConn
	if conntrack.Begins(c.Proto, tcpFlags) {
		if nodest == lb.NodestAll && s != nil && s.Weight == 0 || c.Reopens(tcpFlags, t.sysctls.ConnReuseMode) {
			return true
		}
	}
	if s == nil || s.Removed {
		return nodest == lb.NodestAll || nodest == lb.NodestUDP && c.Proto == lb.UDP
	}
	return false
}

func (w *Worker) toServer(t *Table, in *IfaceQueue, p *packet.Packet, ref conntrack.Ref, c *conntrack.Conn, s *Server) (int, reason.Reason) {
	switch {
	case s.Mode == lb.Local || c.Mode == lb.Local: // the latter: it was local when the connection began
		return 0, reason.LocalServer
	case s.Path == nil:
		return 0, reason.ServerUnreachable
	}
	w.hop = forward.Hop{Path: s.Path}
	switch c.Mode {
	case lb.NAT:
		w.hop.To = packet.Endpoints{Dst: s.Addr, DstPort: s.Port}
		w.follow(in, p, ref, c)
	case lb.FULLNAT:
		w.hop.To = packet.Endpoints{Src: c.Local, SrcPort: c.LocalPort, Dst: s.Addr, DstPort: s.Port}
		w.hop.ID = w.nextID()
		if p.Is6() == s.Addr.Is4() {
			w.hop.MTU = w.shared.mtus.get(s.Addr, w.now)
		}
		w.follow(in, p, ref, c)
	case lb.TUN:
		if why := w.wrap(t, p, s); why != reason.None {
			return 0, why
		}
		w.follow(in, p, ref, c) // for errors about the tunnel
	}
	size := uint64(p.End - p.L3)
	why := forward.Modes[c.Mode].ToServer(p, &w.hop)
	if why == reason.None {
		w.count.ToServer++
		w.count.BytesIn += size
		m := w.meters.cell(s.ID)
		m.InPackets++
		m.InBytes += size
	}
	return s.Path.Iface, why
}

func (w *Worker) toClient(t *Table, p *packet.Packet, c *conntrack.Conn) (int, reason.Reason) {
	out := int(c.ClientIface)
	iface := &t.ifaces[out]
	w.reply = forward.Path{Iface: out, DstMAC: c.ClientMAC, SrcMAC: iface.MAC, VLANs: c.ClientVLANs, MTU: iface.MTU}
	w.hop = forward.Hop{Path: &w.reply, To: packet.Endpoints{Src: c.Virtual, SrcPort: c.VirtualPort}}
	if c.Mode == lb.FULLNAT {
		w.hop.To.Dst, w.hop.To.DstPort = c.Client, c.ClientPort
		w.hop.ID = w.nextID()
		if !p.Is6() && !c.Client.Is4() && !p.IP().DontFragment() {
			w.hop.MTU = leastMTU6 // nobody here keeps what the ways to clients carry (RFC 7915 section 4)
		}
	}
	size := uint64(p.End - p.L3)
	why := forward.Modes[c.Mode].ToClient(p, &w.hop)
	if why == reason.None {
		w.count.ToClient++
		w.count.BytesOut += size
		m := w.meters.cell(c.ServerID)
		m.OutPackets++
		m.OutBytes += size
	}
	return out, why
}

// nextID returns an identification for an IPv4 header of weir's own making.
func (w *Worker) nextID() uint16 {
	w.id++
	return w.id
}

// follow notes from where the client's packets come now: its answers go back the same way. Without a ref, for what
// others say of them, it does not. The tag, in the entry's first cache line, spares reading the second to find that nothing changed.
func (w *Worker) follow(in *IfaceQueue, p *packet.Packet, ref conntrack.Ref, c *conntrack.Conn) {
	if tag := clientTag(p.SrcMACBits(), in.Iface, p.VLANs()); tag != c.ClientTag && ref != 0 {
		c.ClientTag, c.ClientMAC, c.ClientIface, c.ClientVLANs = tag, p.SrcMAC(), uint16(in.Iface), p.VLANs()
		w.shared.conns.SetClient(ref, c)
	}
}

// clientTag is 16 bits of where a client's packets come from. Two ways with one tag (1 in 65,536 pairs) would leave answers on the
// first until the client's path changes once more, so every bit of the address counts in it.
func clientTag(mac uint64, iface int, vlans lb.VLANs) uint16 {
	v := (mac | uint64(iface)<<48) + uint64(vlans)*0xc2b2ae3d27d4eb4f // any odd number that is not the other
	return uint16(v * 0x9e3779b97f4a7c15 >> 48)                       // Fibonacci hashing: the golden ratio's top bits
}

// send hands the frame to the queue of interface out: itself when that is where it came from, else a copy of it.
func (w *Worker) send(in *IfaceQueue, out int, f *Frame) {
	if out == in.Iface {
		if !in.Queue.Send(*f) {
			w.count.Reasons[reason.NoTxRoom]++
		}
		return
	}
	w.sendCopy(out, f.Packet())
	in.Queue.Drop(*f)
}

// sendCopy hands a copy of b to the queue of interface out.
func (w *Worker) sendCopy(out int, b []byte) {
	q := w.out[out]
	if frame, ok := q.Alloc(); ok {
		if frame.End = frame.Off + copy(frame.Buf[frame.Off:], b); frame.End-frame.Off < len(b) { // its MTU grew beyond its frames
			w.count.Reasons[reason.TooBig]++
			q.Drop(frame)
			return
		}
		ok = q.Send(frame)
		if !ok {
			w.count.Reasons[reason.NoTxRoom]++
		}
	} else {
		w.count.Reasons[reason.NoTxRoom]++
	}
}

// toHost gives the kernel a copy of the frame as it came.
func (w *Worker) toHost(in *IfaceQueue, f *Frame) {
	w.hostCopy(in.Iface, f.Packet())
	in.Queue.Drop(*f)
}

// hostCopy gives the kernel a copy of b, which came by interface iface.
func (w *Worker) hostCopy(iface int, b []byte) {
	if w.host != nil && w.host.Send(iface, b) {
		w.count.ToHost++
	} else {
		w.count.Reasons[reason.HostRefused]++
	}
}

// answer turns a packet that was stopped for why into the ICMP error its sender is owed, if it is owed one.
func (w *Worker) answer(t *Table, in *IfaceQueue, p *packet.Packet, why reason.Reason) bool {
	if p.Kind != packet.Whole { // RFC 1122 section 3.2.2: not about an ICMP error, nor about a later fragment
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
		message, mtu = forward.FragNeeded, w.hop.MaxLen(p)
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
	if why == reason.StrayAnswer || w.conn.ServerID != 0 && source != w.conn.Virtual {
		if source = t.ifaces[in.Iface].Addr; p.Is6() {
			source = t.ifaces[in.Iface].Addr6
		}
	}
	return forward.Answer(p, message, source, mtu)
}
