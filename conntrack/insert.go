package conntrack

import (
	"weir/lb"
)

// Result is what became of an Insert.
type Result uint8

const (
	OK           Result = iota
	Exists              // a connection with this forward key is there; the Ref is its
	ReverseTaken        // NAT: another connection gets this server's packets to this client port
	Full                // no free entry, and no half-open connection found to make room
	NoPort              // FULLNAT: no local address and port is free towards this server
	NoServer            // ServerID is no server any more, or is being expelled
	NoTemplate          // Control's template has ended or been retired: look again
	results
)

func (r Result) String() string {
	return [...]string{"ok", "exists", "reverse key taken", "table full", "no local port", "no such server", "no such template"}[r]
}

// Open sets c's state and timeout as the first packet of a connection does: c.Proto and c.Mode are read, c.State, c.Timeout written.
func (t *Table) Open(c *Conn, tcpFlags uint8) {
	v := t.timeouts.Load()
	c.State = UDP
	if c.Proto == lb.TCP {
		c.State = v.transitions().next(NoState, c.Mode, Forward, tcpFlags)
	} else if c.Proto == lb.SCTP {
		c.State = nextSCTP(NoState, c.Mode, Forward, tcpFlags)
	}
	c.Timeout = v.of(c.Proto, c.State)
}

// Insert makes c a connection, counted at its server; c.LastSeen becomes now. All addresses and ports, ServerID, Proto and
// Mode are c's own, but for Server, which is that of ServerID; State and Timeout come from Open (a template has state NONE and its service's timeout). FULLNAT: a local
// address and port that are free towards the server are chosen and written to c. With c.Control the connection hangs on that
// template, whose time starts anew.
func (t *Table) Insert(c *Conn, now uint32) (Ref, Result) {
	ref, result := t.insert(c, now)
	if result != OK { // what went well is counted under the stripe
		t.refused[result].Add(1)
	}
	return ref, result
}

func (t *Table) insert(c *Conn, now uint32) (ref Ref, result Result) {
	server := t.servers.get(c.ServerID)
	if server == nil || server.expels(c.Proto) || !server.ref() {
		return 0, NoServer
	}
	defer func() {
		if result != OK {
			server.unref()
		}
	}()
	c.Server = server.addr
	hash := t.forwardHash(c)
	n := t.pool.take(hash)
	if n == 0 {
		if ref = t.existing(c, hash); ref != 0 {
			return ref, Exists
		}
		if n = t.makeRoom(hash, c.Control, now); n == 0 {
			return 0, Full
		}
	}
	if c.needsPort() && !t.ports.take(c) {
		t.pool.give(n, hash)
		if ref = t.existing(c, hash); ref != 0 {
			return ref, Exists
		}
		return 0, NoPort
	}
	if ref, result = t.publish(c, hash, n, server, now); result != OK {
		t.pool.give(n, hash)
		if c.needsPort() {
			t.ports.give(c)
		}
	}
	return ref, result
}

// existing returns the connection that has c's forward key, 0 if none has.
func (t *Table) existing(c *Conn, hash uint64) Ref {
	f := c.ForwardFlow()
	return t.findForward(&f, hash, c.Flags&Template)
}

// publish writes c into the free entry n and both its keys into the index, unless one of them is there already.
func (t *Table) publish(c *Conn, hash uint64, n uint32, server *server, now uint32) (Ref, Result) {
	r, both := c.ReverseFlow()
	var reverseHash, controlHash uint64
	var locks lockSet
	locks.add(hash)
	if both {
		reverseHash = t.seed.hash(&r, 0)
		locks.add(reverseHash)
	}
	var control Conn
	if c.Control != 0 {
		if !t.Load(c.Control, &control) {
			return 0, NoTemplate
		}
		controlHash = t.forwardHash(&control)
		locks.add(controlHash)
	}
	t.lock(&locks)
	defer t.unlock(&locks)

	if ref := t.existing(c, hash); ref != 0 {
		return ref, Exists
	}
	if both {
		var other Conn
		if ref := t.findReverse(&r, reverseHash, &other); ref != 0 {
			return ref, ReverseTaken
		}
	}
	c.Flags &= Template // the others are the table's
	if c.Control != 0 {
		if !t.hang(c.Control, now) {
			return 0, NoTemplate
		}
		c.Flags |= HasControl
	}
	c.LastSeen = now
	server.countIn(c.Flags, c.State)
	ref := newRef(n, t.mem.write(n, c, c.Control.number()))
	t.mem.due[n].Store(now + c.Timeout)
	t.add(hash, n)
	if both {
		t.add(reverseHash, n|reverseSlot)
	}
	if c.State == Established && c.Control != 0 {
		t.assure(c.Control.number())
	}
	t.stripes[locks.at[0]].opened++
	return ref, OK
}

// hang counts one more connection on a template and starts its time anew. The caller has the template's stripe.
func (t *Table) hang(ref Ref, now uint32) bool {
	e := &t.mem.entries[ref.number()]
	h := e[wHead].Load()
	if headIncarnation(h) != ref.incarnation() || headFree(h) || headFlags(h)&(Template|Retired) != Template {
		return false
	}
	t.mem.rests[ref.number()][rControl].Add(1)
	e.touch(now)
	return true
}

// touch sets the coarse second, unless the entry changes at the same time: then it is another's, or as fresh.
func (e *entry) touch(now uint32) {
	if w := e[wServer].Load(); uint32(w) != now {
		e[wServer].CompareAndSwap(w, w&^0xffffffff|uint64(now))
	}
}

// assure marks a template as having had an established connection. Its stripe is not held: who ends it changes
// the head by compare-and-swap too, so a late mark fails, or makes him look again.
func (t *Table) assure(n uint32) {
	e := &t.mem.entries[n]
	for {
		h := e[wHead].Load()
		if headFree(h) || headFlags(h)&Template == 0 || headState(h) == Assured ||
			e[wHead].CompareAndSwap(h, h&^0xff00|uint64(Assured)<<8) {
			return
		}
	}
}

// roomTries is how many entries makeRoom looks at: with a table half full of half-open connections all but one in 65,536 tries find one.
const roomTries = 16

// makeRoom ends the oldest half-open connection among a few random ones, but not spare, and returns its entry; 0 when they are all more
// than that.
func (t *Table) makeRoom(random uint64, spare Ref, now uint32) uint32 {
	used := uint64(len(t.mem.entries) - 1)
	var oldest, c Conn
	var victim Ref
	for range roomTries {
		random = fold(random^t.seed[0], t.seed[1])
		ref := t.load(uint32(random%used)+1, &c)
		if ref != 0 && ref != spare && c.halfOpen(now) && (victim == 0 || c.LastSeen < oldest.LastSeen) {
			victim, oldest = ref, c
		}
	}
	if victim == 0 || !t.end(victim, now, onPressure) {
		return 0
	}
	return t.pool.take(random)
}

// halfOpen reports whether c may be one packet of a flood: TCP and SCTP before ESTABLISHED, UDP of which one datagram came, or a template that
// such ones left behind.
func (c *Conn) halfOpen(now uint32) bool {
	if c.Flags&Template != 0 {
		return c.leftover(now)
	}
	if c.Proto == lb.TCP {
		return c.State == NoState || c.State == SynRecv || c.State == SynAck || c.State == SynSent
	}
	if c.Proto == lb.SCTP {
		return c.State.opening()
	}
	return c.Flags&Seen == 0
}

func (c *Conn) needsPort() bool { return c.Mode == lb.FULLNAT && c.Flags&Template == 0 }

func (c *Conn) kind() uint64 {
	if c.Flags&Template != 0 {
		return templateKind
	}
	return 0
}

func (t *Table) forwardHash(c *Conn) uint64 {
	f := c.ForwardFlow()
	return t.seed.hash(&f, c.kind())
}

// lockSet is up to three stripes in ascending order, each once: the order in which everybody takes them.
type lockSet struct {
	at [3]uint16
	n  int
}

func (l *lockSet) add(hash uint64) {
	s := uint16(hash >> 32 % stripes)
	i := l.n
	for ; i > 0 && l.at[i-1] >= s; i-- {
		if l.at[i-1] == s {
			return
		}
	}
	copy(l.at[i+1:], l.at[i:l.n])
	l.at[i] = s
	l.n++
}

func (t *Table) lock(l *lockSet) {
	for _, s := range l.at[:l.n] {
		t.stripes[s].Lock()
	}
}

func (t *Table) unlock(l *lockSet) {
	for _, s := range l.at[:l.n] {
		t.stripes[s].Unlock()
	}
}
