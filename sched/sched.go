// Package sched picks the server of a new connection. A scheduler is one file: it registers a name, keeps its own state
// between picks, and learns of every change of its service's servers before the next pick.
//
//	s, err := sched.New("wrr", nil)
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
	Load   *lb.Load // live; the same pointer for as long as the ID lives
}

// List is a service's servers in the order IPVS walks them: newest first. Immutable, and so are its servers.
type List struct {
	Servers []*Server
}

// Request is the connection that wants a server.
type Request struct {
	Flow lb.Flow // of the client's packet: Src is the client (masked, when the service is persistent), Dst the VIP or what a mark covers
	Now  uint32  // the worker's coarse clock, in seconds
}

// Scheduler is one service's scheduler with its state.
type Scheduler interface {
	// Update makes l the list that Pick chooses from. It is called with every list the service ever had, in order,
	// except that a long run of changes without a pick between them may be folded into one.
	Update(l *List)
	// Pick returns a server of the current list, or nil when none takes the connection. It must not allocate.
	Pick(r *Request) *Server
}
