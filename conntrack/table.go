// Package conntrack is the connection table: which server a flow belongs to, in what state it is, and when it ends. There is one
// table, shared by all workers: an answer may come in on another queue than the request, and persistence and the counts that schedulers
// use need one truth. It lies outside Go's heap, without a pointer in it, and is read without locks; docs/ARCHITECTURE.md has
// the reasons.
//
//	t, err := conntrack.New(conntrack.Options{Capacity: 1 << 20})
//	id, load, err := t.Servers().Acquire(rip)        // control, once per server
//
//	hash := t.Hash(&flow)                             // a worker, for every packet (with many at hand: Warm, Peek, Find, Passes)
//	ref, dir := t.Lookup(&flow, hash, &c)
//	if dir != conntrack.None {
//		t.Packet(ref, &c, dir, tcpFlags, now)     // the state goes on; usually nothing is stored
//	} else {
//		c = conntrack.Conn{Client: ..., ServerID: id, Mode: lb.DR}
//		t.Open(&c, tcpFlags)                      // the state that a first packet gives
//		ref, result := t.Insert(&c, now)
//	}
//	sweeper.Sweep(now, 1024)                          // once per batch: end what is due
//
// now is a coarse clock in whole seconds that never goes back and starts above 0.
package conntrack

import (
	"fmt"
	"sync"
	"sync/atomic"

	"weir/lb"
)

// Options says how large a table is and where its limits lie.
type Options struct {
	Capacity  int      // connections and templates, 1 to 2,147,483,646; default 1,048,576 (123 to 147 bytes each: the number of buckets is a power of two)
	HugePages bool     // ask for transparent huge pages, which spare page walks where the host backs them by its own
	FirstPort uint16   // FULLNAT: the first local port; default 1024
	LastPort  uint16   // FULLNAT: the last local port; default 65535
	Timeouts  Timeouts // the zero value means DefaultTimeouts
}

// Table is the connection table. All methods but Close may be called from any goroutine.
type Table struct {
	mem      *memory
	mask     uint64 // number of buckets - 1
	seed     seed
	timeouts atomic.Pointer[Timeouts]
	shedding atomic.Bool
	pool     *pool
	ports    *ports
	servers  Servers
	capacity int
	refused  [results]atomic.Uint64
	stripes  [stripes]stripe
}

// A stripe guards that a key is in the index once, and the changes of the connections whose forward key it has. Padded to
// a cache line of its own. It counts for whoever held it, which costs nothing there.
type stripe struct {
	sync.Mutex
	opened uint64
	ended  [causes]uint64
	_      [64 - 8*(2+causes)]byte
}

const stripes = 1024

// New makes an empty table.
func New(o Options) (*Table, error) {
	if o.Capacity == 0 {
		o.Capacity = 1 << 20
	}
	if o.Capacity < 1 || o.Capacity > maxCapacity {
		return nil, fmt.Errorf("capacity %d: allowed are 1 to %d connections", o.Capacity, maxCapacity)
	}
	if o.FirstPort == 0 {
		o.FirstPort = 1024
	}
	if o.LastPort == 0 {
		o.LastPort = 65535
	}
	if o.FirstPort > o.LastPort {
		return nil, fmt.Errorf("local ports %d to %d: the first is above the last", o.FirstPort, o.LastPort)
	}
	if o.Timeouts == (Timeouts{}) {
		o.Timeouts = DefaultTimeouts()
	}
	buckets := bucketsFor(o.Capacity)
	m, err := newMemory(o.Capacity+1, buckets, o.HugePages)
	if err != nil {
		return nil, err
	}
	t := &Table{mem: m, mask: uint64(buckets - 1), seed: newSeed(), pool: newPool(m.entries),
		ports: newPorts(o.FirstPort, o.LastPort), capacity: o.Capacity}
	t.timeouts.Store(&o.Timeouts)
	return t, nil
}

// Close gives the memory back. Nobody may use the table any more.
func (t *Table) Close() { t.mem.close() }

// Servers returns the registry of the servers that connections name.
func (t *Table) Servers() *Servers { return &t.servers }

// SetLocals makes addrs the local addresses (LIPs) that new FULLNAT connections use, in turn. Connections on others live on.
// One caller at a time.
func (t *Table) SetLocals(addrs []lb.Addr) error { return t.ports.set(addrs) }

// Timeouts returns what connections get with their next packet.
func (t *Table) Timeouts() Timeouts { return *t.timeouts.Load() }

// SetTimeouts changes it for all packets to come; a connection keeps its old timeout until its next one.
func (t *Table) SetTimeouts(v Timeouts) { t.timeouts.Store(&v) }

// SetSecure changes Timeouts.Secure alone.
func (t *Table) SetSecure(on bool) {
	for {
		old := t.timeouts.Load()
		v := *old
		v.Secure = on
		if old.Secure == on || t.timeouts.CompareAndSwap(old, &v) {
			return
		}
	}
}

// Hash returns the hash that Lookup wants, of a flow as the packet carries it.
func (t *Table) Hash(f *lb.Flow) uint64 { return t.seed.hash(f, 0) }

// HashOf is Hash of a flow in registers; ports are source(16) | destination(16).
func (t *Table) HashOf(src, dst lb.Addr, ports uint32, proto lb.Proto) uint64 {
	return t.seed.of(src, dst, uint64(ports)<<16|uint64(proto))
}

// templateKind tells a template's key from a flow's.
const templateKind = 1 << 63

// Lookup finds the connection that a packet with flow f belongs to, in either direction, and fills c: for Forward without the fields that
// Conn names as Reverse's and Load's. It takes no lock and never waits. None leaves c undefined.
func (t *Table) Lookup(f *lb.Flow, hash uint64, c *Conn) (Ref, Dir) {
	hit := t.find(f, hash, c)
	if hit.Dir() == Forward && !t.Conn(hit, f, c) || hit.Dir() == None {
		return 0, None
	}
	return hit.Ref(), hit.Dir()
}

// LookupTemplate finds the persistence template with the key f: the masked client and port 0, the service's address and port, or what IPVS
// puts in their place for marks and any-port services. It fills c as Load does.
func (t *Table) LookupTemplate(f *lb.Flow, c *Conn) (Ref, bool) {
	hash := t.seed.hash(f, templateKind)
	ref := t.findForward(f, hash, Template)
	return ref, ref != 0 && t.Load(ref, c)
}

// findForward finds forward keys only, of one kind: Template or 0.
func (t *Table) findForward(f *lb.Flow, hash uint64, kind Flags) Ref {
	tag := uint32(hash)
	for b, step := home(hash); ; b += step {
		bk := &t.mem.buckets[b&t.mask]
		for i := range slotsPerBucket {
			slot := bk[i].Load()
			if uint32(slot>>32) == tag && slot&reverseSlot == 0 {
				if hit := t.mem.entries[uint32(slot)].forward(f.Src, f.Dst, portsOf(f), f.Proto, kind, uint32(slot)); hit.Dir() != None {
					return hit.Ref()
				}
			}
		}
		if bk[slotsPerBucket].Load() == 0 {
			return 0
		}
	}
}

// findReverse finds reverse keys only.
func (t *Table) findReverse(f *lb.Flow, hash uint64, c *Conn) Ref {
	tag := uint32(hash)
	for b, step := home(hash); ; b += step {
		bk := &t.mem.buckets[b&t.mask]
		for i := range slotsPerBucket {
			slot := bk[i].Load()
			if uint32(slot>>32) == tag && slot&reverseSlot != 0 {
				n := uint32(slot) &^ reverseSlot
				if h, ok := t.reverse(n, f, c); ok {
					return newRef(n, headIncarnation(h))
				}
			}
		}
		if bk[slotsPerBucket].Load() == 0 {
			return 0
		}
	}
}

// reverse reads all of connection n into c if its server sends f.
func (t *Table) reverse(n uint32, f *lb.Flow, c *Conn) (head uint64, ok bool) {
	e := &t.mem.entries[n]
	for {
		h := e[wHead].Load()
		if headFree(h) || headProto(h) != f.Proto {
			return 0, false
		}
		t.read(n, h, c)
		if r, ok := c.ReverseFlow(); !ok || r != *f {
			return 0, false
		}
		if e[wHead].Load() == h {
			return h, true
		}
	}
}

// Load fills c with all that is known of ref's connection; false: it has ended, and c is as it was.
func (t *Table) Load(ref Ref, c *Conn) bool {
	n := ref.number()
	if n == 0 || int(n) >= len(t.mem.entries) {
		return false
	}
	var v Conn // the entry may be another's
	if t.load(n, &v) != ref {
		return false
	}
	*c = v
	return true
}

// load fills c from entry n and returns its Ref; 0: the entry is free.
func (t *Table) load(n uint32, c *Conn) Ref {
	e := &t.mem.entries[n]
	for {
		h := e[wHead].Load()
		if headFree(h) {
			return 0
		}
		t.read(n, h, c)
		c.Control = 0
		if c.Flags&HasControl != 0 {
			control := uint32(t.mem.rests[n][rControl].Load() >> 32)
			c.Control = newRef(control, headIncarnation(t.mem.entries[control][wHead].Load()))
		}
		if e[wHead].Load() == h {
			return newRef(n, headIncarnation(h))
		}
	}
}
