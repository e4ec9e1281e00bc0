package admin

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"weir/conntrack"
	"weir/control"
	"weir/control/api"
	"weir/dataplane"
	"weir/dataplane/forward"
	"weir/dataplane/reason"
	"weir/lb"
)

// Trace implements api.Backend.
func (d *Director) Trace(q api.TraceQuery) (api.Trace, error) {
	f := lb.Flow{
		Src: lb.AddrFrom(q.Source.Addr()), SrcPort: q.Source.Port(), Dst: lb.AddrFrom(q.Destination.Addr()), DstPort: q.Destination.Port(),
		Proto: map[string]lb.Proto{"tcp": lb.TCP, "udp": lb.UDP, "sctp": lb.SCTP}[q.Protocol],
	}
	flags := flagsOf(q.Flags)
	if f.Proto == lb.SCTP {
		flags = conntrack.ChunkInit
	}
	t := d.Store.Trace(f, flags)
	n := narrator{out: api.Trace{Why: []string{}}, table: d.Shared.Table(), flow: f, now: t.Now}
	n.tell(&t)
	return n.out, nil
}

// flagsOf reads TCP flags; none stand for a SYN.
func flagsOf(letters string) (flags uint8) {
	if letters == "" {
		return conntrack.SYN
	}
	all := map[rune]uint8{'F': conntrack.FIN, 'S': conntrack.SYN, 'R': conntrack.RST, 'P': conntrack.PSH, 'A': conntrack.ACK, 'U': conntrack.URG}
	for _, c := range letters {
		flags |= all[c]
	}
	return flags
}

// narrator makes a story of a trace.
type narrator struct {
	out   api.Trace
	table *dataplane.Table
	flow  lb.Flow
	now   uint32
}

func (n *narrator) say(format string, args ...any) {
	n.out.Why = append(n.out.Why, fmt.Sprintf(format, args...))
}

func (n *narrator) tell(t *control.Trace) {
	n.out.Found = "nothing"
	if t.Dir != conntrack.None {
		c := connection(&t.Conn, n.now)
		n.out.Connection = &c
	}
	switch {
	case t.Dir == conntrack.Reverse:
		n.out.Found = "answer"
		n.say("it is an answer of a connection: %s -> %s, %s, %d s left", n.out.Connection.Client, n.out.Connection.Virtual, n.out.Connection.State, n.out.Connection.Expires)
		n.answer(&t.Conn)
		return
	case t.Dir == conntrack.Forward && !t.Superseded:
		n.out.Found = "connection"
		n.say("it belongs to a connection: %s, %d s left", n.out.Connection.State, n.out.Connection.Expires)
		n.to(t.Server, t.Conn.Mode, &t.Conn)
		n.stopped(t.Why)
		return
	case t.Superseded:
		n.say("there is a connection, in state %s, that this packet would end: it is looked at as a new one", n.out.Connection.State)
	default:
		n.say("no connection has this flow")
	}
	if t.Service == nil {
		n.say("no service is for %s %s", n.flow.Proto, addrPort(n.flow.Dst, n.flow.DstPort))
		n.stopped(t.Why)
		return
	}
	n.out.Service, n.out.Scheduler = t.Service.Key.String(), t.Config.Scheduler
	n.say("service %s", n.out.Service)
	if t.Template.Client.IsValid() {
		c := connection(&t.Template, n.now)
		n.out.Template = &c
	}
	switch {
	case t.Pinned:
		n.out.Found = "template"
		n.say("persistence ties %s to a server, %d s left", group(t), n.out.Template.Expires)
		n.to(t.Server, t.Server.Mode, nil)
	case t.Opens:
		n.out.Found = "new"
		if n.out.Template != nil {
			n.say("persistence ties %s to %s, which takes no more connections", group(t), n.out.Template.Server)
		}
		n.choice(t)
	}
	n.stopped(t.Why)
}

func group(t *control.Trace) string {
	if bits := t.Service.PersistLen; bits < t.Group.Bits() {
		return "clients of " + netip.PrefixFrom(t.Group.Netip(), bits).String()
	}
	return "client " + t.Group.String()
}

// choice tells what the scheduler would do.
func (n *narrator) choice(t *control.Trace) {
	for _, s := range t.Candidates {
		c := api.Candidate{Server: addrPort(s.Addr, s.Port).String(), Weight: s.Weight,
			Active: uint32(max(0, s.Load.Active.Load())), Inactive: uint32(max(0, s.Load.Inactive.Load())), Overloaded: s.Load.Overloaded.Load()}
		if v := n.table.Server(s.ID); v != nil {
			if c.Mode = api.ModeName(v.Mode); v.Path != nil {
				c.Path = n.path(v.Path)
			}
		}
		n.out.Candidates = append(n.out.Candidates, c)
	}
	n.out.Foresight = [...]string{control.Unknown: "unknown", control.ByHash: "hash", control.ByCounts: "counts"}[t.Foresight]
	name := strings.Join(append([]string{t.Config.Scheduler}, t.Config.SchedFlags...), " ")
	switch {
	case len(t.Candidates) == 0:
		n.say("the service has no servers")
	case t.Foresight == control.Unknown:
		n.say("%s chooses among %d servers; which one is next depends on state that only asking it would reveal, and move on", name, len(t.Candidates))
	case t.Choice == nil:
		n.say("%s finds no server among %d: each has weight 0, is over its threshold, or is not the hash's", name, len(t.Candidates))
	case t.Foresight == control.ByHash:
		n.say("%s hashes the flow to %s", name, addrPort(t.Choice.Addr, t.Choice.Port))
	default:
		n.say("%s chooses %s, as connections stand now", name, addrPort(t.Choice.Addr, t.Choice.Port))
	}
	if t.Choice != nil {
		n.to(t.Choice, t.Choice.Mode, nil)
	}
}

// to tells how a packet gets to a server. The connection is nil for a new one.
func (n *narrator) to(s *dataplane.Server, mode lb.Mode, c *conntrack.Conn) {
	if s == nil {
		if c != nil {
			n.out.Server = addrPort(c.Server, c.ServerPort).String()
		}
		return
	}
	port := s.Port
	if port == 0 {
		port = n.flow.DstPort
	}
	n.out.Server = addrPort(s.Addr, port).String()
	if s.Path == nil {
		return
	}
	n.out.Path = n.path(s.Path)
	switch mode {
	case lb.DR:
		n.out.Rewrite = "DR: MAC addresses only"
	case lb.NAT:
		n.out.Rewrite = fmt.Sprintf("NAT: destination %s -> %s", addrPort(n.flow.Dst, n.flow.DstPort), n.out.Server)
	case lb.FULLNAT:
		local := "a free port of a local address"
		if c != nil {
			local = addrPort(c.Local, c.LocalPort).String()
		}
		n.out.Rewrite = fmt.Sprintf("FULLNAT: source %s -> %s, destination %s -> %s", addrPort(n.flow.Src, n.flow.SrcPort), local,
			addrPort(n.flow.Dst, n.flow.DstPort), n.out.Server)
	case lb.TUN:
		n.out.Rewrite = fmt.Sprintf("TUN: %s header to %s in front", s.Tunnel.Type, s.Addr)
	}
}

// answer tells how an answer gets to its client.
func (n *narrator) answer(c *conntrack.Conn) {
	n.out.Server = addrPort(c.Server, c.ServerPort).String()
	n.out.Rewrite = fmt.Sprintf("source %s -> %s", addrPort(n.flow.Src, n.flow.SrcPort), addrPort(c.Virtual, c.VirtualPort))
	if c.Mode == lb.FULLNAT {
		n.out.Rewrite += fmt.Sprintf(", destination %s -> %s", addrPort(n.flow.Dst, n.flow.DstPort), addrPort(c.Client, c.ClientPort))
	}
	if i, ifaces := int(c.ClientIface), n.table.Ifaces(); i < len(ifaces) {
		n.out.Path = n.path(&forward.Path{Iface: i, DstMAC: c.ClientMAC, SrcMAC: ifaces[i].MAC, VLANs: c.ClientVLANs, MTU: ifaces[i].MTU})
	}
}

func (n *narrator) path(p *forward.Path) *api.Path {
	out := &api.Path{MAC: net.HardwareAddr(p.DstMAC[:]).String(), Source: net.HardwareAddr(p.SrcMAC[:]).String(), MTU: p.MTU}
	if ifaces := n.table.Ifaces(); p.Iface < len(ifaces) {
		out.Interface = ifaces[p.Iface].Name
	}
	return out
}

// stopped tells what keeps the packet from being forwarded.
func (n *narrator) stopped(why reason.Reason) {
	if why != reason.None {
		n.out.Reason, n.out.Help = why.String(), why.Help()
	}
}
