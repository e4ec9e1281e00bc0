// Package sched picks the server of a new connection. A scheduler is one file: it registers a name, keeps its own state
// between picks, and learns of every change of its service's servers before the next pick.
//
//	s, err := sched.New("wrr", nil)
//	sched.Prepare(s, list)         // beside the workers: builds what is slow to build
//	s.Update(list)                 // the first list, then every later one
//	server := s.Pick(&request)     // nil: no server takes it
//
// Exactness is IPVS's: net/netfilter/ipvs/ip_vs_<name>.c of Linux 6.1. A Scheduler is not safe for concurrent use: it lives
// behind a mutex of its service that only workers take, and a pick is counted (lb.Load) before the mutex is let go.
package sched

import (
	"weir/lb"
)

// Server is one server of a List. Immutable: an edit makes a new one with the same Serial.
type Server struct {
	ID     lb.ServerID
	Serial uint64 // names this membership: a server that was removed and added again has another one
	Addr   lb.Addr
	Port   uint16
	Weight int32
	// Kept is the last weight that was not 0, for a server whose weight was taken to 0: mh lets it keep its slots. It is 0 for
	// a server that was added with weight 0, and not looked at while Weight is more than 0 (kernel: dest->last_weight).
	Kept int32
	Load *lb.Load // live; the same pointer for as long as the ID lives
}

// List is a service's servers in the order IPVS walks them: newest first. Immutable, and so are its servers. The servers two
// successive lists share are the same pointers; one that was edited, even without a change, is a new pointer (to some
// schedulers an edit is an event, as in IPVS). They stand in the same order behind the added ones.
type List struct {
	Servers  []*Server
	Prepared any // what Prepare built for the scheduler that is to get the list; nil: Update builds it itself
}

// Request is the connection that wants a server.
type Request struct {
	Flow lb.Flow // of the client's packet: Src is the client, Dst the VIP or what a mark covers
	// Group is, for a persistent service, the client's address under the service's PersistLen, otherwise the zero Addr. IPVS's own
	// schedulers don't look at it; maglev does, so that directors agree about the whole group.
	Group lb.Addr
	Now   uint32 // the worker's coarse clock, in seconds
}

// Scheduler is one service's scheduler with its state.
type Scheduler interface {
	// Update makes l the list that Pick chooses from. It is called with every list the service ever had, in order,
	// except that a long run of changes without a pick between them may be folded into one: then servers are taken as removed
	// first, then added, then edited. The first call stands for IPVS's init_service: the empty list for a new service (its
	// servers come by the next call), all servers when a living service changes its scheduler.
	Update(l *List)
	// Pick returns a server of the current list, or nil when none takes the connection. It must not allocate.
	Pick(r *Request) *Server
}

// Preparer is a Scheduler whose lookup table is slow to build. Prepare makes it from the list alone and may be called
// while other goroutines Pick; Update takes the result over from List.Prepared.
type Preparer interface {
	Prepare(l *List) any
}

// Prepare fills in l.Prepared when s is a Preparer. To be called before l is published.
func Prepare(s Scheduler, l *List) {
	if p, ok := s.(Preparer); ok {
		l.Prepared = p.Prepare(l)
	}
}
