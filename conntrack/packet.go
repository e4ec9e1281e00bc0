package conntrack

import "weir/lb"

// Packet tells the connection that Lookup found of its packet: c's state goes on, its time starts anew. Once per packet, but not for
// the one that Insert was called for. tcpFlags is the TCP header's flag byte, of SCTP the leading chunk's type, 0 for others. c, which need only be filled as Lookup
// does, is brought up to date. Stores happen only when something changes: the coarse second at most, as a rule. False: the
// connection has ended meanwhile.
func (t *Table) Packet(ref Ref, c *Conn, dir Dir, tcpFlags uint8, now uint32) bool {
	v := t.timeouts.Load()
	state, flags := c.after(v, dir, tcpFlags)
	if state != c.State || flags != c.Flags || v.of(c.Proto, state) != c.Timeout {
		return t.change(ref, c, v, dir, tcpFlags, now)
	}
	if c.LastSeen != now {
		touchSince(&t.mem.entries[ref.number()][wServer], uint64(c.ServerID)<<32|uint64(c.LastSeen), now)
		c.LastSeen = now
	}
	return true
}

// after returns what c becomes with a packet.
func (c *Conn) after(v *Timeouts, dir Dir, tcpFlags uint8) (State, Flags) {
	if c.Proto == lb.TCP {
		return v.transitions().next(c.State, c.Mode, dir, tcpFlags), c.Flags
	}
	if c.Proto == lb.SCTP {
		return nextSCTP(c.State, c.Mode, dir, tcpFlags), c.Flags
	}
	if dir == Reverse {
		return c.State, c.Flags | Seen | Answered
	}
	return c.State, c.Flags | Seen
}

// change is Packet when more than the second changes. It decides again on the state as it is with the stripe held.
func (t *Table) change(ref Ref, c *Conn, v *Timeouts, dir Dir, tcpFlags uint8, now uint32) bool {
	n := ref.number()
	e := &t.mem.entries[n]
	s := t.stripe(c)
	s.Lock()
	defer s.Unlock()
	var old Conn
	for {
		h := e[wHead].Load()
		if headIncarnation(h) != ref.incarnation() || headFree(h) {
			return false
		}
		c.setHead(h)
		old = *c
		c.State, c.Flags = c.after(v, dir, tcpFlags)
		c.Timeout, c.LastSeen = v.of(c.Proto, c.State), now
		e[wTimer].Store(e[wTimer].Load()&^0xffffffff | uint64(c.Timeout))
		e.touch(now)
		if e[wHead].CompareAndSwap(h, packHead(headIncarnation(h), c.Proto, c.Mode, c.State, c.Flags)) {
			break // else flag or Renew was faster
		}
	}
	t.mem.due.lower(n, now+c.Timeout)
	if server := t.servers.get(c.ServerID); old.State.Active() != c.State.Active() {
		server.counter(0, c.State).Add(1)
		server.counter(0, old.State).Add(-1)
	}
	if c.Flags&HasControl != 0 && c.assures(&old) {
		t.assure(uint32(t.mem.rests[n][rControl].Load() >> 32))
	}
	return true
}

// assures reports whether the change from old makes c's template ASSURED: TCP and SCTP on reaching ESTABLISHED, UDP on the server's first
// answer (ip_vs_control_assure_ct's callers).
func (c *Conn) assures(old *Conn) bool {
	if c.Proto != lb.UDP {
		return c.State == Established && old.State != Established
	}
	return c.Flags&Answered != 0 && old.Flags&Answered == 0
}

// SetClient notes that the client's packets come another way now, as c.ClientTag, c.ClientIface, c.ClientMAC and c.ClientVLANs say; false:
// the connection has ended. An answer that is on its way at that very moment may get the old address with the new tags, and be lost.
func (t *Table) SetClient(ref Ref, c *Conn) bool {
	e := &t.mem.entries[ref.number()]
	s := t.stripe(c)
	s.Lock()
	defer s.Unlock()
	if h := e[wHead].Load(); headIncarnation(h) != ref.incarnation() || headFree(h) {
		return false
	}
	r := &t.mem.rests[ref.number()]
	_, port := unpackServerPort(r[rServerPort].Load())
	r[rServerPort].Store(packServerPort(c.ClientVLANs, port))
	r[rPath].Store(packPath(c.ClientIface, c.ClientMAC))
	e[wTimer].Store(uint64(c.ClientTag)<<48 | e[wTimer].Load()&0xffffffff)
	return true
}

// Renew starts the time anew of a template by which a one-packet datagram was sent, which leaves no connection to show that it is used, or of an ISAKMP
// connection whose client's AH or ESP it leads. False: it has ended.
func (t *Table) Renew(ref Ref, now uint32) bool {
	e := &t.mem.entries[ref.number()]
	for {
		h := e[wHead].Load()
		if headIncarnation(h) != ref.incarnation() || headFree(h) {
			return false
		}
		// As with assure, the stripe is not held: a late mark fails.
		if headFlags(h)&Seen != 0 || e[wHead].CompareAndSwap(h, h|uint64(Seen)) {
			e.touch(now)
			return true
		}
	}
}
