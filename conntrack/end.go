package conntrack

// cause is why a connection ends; each sets its own condition, checked once more when the locks are held.
type cause uint8

const (
	onTime     cause = iota // its timeout has passed
	onDelete                // somebody said so
	onPressure              // it is half-open, and the table is full
	onShed                  // it is of what Table.Shed gives up
	onExpel                 // its server's connections are to end
	causes
)

// Delete ends ref's connection at once; false: it had ended already. A template that connections still hang on is retired instead: nothing
// finds it any more, and it ends by its timeout after the last of them (IPVS: ip_vs_check_template).
func (t *Table) Delete(ref Ref) bool { return t.end(ref, 0, onDelete) }

// end takes a connection out of the table, its counts, its server's references, its local port and its template.
func (t *Table) end(ref Ref, now uint32, why cause) bool {
	var c Conn
	if !t.Load(ref, &c) {
		return false
	}
	hash := t.forwardHash(&c)
	var locks lockSet
	locks.add(hash)
	r, both := c.ReverseFlow()
	reverseHash := uint64(0)
	if both {
		reverseHash = t.seed.hash(&r, 0)
		locks.add(reverseHash)
	}
	n := ref.number()
	e := &t.mem.entries[n]

	t.lock(&locks)
	for ended := false; !ended; {
		h := e[wHead].Load()
		if !t.Load(ref, &c) || !t.mayEnd(n, &c, now, why) {
			t.unlock(&locks)
			return false
		}
		ended = e[wHead].CompareAndSwap(h, packHead(ref.incarnation()+1, 0, 0, 0, 0)) // else it has just been flagged: is it still to end?
	}
	if c.Flags&Retired == 0 {
		t.remove(hash, n)
	}
	if both {
		t.remove(reverseHash, n|reverseSlot)
	}
	t.mem.due[n].Store(0)
	t.stripes[locks.at[0]].ended[why]++
	t.unlock(&locks)

	if c.needsPort() {
		t.ports.give(&c)
	}
	t.servers.get(c.ServerID).countOut(c.Flags, c.State)
	t.pool.give(n, hash)
	if c.Control != 0 {
		t.letGo(c.Control, why)
	}
	return true
}

// mayEnd decides, with c's stripe held, whether the cause still holds; a template that is still needed gets what it gets instead.
func (t *Table) mayEnd(n uint32, c *Conn, now uint32, why cause) bool {
	e := &t.mem.entries[n]
	needed := c.Flags&Template != 0 && c.Controlled > 0
	switch why {
	case onTime:
		if c.Expires(now) > 0 {
			return false
		}
		if needed {
			e[wTimer].Store(uint64(c.ClientTag)<<48 | templateAgain)
			e.touch(now)
			t.mem.due[n].Store(now + templateAgain)
		}
		return !needed
	case onDelete:
		if needed {
			t.retire(n, c)
		}
		return !needed
	case onPressure:
		return c.halfOpen(now)
	case onShed:
		return c.sheddable(now)
	default:
		server := t.servers.get(c.ServerID)
		return !needed && server.expels(c.Proto)
	}
}

// letGo takes one connection off its template, which lives at least until then. An expelled template waited only for that, and one that a
// flood's connections made goes with the last of them (ip_vs_conn.c, ip_vs_conn_expire).
func (t *Table) letGo(control Ref, why cause) {
	left := uint32(t.mem.rests[control.number()][rControl].Add(^uint64(0)))
	if left == 0 && (why == onExpel || why == onPressure || why == onShed) {
		t.end(control, 0, why)
	}
}

// Retire makes a template one that nothing finds any more, so that the next connection makes a new one; it ends by its
// timeout. False: ref is no living, unretired template.
func (t *Table) Retire(ref Ref) bool {
	var c Conn
	if !t.Load(ref, &c) || c.Flags&Template == 0 {
		return false
	}
	s := t.stripe(&c)
	s.Lock()
	defer s.Unlock()
	if !t.Load(ref, &c) || c.Flags&Retired != 0 {
		return false
	}
	t.retire(ref.number(), &c)
	return true
}

// retire does it, with c's stripe held.
func (t *Table) retire(n uint32, c *Conn) {
	if c.Flags&Retired != 0 {
		return
	}
	t.remove(t.forwardHash(c), n)
	e := &t.mem.entries[n]
	for h := e[wHead].Load(); !e[wHead].CompareAndSwap(h, h|uint64(Retired)); h = e[wHead].Load() {
		continue // assure was faster
	}
}

// RetiredPort is what a listing shows in place of a retired template's virtual and server ports (ip_vs_check_template).
const RetiredPort = 65535

func (t *Table) stripe(c *Conn) *stripe {
	var l lockSet
	l.add(t.forwardHash(c))
	return &t.stripes[l.at[0]]
}
