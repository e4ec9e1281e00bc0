package dataplane

import (
	"weir/conntrack"
	"weir/dataplane/packet"
	"weir/lb"
)

// lane is a server's path as the quick way needs it: in one cache line with what else is read of the server for a packet.
type lane struct {
	iface uint16
	mtu   uint16 // 0: nothing goes this way
	is6   bool   // the server's address
	outer uint8  // TUN by IPIP: bytes of its header, else 0
	macs  [12]byte
}

// laneOf returns the lane of a server's path: none if there is no path, its frames have tags, or the server is removed or the host itself.
func laneOf(s *Server) (l lane) {
	p := s.Path
	if p == nil || s.Removed || s.Mode == lb.Local || p.VLANs != 0 {
		return lane{}
	}
	if s.Mode == lb.TUN && s.Tunnel.Type == lb.IPIP && p.Source.IsValid() {
		if l.outer = packet.IPv6Len; s.Addr.Is4() {
			l.outer = packet.IPv4MinLen
		}
	}
	l.iface, l.mtu, l.is6 = uint16(p.Iface), uint16(min(p.MTU, 0xffff)), !s.Addr.Is4()
	copy(l.macs[:6], p.DstMAC[:])
	copy(l.macs[6:], p.SrcMAC[:])
	return l
}

// quick does for most packets, in one go, what handle does for any: a plain frame, of a connection in whose state it changes nothing, that
// fits its way, and keeps its IP version or is tunnelled by IPIP. It returns false, and has left the packet alone, when one of these is not so. Everything that it
// decides, handle would decide alike (TestQuickChangesNothing).
func (w *Worker) quick(t *Table, in *IfaceQueue, f *Frame, i int) bool {
	p, at, conns := &w.plains[i], w.places[i], w.shared.conns
	if at.Answers() {
		return w.quickBack(t, in, f, p, at)
	}
	hit := conns.At(p.Src, p.Dst, p.Ports, p.Proto, at)
	s := t.Server(hit.ServerID()) // of no hit: none
	mode := hit.Mode()
	if s == nil || p.Len > s.lane.mtu || p.Is6 != s.lane.is6 && mode != lb.DR && mode != lb.TUN || mode == lb.Local ||
		!conns.Passes(hit, p.TCPFlags, w.now) {
		return false
	}
	b := f.Packet()
	switch {
	case mode == lb.DR:
		p.Age(b)
	case clientTag(packet.SourceBits(b), in.Iface, 0) != hit.ClientTag():
		return false
	case mode == lb.TUN:
		if !w.quickTunnel(t, f, p, s) {
			return false
		}
		b = f.Packet()
	default: // NAT, FULLNAT
		src, ports := p.Src, p.Ports
		if mode == lb.FULLNAT {
			local, port, ok := conns.Local(hit)
			if !ok || local.Is4() == p.Is6 {
				return false
			}
			src, ports = local, ports&0xffff|uint32(port)<<16
		}
		if s.Port != 0 {
			ports = ports&^0xffff | uint32(s.Port)
		}
		p.Relay(b, src, s.Addr, ports)
	}
	packet.Address(b, &s.lane.macs)
	w.countToServer(s.ID, uint64(p.Len))
	w.send(in, int(s.lane.iface), f)
	return true
}

// quickTunnel puts IPIP's outer header in front of f's packet, as wrap and then forward would.
func (w *Worker) quickTunnel(t *Table, f *Frame, p *packet.Plain, s *Server) bool {
	l := &s.lane
	if l.outer == 0 || int(p.Len)+int(l.outer) > int(l.mtu) || t.tunnelSources[family(s.Addr)].Addr.IsValid() || w.shared.mtus.get(s.Addr, w.now) != 0 {
		return false
	}
	f.Off, f.End = p.Wrap(f.Buf, f.Off, s.Path.Source, s.Addr, w.nextID())
	return true
}

// quickBack is quick for what a NAT or FULLNAT server sends.
func (w *Worker) quickBack(t *Table, in *IfaceQueue, f *Frame, p *packet.Plain, at conntrack.Place) bool {
	conns, c, flow := w.shared.conns, &w.conn, p.Flow()
	hit := conns.Back(&flow, at, c)
	if hit.Dir() == conntrack.None || c.ClientVLANs != 0 || c.ClientPort == 0 || c.VirtualPort == 0 {
		return false
	}
	out := int(c.ClientIface)
	iface := &t.ifaces[out]
	dst, ports := p.Dst, p.Ports&0xffff|uint32(c.VirtualPort)<<16
	if c.Mode == lb.FULLNAT {
		dst, ports = c.Client, ports&^0xffff|uint32(c.ClientPort)
	}
	if int(p.Len) > iface.MTU || p.Is6 == dst.Is4() || !conns.PassesBack(hit, c, p.TCPFlags, w.now) {
		return false
	}
	b := f.Packet()
	p.Relay(b, c.Virtual, dst, ports)
	*(*[6]byte)(b[0:6]) = c.ClientMAC
	*(*[6]byte)(b[6:12]) = iface.MAC
	w.countToClient(c.ServerID, uint64(p.Len))
	w.send(in, out, f)
	return true
}
