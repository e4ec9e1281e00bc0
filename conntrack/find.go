package conntrack

import (
	"sync/atomic"

	"weir/lb"
)

// A worker has many packets at hand, and waits for all their cache lines at once instead of for one after the other:
//
//	table.Warm(hashes)              // has the hashes' buckets fetched
//	table.Peek(hashes, places)      // finds the hashes in them, has their entries fetched
//	for i := range hashes {
//		hit := table.Find(&flows[i], hashes[i], places[i], &c)
//	}
//
// BenchmarkWorker under bench/ is what it is measured by.

// Place is where in the table a hash is likely to be found: a short cut for Find. The zero Place knows nothing.
type Place uint32

// Warm has the buckets of the hashes fetched into the cache; it does not wait for them.
func (t *Table) Warm(hashes []uint64) {
	if len(hashes) > 0 {
		warm(t.mem.buckets, t.mask, hashes)
	}
}

// Peek looks for each hash in its first bucket, and has the entry it leads to fetched, and for a server's packet the rest of it. places is as long as
// hashes.
func (t *Table) Peek(hashes []uint64, places []Place) {
	if len(hashes) > 0 {
		peek(t.mem.buckets, t.mask, t.mem.entries, t.mem.rests, hashes, places[:len(hashes)])
	}
}

// Hit is a connection as it was found, small enough to stay in registers (four words are the most that Go's compiler keeps there).
type Hit struct {
	where  uint64 // direction(32) | entry number(32)
	head   uint64 // of the entry, as all below
	server uint64
	timer  uint64
}

// Dir returns which way the packet goes; None: there is no connection.
func (h Hit) Dir() Dir { return Dir(h.where >> 32) }

// Ref returns the connection's name.
func (h Hit) Ref() Ref { return newRef(uint32(h.where), headIncarnation(h.head)) }

// Of a Forward hit:

func (h Hit) ServerID() lb.ServerID { return lb.ServerID(h.server >> 32) }
func (h Hit) Mode() lb.Mode         { return headMode(h.head) }
func (h Hit) ClientTag() uint16     { return uint16(h.timer >> 48) }

func newHit(number uint32, dir Dir, head uint64) Hit {
	return Hit{where: uint64(dir)<<32 | uint64(number), head: head}
}

// Conn fills c with what Lookup would for a Forward hit. f is the flow it was found by. False: it has ended.
func (t *Table) Conn(h Hit, f *lb.Flow, c *Conn) bool {
	e := &t.mem.entries[uint32(h.where)]
	ports := e[wPorts].Load()
	c.Client, c.Virtual = f.Src, f.Dst
	c.ClientPort, c.VirtualPort, c.LocalPort, c.LocalIndex = f.SrcPort, f.DstPort, uint16(ports>>16), uint16(ports)
	c.ServerID, c.LastSeen = lb.ServerID(h.server>>32), uint32(h.server)
	c.ClientTag, c.Timeout = uint16(h.timer>>48), uint32(h.timer)
	c.setHead(h.head)
	if c.Mode == lb.FULLNAT {
		c.Local = t.ports.addr(c.LocalIndex)
	}
	return headIncarnation(e[wHead].Load()) == headIncarnation(h.head)
}

// Answers reports whether a packet found there would be one that a server sends.
func (at Place) Answers() bool { return at&reverseSlot != 0 }

// At is Find for the one place and for Forward only: what is elsewhere is not looked for. The flow comes in registers; ports are
// source(16) | destination(16).
func (t *Table) At(src, dst lb.Addr, ports uint32, proto lb.Proto, at Place) Hit {
	return t.mem.entries[uint32(at)&^reverseSlot].forward(src, dst, ports, proto, 0, uint32(at)&^reverseSlot)
}

// Back is At for Reverse only. It fills c.
func (t *Table) Back(f *lb.Flow, at Place, c *Conn) Hit {
	n := uint32(at) &^ reverseSlot
	if h, ok := t.reverse(n, f, c); ok {
		return newHit(n, Reverse, h)
	}
	return Hit{}
}

// Local returns the address and port that a Forward hit of FULLNAT is sent from; false: it has ended.
func (t *Table) Local(h Hit) (addr lb.Addr, port uint16, ok bool) {
	e := &t.mem.entries[uint32(h.where)]
	ports := e[wPorts].Load()
	return t.ports.addr(uint16(ports)), uint16(ports >> 16), headIncarnation(e[wHead].Load()) == headIncarnation(h.head)
}

// Find is Lookup with the help of a Place. It fills c for Reverse only.
func (t *Table) Find(f *lb.Flow, hash uint64, at Place, c *Conn) Hit {
	n := uint32(at) &^ reverseSlot
	if at&reverseSlot == 0 {
		if hit := t.mem.entries[n].forward(f.Src, f.Dst, portsOf(f), f.Proto, 0, n); hit.Dir() != None {
			return hit
		}
	} else if h, ok := t.reverse(n, f, c); ok {
		return newHit(n, Reverse, h)
	}
	return t.find(f, hash, c)
}

// find is Find without a Place.
func (t *Table) find(f *lb.Flow, hash uint64, c *Conn) Hit {
	tag := uint32(hash)
	for b, step := home(hash); ; b += step {
		bk := &t.mem.buckets[b&t.mask]
		for i := range slotsPerBucket {
			slot := bk[i].Load()
			if uint32(slot>>32) != tag {
				continue
			}
			n := uint32(slot) &^ reverseSlot
			if slot&reverseSlot == 0 {
				if hit := t.mem.entries[n].forward(f.Src, f.Dst, portsOf(f), f.Proto, 0, n); hit.Dir() != None {
					return hit
				}
			} else if h, ok := t.reverse(n, f, c); ok {
				return newHit(n, Reverse, h)
			}
		}
		if bk[slotsPerBucket].Load() == 0 {
			return Hit{}
		}
	}
}

// portsOf returns a flow's ports as wPorts has them.
func portsOf(f *lb.Flow) uint32 { return uint32(f.SrcPort)<<16 | uint32(f.DstPort) }

// forward returns e, entry number n, if its client sends f and it is of this kind: Template or 0.
func (e *entry) forward(src, dst lb.Addr, ports uint32, proto lb.Proto, kind Flags, n uint32) Hit {
	for {
		h := e[wHead].Load()
		if e[wClientLo].Load() != src.Lo || uint32(e[wPorts].Load()>>32) != ports || e[wVirtualLo].Load() != dst.Lo ||
			e[wClientHi].Load() != src.Hi || e[wVirtualHi].Load() != dst.Hi || headProto(h) != proto || headFree(h) || headFlags(h)&Template != kind {
			return Hit{}
		}
		server, timer := e[wServer].Load(), e[wTimer].Load()
		if e[wHead].Load() == h {
			return Hit{where: uint64(Forward)<<32 | uint64(n), head: h, server: server, timer: timer}
		}
	}
}

// Passes tells the connection of a Forward hit of its packet, as Packet does, if that changes nothing but the coarse second, and that a UDP flow's second
// packet has come; false: it is for Packet. That is so for nearly all packets.
func (t *Table) Passes(h Hit, tcpFlags uint8, now uint32) bool {
	v := t.timeouts.Load()
	if headProto(h.head) == lb.UDP {
		if v.UDP != uint32(h.timer) || headFlags(h.head)&Seen == 0 && !t.flag(h, Seen) {
			return false
		}
	} else if !v.keepsTCP(h.head, uint32(h.timer), Forward, tcpFlags) {
		return false
	}
	if uint32(h.server) != now {
		touchSince(&t.mem.entries[uint32(h.where)][wServer], h.server, now)
	}
	return true
}

// PassesBack is Passes for a Reverse hit, whose connection is in c. A template wants to hear of the first answer, so that one is for Packet.
func (t *Table) PassesBack(h Hit, c *Conn, tcpFlags uint8, now uint32) bool {
	v := t.timeouts.Load()
	if c.Proto == lb.UDP {
		if v.UDP != c.Timeout || c.Flags&(Seen|Answered) != Seen|Answered && (c.Flags&HasControl != 0 || !t.flag(h, Seen|Answered)) {
			return false
		}
	} else if !v.keepsTCP(h.head, c.Timeout, Reverse, tcpFlags) {
		return false
	}
	if c.LastSeen != now {
		touchSince(&t.mem.entries[uint32(h.where)][wServer], uint64(c.ServerID)<<32|uint64(c.LastSeen), now)
	}
	return true
}

// flag sets flags of a UDP connection whose head is still as it was found. The stripe is not held, so who holds it changes the head by
// compare-and-swap, too.
func (t *Table) flag(h Hit, flags Flags) bool {
	return t.mem.entries[uint32(h.where)][wHead].CompareAndSwap(h.head, h.head|uint64(flags))
}

// keepsTCP reports whether a connection with that head and timeout is one of TCP, and a packet leaves both what they are.
func (t *Timeouts) keepsTCP(head uint64, timeout uint32, dir Dir, tcpFlags uint8) bool {
	state := headState(head)
	return headProto(head) == lb.TCP && t.transitions().next(state, headMode(head), dir, tcpFlags) == state && t.of(lb.TCP, state) == timeout
}

// touchSince sets the coarse second in a wServer word that was read as old: an entry that is another's by now has another server or second,
// or is as fresh.
func touchSince(word *atomic.Uint64, old uint64, now uint32) {
	word.CompareAndSwap(old, old&^0xffffffff|uint64(now))
}
