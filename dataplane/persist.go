package dataplane

import (
	"weir/conntrack"
	"weir/dataplane/packet"
	"weir/dataplane/reason"
	"weir/lb"
	"weir/sched"
)

// FTP's ports (include/net/ip_vs.h, FTPPORT and FTPDATA). The service on the control port gets its clients' TCP connections to the data
// port and to unprivileged ones too, unless these have a service of their own; while it is persistent they go to the same server.
const (
	FTPControl   = 21
	ftpData      = 20
	unprivileged = 1024 // net.ipv4.ip_unprivileged_port_start's default
)

// openPersistent opens a connection of a persistent service: to the server that the client's group is tied to by a template, or,
// when there is none or it may not be used, to a picked one with a new template. As ip_vs_core.c's ip_vs_sched_persist; the
// caller holds the picker's mutex, so one group gets one template.
func (w *Worker) openPersistent(t *Table, in *IfaceQueue, p *packet.Packet, s *Service) (conntrack.Ref, reason.Reason) {
	conns := w.shared.conns
	key := templateKey(s, &p.Flow)
	template, found := conns.LookupTemplate(&key, &w.conn)
	var server *Server
	if found {
		server = w.server(t, w.conn.ServerID)
		if server == nil || server.Removed || t.sysctls.ExpireQuiescentTemplate && server.Weight == 0 {
			conns.Retire(template)
			found = false
		}
	}
	if !found {
		picked := s.Picker.pick(s, sched.Request{Flow: p.Flow, Group: key.Src, Now: w.now})
		if picked == nil {
			return 0, reason.NoServer
		}
		if server = w.server(t, picked.ID); server == nil {
			return 0, reason.ServerRemoved
		}
		w.conn = conntrack.Conn{
			Client: key.Src, Virtual: key.Dst, VirtualPort: key.DstPort, Proto: key.Proto,
			ServerID: server.ID, Server: server.Addr, Mode: server.Mode,
			Flags: conntrack.Template, Timeout: s.Persist,
		}
		if p.Flow.DstPort == s.Key.Port && s.Key.Port != FTPControl {
			w.conn.ServerPort = server.Port
		}
		var result conntrack.Result
		if template, result = conns.Insert(&w.conn, w.now); result != conntrack.OK {
			if result == conntrack.Full {
				return 0, reason.TableFull
			}
			return 0, reason.ServerRemoved
		}
	}
	return w.insert(t, in, p, s, server, template)
}

// templateKey is the flow that a client group's template is entered under: client port 0, and the service's own port but for
// FTP's; an any-port service's port 0 and a mark's protocol 0 and the mark as address.
func templateKey(s *Service, f *lb.Flow) lb.Flow {
	key := lb.Flow{Src: f.Src.Mask(s.PersistLen), Dst: f.Dst, Proto: f.Proto}
	switch {
	case s.Key.Mark != 0:
		key.Proto, key.Dst = 0, lb.AddrFrom4(s.Key.Mark)
	case f.DstPort == s.Key.Port && s.Key.Port != FTPControl:
		key.DstPort = s.Key.Port
	}
	return key
}
