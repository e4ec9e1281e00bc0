package dataplane

import (
	"weir/conntrack"
	"weir/dataplane/packet"
	"weir/dataplane/reason"
	"weir/lb"
	"weir/sched"
)

// open makes the connection that a packet without one begins, with its server picked and counted in.
func (w *Worker) open(t *Table, in *IfaceQueue, p *packet.Packet) (conntrack.Ref, reason.Reason) {
	w.conn = conntrack.Conn{}
	s := t.Service(&p.Flow)
	if s == nil {
		return conntrack.Ref(0), reason.NoService
	}
	if !opens(p) {
		return conntrack.Ref(0), reason.NoConnection
	}
	picker := s.Picker
	picker.mu.Lock()
	ref, why := w.insert(t, in, p, picker.pick(s, sched.Request{Flow: p.Flow, Now: w.now}))
	picker.mu.Unlock()
	return ref, why
}

// opens reports whether a packet may begin a connection.
func opens(p *packet.Packet) bool {
	return p.Flow.Proto != lb.TCP || conntrack.OpensTCP(p.TCPFlags, false)
}

// insert enters the connection of p to the picked server into the table; w.conn is the entry's copy afterwards.
func (w *Worker) insert(t *Table, in *IfaceQueue, p *packet.Packet, picked *sched.Server) (conntrack.Ref, reason.Reason) {
	if picked == nil {
		return conntrack.Ref(0), reason.NoServer
	}
	server := t.Server(picked.ID)
	if server == nil {
		return conntrack.Ref(0), reason.ServerRemoved // the picker is ahead of this worker's table; the client tries again
	}
	c := &w.conn
	*c = conntrack.Conn{
		Client: p.Flow.Src, ClientPort: p.Flow.SrcPort,
		Virtual: p.Flow.Dst, VirtualPort: p.Flow.DstPort,
		Proto: p.Flow.Proto, Mode: server.Mode, ServerID: server.ID,
		Server: server.Addr, ServerPort: server.Port,
		ClientMAC: p.SrcMAC(), ClientIface: uint16(in.Iface),
	}
	c.ClientTag = clientTag(c.ClientMAC, in.Iface)
	if c.ServerPort == 0 {
		c.ServerPort = p.Flow.DstPort
	}
	conns := w.shared.conns
	conns.Open(c, p.TCPFlags)
	ref, result := conns.Insert(c, w.now)
	switch result {
	case conntrack.OK:
		w.count.Connections++
		return ref, reason.None
	case conntrack.Exists: // another worker was faster: two packets of one flow came by two queues
		if conns.Load(ref, c) {
			return ref, reason.None
		}
		return ref, reason.NoConnection
	case conntrack.ReverseTaken:
		return ref, reason.ReplyConflict
	case conntrack.NoPort:
		return ref, reason.PortsExhausted
	case conntrack.NoServer:
		return ref, reason.ServerRemoved
	}
	return ref, reason.TableFull
}
