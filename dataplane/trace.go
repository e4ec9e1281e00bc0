package dataplane

import (
	"weir/conntrack"
	"weir/dataplane/reason"
	"weir/lb"
)

// Trace is what a worker would find for a packet, had it come now.
type Trace struct {
	Dir        conntrack.Dir  // the packet's direction in its connection; None: it has none
	Conn       conntrack.Conn // unless Dir is None
	Superseded bool           // the packet would end Conn and be looked at as if it had none

	Service  *Service       // of a packet without a connection: nil if there is none
	Pinned   bool           // a persistence template names the server
	Template conntrack.Conn // the template, even if its server cannot be used any more; zero if there is none
	Group    lb.Addr        // persistence: the client's group
	Server   *Server        // nil when the scheduler would be asked, or the packet goes to no server
	Now      uint32         // the workers' clock
	Why      reason.Reason  // what would stop the packet, as far as it is known before it is rewritten
	Opens    bool           // the scheduler would be asked for a server
}

// Trace follows a packet of flow f, with these TCP flags or this SCTP chunk, on its way through Worker.forward and Worker.open, and changes
// nothing: no counter, no timeout, no scheduler's turn. What a rate or a rewrite would stop (drop_packet, TTL, MTU) is not foreseen.
func (s *Shared) Trace(f lb.Flow, tcpFlags uint8) (out Trace) {
	t, conns := s.Table(), s.conns
	out.Now = s.clock()
	if t.services.count == 0 {
		out.Why = reason.NoService
		return out
	}
	var ref conntrack.Ref
	if ref, out.Dir = conns.Lookup(&f, conns.Hash(&f), &out.Conn); out.Dir != conntrack.None && !conns.Load(ref, &out.Conn) {
		out.Dir = conntrack.None // it ended between the two
	}
	switch out.Dir {
	case conntrack.Reverse:
		out.Server = t.Server(out.Conn.ServerID)
		return out
	case conntrack.Forward:
		server := t.Server(out.Conn.ServerID)
		if !superseded(t, server, &out.Conn, tcpFlags) {
			out.to(server)
			return out
		}
		out.Superseded = true
	}
	if out.Service = t.Service(&f); out.Service == nil {
		out.Why = reason.NoService
		return out
	}
	if !opens(t, f.Proto, tcpFlags) {
		out.Why = reason.NoConnection
		return out
	}
	if out.Service.Persist != 0 {
		key := templateKey(out.Service, &f)
		out.Group = key.Src
		var template conntrack.Conn
		if _, found := conns.LookupTemplate(&key, &template); found {
			out.Template = template
			server := t.Server(template.ServerID)
			if server != nil && !server.Removed && (!t.sysctls.ExpireQuiescentTemplate || server.Weight != 0) {
				out.Pinned = true
				out.to(server)
				return out
			}
		}
	}
	out.Opens = true
	return out
}

// to says what becomes of a packet to a server.
func (t *Trace) to(s *Server) {
	t.Server = s
	switch {
	case s == nil || s.Removed:
		t.Why = reason.ServerRemoved
	case s.Mode == lb.Local:
		t.Why = reason.LocalServer
	case s.Path == nil:
		t.Why = reason.ServerUnreachable
	}
}
