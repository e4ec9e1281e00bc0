package conntrack

import "weir/lb"

// shedShare: a second's pass of the sweepers sheds from one entry in so many (ip_vs_conn.c, ip_vs_random_dropentry: 1/32 of the
// table). Where IPVS draws the part anew each second, here all parts have their turn: an entry that was just emptied, and is the first to
// be used again, is safe for 31 seconds, and none is forgotten.
const (
	shedShare = 32
	shedNone  = shedShare // no entry's number is this modulo shedShare
)

// shedIdle is how many seconds a datagram's connection has been idle before it may be shed (ip_vs_conn.c, todrop_entry).
const shedIdle = 60

// Shed turns on and off what IPVS's drop_entry does when memory runs short: in every second the sweepers take the next part of the
// table and end what is half-open in it. An established TCP or SCTP connection is never ended, nor is a UDP one of more than one datagram. Stats.Shed counts.
func (t *Table) Shed(on bool) { t.shedding.Store(on) }

// Shedding reports what Shed was told.
func (t *Table) Shedding() bool { return t.shedding.Load() }

// shed ends ref's connection if it may; most are left alone without a lock.
func (t *Table) shed(ref Ref, now uint32) bool {
	var c Conn
	return t.Load(ref, &c) && c.sheddable(now) && t.end(ref, now, onShed)
}

// sheddable reports whether Shed gives c up. Unlike under pressure, a lone datagram is left a minute for its answer.
func (c *Conn) sheddable(now uint32) bool {
	switch {
	case c.Flags&Template != 0:
		return c.leftover(now)
	case c.Proto == lb.TCP:
		return c.State == SynRecv || c.State == SynAck
	case c.Proto == lb.SCTP:
		return c.State == Init1 || c.State == Init
	}
	return c.Flags&Seen == 0 && c.LastSeen+shedIdle <= now
}

// leftover reports whether a template ties nobody: no connection hangs on it, none ever was established, no one-packet datagram goes
// by it, and it is not just being made for its first.
func (c *Conn) leftover(now uint32) bool {
	return c.State != Assured && c.Controlled == 0 && c.Flags&Seen == 0 && c.LastSeen != now
}
