package lb

import "sync/atomic"

// Load is what a server carries right now. One per ServerID, at the same address for as long as the ID lives; it survives
// every edit and removal of the server while connections still name it. Written by workers (and whoever expires connections),
// read by schedulers and listings.
type Load struct {
	Active     atomic.Int32 // TCP in SYN_RECV or ESTABLISHED
	Inactive   atomic.Int32 // all other connections
	Persistent atomic.Int32 // persistence templates

	// Thresholds (Server.Upper and Lower, 0: none), written by control.
	Upper, Lower atomic.Uint32
	// Overloaded is IPVS's IP_VS_DEST_F_OVERLOAD with its hysteresis: set when a connection brings the total to Upper,
	// cleared when an end leaves fewer than Lower (or, without Lower, fewer than three quarters of Upper).
	Overloaded atomic.Bool
}

// Total returns active plus inactive connections.
func (l *Load) Total() int64 { return int64(l.Active.Load()) + int64(l.Inactive.Load()) }

// SetThresholds is an edit of the server's thresholds: a limit that is lifted or raised opens it at once, a lowered one closes it with its
// next connection only (kernel __ip_vs_update_dest).
func (l *Load) SetThresholds(upper, lower uint32) {
	if upper == 0 || upper > l.Upper.Load() {
		l.Overloaded.Store(false)
	}
	l.Upper.Store(upper)
	l.Lower.Store(lower)
}

// Opened looks at the thresholds after a connection was counted in (kernel ip_vs_bind_dest).
func (l *Load) Opened() {
	if u := l.Upper.Load(); u != 0 && l.Total() >= int64(u) {
		l.Overloaded.Store(true)
	}
}

// Closed looks at the thresholds after a connection was counted out (kernel ip_vs_dest_update_overload, called from ip_vs_unbind_dest).
func (l *Load) Closed() {
	if !l.Overloaded.Load() {
		return
	}
	upper, lower, total := l.Upper.Load(), l.Lower.Load(), l.Total()
	switch {
	case upper == 0:
		l.Overloaded.Store(false)
	case lower != 0 && total < int64(lower):
		l.Overloaded.Store(false)
	case lower == 0 && total*4 < int64(upper)*3:
		l.Overloaded.Store(false)
	}
}
