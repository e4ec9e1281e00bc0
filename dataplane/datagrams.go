package dataplane

import (
	"sync"
	"sync/atomic"

	"weir/conntrack"
	"weir/dataplane/packet"
	"weir/dataplane/reason"
	"weir/lb"
)

// Bounds of what is kept about datagrams in pieces. A stripe's memory is made when its first fragment comes.
const (
	datagramStripes   = 16
	datagramsPerShare = 256 // of one stripe: 16 × 256 = 4,096 datagrams under way at once, of 800 bytes each
	heldPerShare      = 256 // frames that wait in one stripe: 16 × 256 × 2 KiB = 8 MiB, twice that with jumbo frames
	maxPieces         = 128 // of one datagram: 65,535 bytes in pieces of 552, as an MTU of 576 makes them, are 119
	maxHeld           = 64  // of one datagram: 65,535 bytes in pieces of 1,480 are 45
	datagramLifetime  = 30  // seconds: net.ipv4.ipfrag_time; RFC 8200 section 4.5 has 60
)

// datagrams are the IP datagrams that are passing in pieces, for all workers: which server the first fragment went to, so that the
// others go there too, the fragments that came before it, and the first one itself where it has to wait for the last to say how long the
// whole is. What is whole again is forgotten; what is not, when its time is over or others need the room, the oldest first. A stripe's mutex
// is taken by workers only, for fragments only.
type datagrams struct {
	stripes [datagramStripes]datagramStripe
	seed    uint64        // immutable: nobody outside is to know which stripe a datagram falls into
	inUse   atomic.Int32  // datagrams in all stripes
	nextID  atomic.Uint32 // see datagram.id
}

type datagramKey struct {
	src, dst lb.Addr
	id       uint32
	proto    lb.Proto
}

func (k *datagramKey) hash(seed uint64) uint64 {
	const odd = 0x9e3779b97f4a7c15 // the golden ratio's bits
	h := (seed ^ k.src.Hi) * odd
	h = (h>>32 ^ h ^ k.src.Lo) * odd
	h = (h>>32 ^ h ^ k.dst.Hi ^ k.dst.Lo) * odd
	return (h>>32 ^ h ^ uint64(k.id) ^ uint64(k.proto)<<32) * odd
}

// decision is what became of a datagram's first fragment.
type decision struct {
	made bool
	why  reason.Reason  // None: it was forwarded
	dir  conntrack.Dir  // along conn in this direction
	conn conntrack.Conn // a copy: a datagram scheduled by itself has no entry
}

type datagram struct {
	key  datagramKey
	born uint32 // coarse second
	// id is the datagram's identification behind weir where addresses are translated: two senders may have chosen the same one, and
	// would be one sender to the receiver (RFC 6864 section 5.2).
	id uint32
	decision

	pieces      [maxPieces]struct{ start, end uint16 }
	count       int  // of pieces
	bytes, size int  // that came; that it has, 0: not known yet
	broken      bool // pieces overlap

	held, lastHeld *heldFrame // in the order they came; once the decision is made, the first fragment alone or nothing
	holds          int

	older, newer *datagram // in the stripe's order of birth
}

// heldFrame is a copy of a fragment that waits for the first one, or of the first. It belongs to its stripe, or until giveBack to the worker
// that was handed it.
type heldFrame struct {
	next     *heldFrame
	off, end int
	iface    int    // that it came by
	buf      []byte // as large as the largest frame of a queue that it has held something of
}

type datagramStripe struct {
	mu             sync.Mutex
	byKey          map[datagramKey]*datagram
	oldest, newest *datagram
	free           []*datagram
	spare          *heldFrame // free frames
	made           int        // frames made so far
	_              [64]byte   // workers take neighbouring stripes
}

// taken is what take found out about a fragment.
type taken struct {
	why      reason.Reason // None: forward it; FragmentHeld: a copy waits; else drop it or give it to the host
	decide   bool          // it is the first: say by decide what became of it
	decision decision      // when made: what to do as well
	first    *heldFrame    // when made: the first one, which has waited for this, to be forwarded before it; the worker's until giveBack
	id       uint32
	size     int // of the datagram; 0: its last fragment has not come

	full, late, overlapping int // frames that had waited, and were given up for these reasons
}

func (d *datagrams) stripe(k *datagramKey) *datagramStripe { return &d.stripes[k.hash(d.seed)>>60] }

// take notes a fragment and says what to do with it. One that comes before its datagram's first is copied, to wait for it.
func (d *datagrams) take(k datagramKey, piece packet.Piece, now uint32, iface int, frame *Frame, out *taken) {
	s := d.stripe(&k)
	s.mu.Lock()
	defer s.mu.Unlock()
	*out = taken{}
	out.late = s.expire(d, now, 4)
	g := s.byKey[k]
	if g == nil {
		g = s.enter(d, k, now, out)
	}
	out.id = g.id
	out.why = g.note(piece)
	out.size = g.size
	if out.why != reason.None {
		if out.why == reason.FragmentOverlap {
			out.overlapping = s.giveBack(g.letGo())
		}
		return
	}
	if g.made {
		out.why, out.decision = g.why, g.decision
		if g.size != 0 {
			out.first = g.letGo()
		}
		s.forgetIfWhole(d, g)
		return
	}
	if piece.Start == 0 {
		out.decide = true
		return
	}
	if out.why = reason.FragmentTableFull; g.holds < maxHeld {
		out.why = s.hold(d, g, iface, frame, out)
	}
}

// hold keeps a copy of a fragment of g: FragmentHeld, or FragmentTableFull.
func (s *datagramStripe) hold(d *datagrams, g *datagram, iface int, frame *Frame, out *taken) reason.Reason {
	h := s.frame(d, g, out)
	if h == nil {
		return reason.FragmentTableFull
	}
	if need := Headroom + frame.End - frame.Off; len(h.buf) < need {
		h.buf = make([]byte, max(need, len(frame.Buf)))
	}
	h.off, h.iface = Headroom, iface
	h.end = h.off + copy(h.buf[h.off:], frame.Packet())
	g.hold(h)
	return reason.FragmentHeld
}

// decide notes what became of a datagram's first fragment. It returns the fragments that waited for it: the worker's until giveBack.
func (d *datagrams) decide(k datagramKey, v *decision) *heldFrame {
	s := d.stripe(&k)
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.byKey[k]
	if g == nil { // others needed the room
		return nil
	}
	g.decision = *v
	g.made = true
	held := g.letGo()
	s.forgetIfWhole(d, g)
	return held
}

// await is decide for a first fragment that cannot be rewritten before its datagram's size is known: a copy of it waits for the last one,
// others go on (FragmentHeld), or it is to be dropped, and all others with it. But None, and nothing is decided: the last one has come
// meanwhile, by another worker, and out has the size.
func (d *datagrams) await(k datagramKey, v *decision, iface int, frame *Frame, out *taken) (held *heldFrame, why reason.Reason) {
	s := d.stripe(&k)
	s.mu.Lock()
	defer s.mu.Unlock()
	out.full, out.late, out.overlapping = 0, 0, 0
	g := s.byKey[k]
	switch {
	case g == nil: // others needed the room
		return nil, reason.FragmentTableFull
	case g.broken:
		return nil, reason.FragmentOverlap
	case g.size != 0:
		out.size = g.size
		return nil, reason.None
	}
	held = g.letGo()
	if why = s.hold(d, g, iface, frame, out); why != reason.FragmentHeld {
		v.why = why
	}
	g.decision = *v
	g.made = true
	return held, why
}

// giveBack takes frames that take, decide and await handed out.
func (d *datagrams) giveBack(k datagramKey, list *heldFrame) {
	s := d.stripe(&k)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.giveBack(list)
}

// expire forgets datagrams whose time is over, and returns how many frames had waited in vain.
func (d *datagrams) expire(now uint32) (late int) {
	if d.inUse.Load() == 0 {
		return 0
	}
	for i := range d.stripes {
		s := &d.stripes[i]
		s.mu.Lock()
		late += s.expire(d, now, datagramsPerShare)
		s.mu.Unlock()
	}
	return late
}

func (s *datagramStripe) expire(d *datagrams, now uint32, most int) (late int) {
	for ; most > 0 && s.oldest != nil && now-s.oldest.born >= datagramLifetime; most-- {
		late += s.forget(d, s.oldest)
	}
	return late
}

// enter makes room for a datagram, if need be by forgetting the oldest.
func (s *datagramStripe) enter(d *datagrams, k datagramKey, now uint32, out *taken) *datagram {
	if s.byKey == nil {
		s.byKey = make(map[datagramKey]*datagram, datagramsPerShare)
		list := make([]datagram, datagramsPerShare)
		for i := range list {
			s.free = append(s.free, &list[i])
		}
	}
	if len(s.free) == 0 {
		out.full += s.forget(d, s.oldest)
	}
	g := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	*g = datagram{key: k, born: now, id: d.nextID.Add(1), older: s.newest}
	if s.newest != nil {
		s.newest.newer = g
	} else {
		s.oldest = g
	}
	s.newest = g
	s.byKey[k] = g
	d.inUse.Add(1)
	return g
}

// forget gives a datagram's place free, and returns how many frames it held.
func (s *datagramStripe) forget(d *datagrams, g *datagram) (lost int) {
	lost = s.giveBack(g.letGo())
	if g.older != nil {
		g.older.newer = g.newer
	} else {
		s.oldest = g.newer
	}
	if g.newer != nil {
		g.newer.older = g.older
	} else {
		s.newest = g.older
	}
	g.older, g.newer = nil, nil
	delete(s.byKey, g.key)
	s.free = append(s.free, g)
	d.inUse.Add(-1)
	return lost
}

// forgetIfWhole forgets a datagram all of whose pieces have passed: the next one with its identification is another.
func (s *datagramStripe) forgetIfWhole(d *datagrams, g *datagram) {
	if g.size != 0 && g.bytes == g.size {
		s.forget(d, g)
	}
}

// frame returns a frame to hold a fragment of g in, if need be the oldest datagrams', nil when all are g's own.
func (s *datagramStripe) frame(d *datagrams, g *datagram, out *taken) *heldFrame {
	for s.spare == nil {
		if s.made < heldPerShare {
			s.made++
			return new(heldFrame)
		}
		if s.oldest == g {
			return nil
		}
		out.full += s.forget(d, s.oldest)
	}
	h := s.spare
	s.spare = h.next
	h.next = nil
	return h
}

func (s *datagramStripe) giveBack(list *heldFrame) (n int) {
	for list != nil {
		h := list
		list = h.next
		h.next, s.spare = s.spare, h
		n++
	}
	return n
}

// note adds a piece to what has come. A datagram whose pieces overlap is dropped as a whole, lest one host reads it in one way and
// the next in another (RFC 5722, RFC 1858); the same piece again is dropped alone (RFC 8200 section 4.5).
func (g *datagram) note(p packet.Piece) reason.Reason {
	if g.broken {
		return reason.FragmentOverlap
	}
	for _, old := range g.pieces[:g.count] {
		if p.Start < int(old.end) && int(old.start) < p.End {
			if p.Start == int(old.start) && p.End == int(old.end) {
				return reason.FragmentDuplicate
			}
			g.broken = true
			return reason.FragmentOverlap
		}
	}
	// Two ends, or pieces behind the end, cannot be either.
	if !p.More && (g.size != 0 || g.furthest() > p.End) || g.size != 0 && p.End > g.size {
		g.broken = true
		return reason.FragmentOverlap
	}
	if g.count == maxPieces {
		return reason.FragmentTableFull
	}
	if !p.More {
		g.size = p.End
	}
	g.pieces[g.count].start, g.pieces[g.count].end = uint16(p.Start), uint16(p.End)
	g.count++
	g.bytes += p.End - p.Start
	return reason.None
}

func (g *datagram) furthest() (end int) {
	for _, old := range g.pieces[:g.count] {
		end = max(end, int(old.end))
	}
	return end
}

func (g *datagram) hold(h *heldFrame) {
	if g.held == nil {
		g.held = h
	} else {
		g.lastHeld.next = h
	}
	g.lastHeld = h
	g.holds++
}

// letGo hands over what g held.
func (g *datagram) letGo() *heldFrame {
	list := g.held
	g.held, g.lastHeld, g.holds = nil, nil, 0
	return list
}
