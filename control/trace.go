package control

import (
	"slices"

	"weir/dataplane"
	"weir/dataplane/reason"
	"weir/lb"
	"weir/sched"
)

// Trace is what would become of a packet, with the scheduler's part in it.
type Trace struct {
	dataplane.Trace
	Config     lb.Service        // of Service
	Candidates []*sched.Server   // what the scheduler would choose from, as IPVS walks them
	Foresight  Foresight         // what is known of its choice
	Choice     *dataplane.Server // if that is known: the server, nil when no server takes the connection
}

// Foresight says how well a scheduler's choice can be told without asking the scheduler, which would move it on.
type Foresight uint8

const (
	Unknown  Foresight = iota // it depends on a cursor, a cache or a draw that only the scheduler has
	ByHash                    // it depends on the packet and the servers alone
	ByCounts                  // it depends on the servers' connections, as they are at this moment
)

// foresight has the schedulers whose choice a second one of the kind, shown the same list, makes too.
var foresight = map[string]Foresight{
	"sh": ByHash, "dh": ByHash, "mh": ByHash, "maglev": ByHash,
	"lc": ByCounts, "wlc": ByCounts, "sed": ByCounts, "nq": ByCounts, "fo": ByCounts, "ovf": ByCounts,
}

// byTurns has those whose choice is known when only one server can be chosen. lblc and lblcr keep to the server that they know.
var byTurns = map[string]bool{"rr": true, "wrr": true, "twos": true}

// takers counts the servers that take new connections.
func takers(l *sched.List) (n int) {
	for _, s := range l.Servers {
		if s.Weight > 0 && !s.Load.Overloaded.Load() {
			n++
		}
	}
	return n
}

// Trace says what would become of a packet of flow f with these TCP flags (dataplane.Shared.Trace), and changes nothing.
func (s *Store) Trace(f lb.Flow, tcpFlags uint8) Trace {
	s.mu.Lock() // so that the configuration is that of the table
	defer s.mu.Unlock()
	t := Trace{Trace: s.shared.Trace(f, tcpFlags)}
	if t.Service == nil {
		return t
	}
	t.Config = s.services[t.Service.Key].config
	if !t.Opens {
		return t
	}
	list := t.Service.Versions[len(t.Service.Versions)-1].List
	t.Candidates = slices.Clone(list.Servers)
	if t.Foresight = foresight[t.Config.Scheduler]; t.Foresight == Unknown && byTurns[t.Config.Scheduler] && takers(list) < 2 {
		t.Foresight = ByCounts // whose turn it is makes no difference
	}
	if t.Foresight == Unknown {
		return t
	}
	fresh, err := sched.New(t.Config.Scheduler, t.Config.SchedFlags)
	if err != nil {
		return t
	}
	fresh.Update(list)
	picked := fresh.Pick(&sched.Request{Flow: f, Group: t.Group, Now: t.Now})
	switch {
	case picked == nil:
		t.Why = reason.NoServer
	default:
		t.Choice = s.shared.Table().Server(picked.ID)
		switch {
		case t.Choice == nil:
			t.Why = reason.ServerRemoved
		case t.Choice.Mode == lb.Local:
			t.Why = reason.LocalServer
		case t.Choice.Path == nil:
			t.Why = reason.ServerUnreachable
		}
	}
	return t
}
