package dataplane

import (
	"weir/conntrack"
	"weir/dataplane/packet"
	"weir/dataplane/reason"
	"weir/lb"
	"weir/sched"
)

// open makes the connection that a packet without one begins, with its server picked and counted in. For a service that
// schedules every packet, it is made in w.conn only, and the Ref is 0.
func (w *Worker) open(t *Table, in *IfaceQueue, p *packet.Packet) (conntrack.Ref, reason.Reason) {
	w.conn = conntrack.Conn{}
	s := t.Service(&p.Flow)
	if s == nil {
		return 0, w.foreign(t, p)
	}
	if why := odd(t, p); why != reason.None {
		return 0, why
	}
	if !opens(t, p.Flow.Proto, p.TCPFlags) {
		return 0, reason.NoConnection
	}
	if w.shared.refusesOne() {
		return 0, reason.DropPacket
	}
	ftpOther := s.Key.Mark == 0 && s.Key.Port == FTPControl && p.Flow.DstPort != FTPControl
	if ftpOther && s.Persist == 0 {
		return 0, reason.NoConnection // without persistence nothing says whose data connection it is (ip_vs_core.c, ip_vs_schedule)
	}
	picker := s.Picker
	picker.mu.Lock()
	defer picker.mu.Unlock()
	ref, why := w.pick(t, in, p, s)
	if why == reason.NoServer && ftpOther {
		why = reason.NoConnection // it need not be FTP's (ip_vs_leave)
	}
	return ref, why
}

// opens reports whether a packet without a connection may begin one.
func opens(t *Table, proto lb.Proto, tcpFlags uint8) bool {
	switch proto {
	case lb.TCP:
		return conntrack.OpensTCP(tcpFlags, t.sysctls.SloppyTCP)
	case lb.SCTP:
		return conntrack.OpensSCTP(tcpFlags, t.sysctls.SloppySCTP)
	}
	return true
}

// pick has the service's scheduler or a persistence template name the server, and makes the connection; the caller holds the picker's mutex.
func (w *Worker) pick(t *Table, in *IfaceQueue, p *packet.Packet, s *Service) (conntrack.Ref, reason.Reason) {
	if s.Persist != 0 {
		return w.openPersistent(t, in, p, s)
	}
	picked := s.Picker.pick(s, sched.Request{Flow: p.Flow, Now: w.now})
	if picked == nil {
		return 0, reason.NoServer
	}
	return w.insert(t, in, p, s, w.server(t, picked.ID), 0)
}

// foreign says what a packet of no connection and no service is: a NAT server's that should be told, or the kernel's.
func (w *Worker) foreign(t *Table, p *packet.Packet) reason.Reason {
	if t.sysctls.NatICMPSend && t.isNATServer(&p.Flow) && !resets(p) {
		return reason.StrayAnswer
	}
	return reason.NoService
}

// resets reports whether a packet ends its connection at once: nobody is told that there is none.
func resets(p *packet.Packet) bool {
	return p.Flow.Proto == lb.TCP && p.TCPFlags&packet.RST != 0 || p.Flow.Proto == lb.SCTP && p.TCPFlags == packet.ChunkAbort
}

// insert enters the connection of p to server into the table, under a persistence template if control is one's. w.conn is
// the entry's copy afterwards.
func (w *Worker) insert(t *Table, in *IfaceQueue, p *packet.Packet, s *Service, server *Server, control conntrack.Ref) (conntrack.Ref, reason.Reason) {
	if server == nil {
		return 0, reason.ServerRemoved // removed since it was picked; the client tries again
	}
	c := &w.conn
	*c = conntrack.Conn{
		Client: p.Flow.Src, ClientPort: p.Flow.SrcPort,
		Virtual: p.Flow.Dst, VirtualPort: p.Flow.DstPort,
		Proto: p.Flow.Proto, Mode: server.Mode, ServerID: server.ID,
		Server: server.Addr, ServerPort: server.Port,
		ClientMAC: p.SrcMAC(), ClientIface: uint16(in.Iface), ClientVLANs: p.VLANs(), ClientTag: clientTag(p.SrcMACBits(), in.Iface, p.VLANs()),
		Control: control,
	}
	if c.ServerPort == 0 {
		c.ServerPort = p.Flow.DstPort
	}
	if s.OnePacket && p.Flow.Proto == lb.UDP {
		if control != 0 {
			w.shared.conns.Renew(control, w.now)
		}
		w.meters.cell(server.ID).Conns++ // IPVS counts one for every datagram (ip_vs_conn_stats)
		return 0, reason.None
	}
	conns := w.shared.conns
	if w.replaced != 0 { // it has the same key
		conns.Delete(w.replaced)
		w.replaced = 0
	}
	conns.Open(c, p.TCPFlags)
	ref, result := conns.Insert(c, w.now)
	switch result {
	case conntrack.OK:
		w.count.Connections++
		w.meters.cell(server.ID).Conns++
		return ref, reason.None
	case conntrack.Exists: // another worker was faster: two packets of one flow came by two queues
		if conns.Load(ref, c) {
			return ref, reason.None
		}
		return 0, reason.NoConnection
	case conntrack.ReverseTaken:
		return 0, reason.ReplyConflict
	case conntrack.NoPort:
		return 0, reason.PortsExhausted
	case conntrack.NoServer, conntrack.NoTemplate:
		return 0, reason.ServerRemoved
	}
	return 0, reason.TableFull
}
