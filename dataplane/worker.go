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

// look is a packet on its way through the stages, unless it is a plain one that goes the quick way.
type look struct {
	packet packet.Packet
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
	refused  refusal
	shares   bool          // the packet at hand, which is to be cut, leaves with a source that is not its sender's
	quote    packet.Packet // of an ICMP error
	inner    packet.Packet // of a quoted tunnel packet, and a fragment that has waited
	copy     Frame         // on its way to another queue
	took     taken
	made     decision

	// Of all packets at hand.
	plains [group]packet.Plain
	plain  [group]bool
	looks  [group]look // of those that are not plain
	hashes [group]uint64
	places [group]conntrack.Place
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
		fetch(w.frames[:min(group, n)])
		for first := 0; first < n; first += group {
			last := min(first+group, n)
			fetch(w.frames[last:min(last+group, n)])
			w.handleGroup(t, in, w.frames[first:last])
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
	hashes, places, plain := w.hashes[:len(frames)], w.places[:len(frames)], w.plain[:len(frames)]
	straight := w.tap == nil && t.services.count > 0
	for i := range frames {
		f, p := &frames[i], &w.plains[i]
		if plain[i] = straight && p.Glance(f.Buf, f.Off, f.End); plain[i] {
			hashes[i] = conns.HashOf(p.Src, p.Dst, p.Ports, p.Proto)
			continue
		}
		hashes[i] = conns.Hash(&w.parse(f, i).packet.Flow) // what cannot be parsed has some hash, too
	}
	conns.Warm(hashes)
	conns.Peek(hashes, places)
	if w.tap != nil {
		w.handleTapped(t, in, frames, w.looks[:len(frames)])
		return
	}
	for i := range frames {
		f := &frames[i]
		if plain[i] {
			if w.quick(t, in, f, i) {
				continue
			}
			w.parse(f, i)
		}
		w.handle(t, in, f, i)
	}
}

// parse looks at frame f, the group's number i.
func (w *Worker) parse(f *Frame, i int) *look {
	l := &w.looks[i]
	l.why = l.packet.Parse(f.Buf, f.Off, f.End)
	return l
}

// handle brings frame f, the group's number i, to its end, and returns why it was not forwarded.
func (w *Worker) handle(t *Table, in *IfaceQueue, f *Frame, i int) reason.Reason {
	l := &w.looks[i]
	p := &l.packet
	out, why := in.Iface, l.why
	switch why {
	case reason.None:
		out, why = w.forward(t, in, p, w.hashes[i], w.places[i])
	case reason.Fragment:
		out, why = w.fragment(t, in, f, p)
	case reason.IPsec:
		out, why = w.ipsec(t, in, p)
	case reason.ICMPError:
		if out, why = w.icmpError(t, in, p); why == reason.None {
			f.Off, f.End = p.Off, p.End
		}
	}
	switch {
	case why == reason.None:
		if p.Cut != 0 {
			w.sendPieces(p, out)
			in.Queue.Drop(f)
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
		in.Queue.Drop(f)
	}
	return why
}

// forward finds the packet's connection, or opens one, and rewrites the packet. It returns the interface to leave by.
// With a Reason other than None the packet is as it was.
func (w *Worker) forward(t *Table, in *IfaceQueue, p *packet.Packet, hash uint64, at conntrack.Place) (int, reason.Reason) {
	if t.services.count == 0 { // IPVS handles nothing then (ip_vs_core.c, ipvs->enable)
		return 0, reason.NoService
	}
	return w.forwardHit(t, in, p, w.shared.conns.Find(&p.Flow, hash, at, &w.conn))
}

// forwardHit is forward for whatever was found, or not: it leaves the packet's connection in w.conn.
func (w *Worker) forwardHit(t *Table, in *IfaceQueue, p *packet.Packet, hit conntrack.Hit) (int, reason.Reason) {
	conns, c := w.shared.conns, &w.conn
	// A connection that ends between being found and being told of its packet is none: its local port may be another's already.
	switch hit.Dir() {
	case conntrack.Reverse:
		if conns.Packet(hit.Ref(), c, hit.Dir(), p.TCPFlags, w.now) {
			return w.toClient(t, p, c)
		}
	case conntrack.Forward:
		if !conns.Conn(hit, &p.Flow, c) {
			break
		}
		s := w.server(t, c.ServerID)
		switch {
		case superseded(t, s, c, p.TCPFlags):
			w.replaced = hit.Ref()
		case s == nil || s.Removed:
			return 0, reason.ServerRemoved
		case conns.Packet(hit.Ref(), c, hit.Dir(), p.TCPFlags, w.now):
			return w.toServer(t, in, p, hit.Ref(), c, s)
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
	hop := &s.hop
	switch c.Mode {
	case lb.NAT:
		w.follow(in, p, ref, c.ClientTag)
	case lb.FULLNAT:
		hop = &w.hop
		*hop = forward.Hop{Path: s.Path, ID: w.nextID(),
			To: packet.Endpoints{Src: c.Local, SrcPort: c.LocalPort, Dst: s.Addr, DstPort: s.Port}}
		if p.Is6() == s.Addr.Is4() {
			hop.MTU = w.shared.mtus.get(s.Addr, w.now)
		}
		w.follow(in, p, ref, c.ClientTag)
	case lb.TUN:
		hop = &w.hop
		*hop = forward.Hop{Path: s.Path}
		if why := w.wrap(t, p, s); why != reason.None {
			return 0, why
		}
		w.follow(in, p, ref, c.ClientTag) // for errors about the tunnel
	}
	if t.clampMSS && p.BeginsTCP() {
		clampMSS(p, hop, t.ifaces[in.Iface].MTU)
	}
	return w.rewrite(p, s, c.Mode, hop)
}

// rewrite makes of p what its server is to get, and counts it.
func (w *Worker) rewrite(p *packet.Packet, s *Server, mode lb.Mode, hop *forward.Hop) (int, reason.Reason) {
	size := uint64(p.End - p.L3)
	why := forward.Modes[mode].ToServer(p, hop)
	if why != reason.None {
		w.refused = refusal{fits: hop.MaxLen(p)}
		return 0, why
	}
	if p.Cut != 0 {
		w.shares = mode == lb.FULLNAT || mode == lb.TUN
	}
	w.countToServer(s.ID, size)
	return hop.Path.Iface, reason.None
}

// countToServer counts a packet of so many bytes that goes to a server.
func (w *Worker) countToServer(id lb.ServerID, size uint64) {
	w.count.ToServer++
	w.count.BytesIn += size
	m := w.meters.cell(id)
	m.InPackets++
	m.InBytes += size
}

func (w *Worker) toClient(t *Table, p *packet.Packet, c *conntrack.Conn) (int, reason.Reason) {
	out := int(c.ClientIface)
	iface := &t.ifaces[out]
	w.reply = forward.Path{Iface: out, DstMAC: c.ClientMAC, SrcMAC: iface.MAC, VLANs: c.ClientVLANs, MTU: iface.MTU}
	w.hop = forward.Hop{Path: &w.reply, To: packet.Endpoints{Src: c.Virtual, SrcPort: c.VirtualPort}}
	if c.Mode == lb.FULLNAT {
		if c.ClientPort == 0 { // it wants no answer (RFC 768), and zero would leave the local port in place, which is somebody else's at the client
			return 0, reason.NoConnection
		}
		w.hop.To.Dst, w.hop.To.DstPort = c.Client, c.ClientPort
		w.hop.ID = w.nextID()
		if !p.Is6() && !c.Client.Is4() && !p.IP().DontFragment() {
			w.hop.MTU = leastMTU6 // nobody here keeps what the ways to clients carry (RFC 7915 section 4)
		}
	}
	if t.clampMSS && p.BeginsTCP() {
		if s := t.Server(c.ServerID); s != nil && s.Path != nil {
			clampMSS(p, &w.hop, s.Path.MTU)
		}
	}
	size := uint64(p.End - p.L3)
	why := forward.Modes[c.Mode].ToClient(p, &w.hop)
	if why != reason.None {
		w.refused = refusal{fits: w.hop.MaxLen(p), answer: true}
		return 0, why
	}
	w.shares = true
	w.countToClient(c.ServerID, size)
	return out, reason.None
}

// countToClient counts a packet of so many bytes that a server sends.
func (w *Worker) countToClient(id lb.ServerID, size uint64) {
	w.count.ToClient++
	w.count.BytesOut += size
	m := w.meters.cell(id)
	m.OutPackets++
	m.OutBytes += size
}

// nextID returns an identification for an IPv4 header of weir's own making.
func (w *Worker) nextID() uint16 {
	w.id++
	return w.id
}

// follow notes from where the client's packets come now: its answers go back the same way. Without a ref, for what
// others say of them, it does not. The tag, in the entry's cache line, spares reading the rest to find that nothing changed.
func (w *Worker) follow(in *IfaceQueue, p *packet.Packet, ref conntrack.Ref, tag uint16) {
	if now := clientTag(p.SrcMACBits(), in.Iface, p.VLANs()); now != tag && ref != 0 {
		w.moved(in, p, ref, now)
	}
}

func (w *Worker) moved(in *IfaceQueue, p *packet.Packet, ref conntrack.Ref, tag uint16) {
	c := &w.conn
	if !p.FromGroup() && w.shared.conns.Load(ref, c) {
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
