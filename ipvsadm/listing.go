package ipvsadm

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"slices"
	"time"

	"weir/lb"
)

// Listing is what -L and -S print: services with the numbers of the moment. Plain data, so that it may come from another process.
type Listing struct {
	Size     int             // places in the connection table, for the title
	Services []ListedService // in the order they were added
	Timeouts Timeouts
}

// ListedService is a service with its traffic.
type ListedService struct {
	Service Service
	Total   Traffic // since the service was added or zeroed
	Rate    Traffic // a second
	Servers []ServerLoad
}

// ServerLoad is what the server at the same place in Service.Servers carries; one that is missing carries nothing.
type ServerLoad struct {
	Active, Inactive, Persistent uint32
	Total, Rate                  Traffic
	Local                        bool // the server is the director itself
}

// Traffic counts connections, packets and bytes, from clients (in) and to them (out).
type Traffic struct{ Conns, InPackets, OutPackets, InBytes, OutBytes uint64 }

// Connection is an entry of the connection table, or a persistence template.
type Connection struct {
	Proto                   string // TCP, UDP; IP for the template of a firewall mark
	State                   string // IPVS's name for it
	Expires                 time.Duration
	Client, Virtual, Server netip.AddrPort
}

// List prints what c, an -L, asks for, but for -c: see ListConnections. Its error is an *Error of status 1 when there is no such
// service, else the writer's. Services and servers are sorted by number, with --nosort as IPVS walks them: servers newest
// first; services in the order they were added (the kernel's order is that of a hash with a random key).
func List(w io.Writer, l Listing, c Command) error { return list(w, l, c, etcServices()) }

func list(w io.Writer, l Listing, c Command, names *serviceNames) error {
	out := bufio.NewWriter(w)
	p := printer{Options: c.Options, w: out, names: names}
	switch {
	case c.HasService:
		i := slices.IndexFunc(l.Services, func(s ListedService) bool { return s.Service.Key == c.Service.Key })
		if i < 0 {
			return &Error{Status: 1, Text: "No such service", Where: c.Source, Detail: c.String() + ": No such service"}
		}
		p.title()
		p.service(&l.Services[i])
	case c.Options.Timeouts:
		fmt.Fprintf(out, "Timeout (tcp tcpfin udp): %d %d %d\n", l.Timeouts.TCP, l.Timeouts.TCPFin, l.Timeouts.UDP)
	case c.Options.Daemon: // there is none, so nothing is printed
	default:
		fmt.Fprintf(out, "IP Virtual Server version 1.2.1 (size=%d)\n", l.Size)
		p.title()
		for i := range p.services(l) {
			p.service(&l.Services[i])
		}
	}
	return out.Flush()
}

// ListConnections prints what -L -c asks for, entry by entry as they come.
func ListConnections(w io.Writer, conns iter.Seq[Connection], o Options) error {
	return listConnections(w, conns, o, etcServices())
}

func listConnections(w io.Writer, conns iter.Seq[Connection], o Options, names *serviceNames) error {
	out := bufio.NewWriter(w)
	p := printer{Options: o, w: out, names: names}
	engines := ""
	if o.PersistentConn {
		engines = "        pe name          pe_data" // columns that are always empty here
	}
	fmt.Fprintf(out, "IPVS connection entries\npro expire %-11s %-18s %-18s destination%s\n", "state", "source", "virtual", engines)
	protos := map[string]lb.Proto{"TCP": lb.TCP, "UDP": lb.UDP, "SCTP": lb.SCTP}
	for c := range conns {
		proto, s := protos[c.Proto], int(c.Expires/time.Second)
		name := func(a netip.AddrPort) string { return p.addrPort(lb.AddrFrom(a.Addr()), a.Port(), proto) }
		_, err := fmt.Fprintf(out, "%-3s %-6s %-11s %-18s %-18s %s\n", c.Proto, fmt.Sprintf("%02d:%02d", s/60, s%60), c.State,
			name(c.Client), name(c.Virtual), name(c.Server))
		if err != nil {
			return err
		}
	}
	return out.Flush()
}

// printer prints services in one of the formats.
type printer struct {
	Options
	w     *bufio.Writer
	names *serviceNames
	full  bool // rules with all there is in them, as WriteTo prints them
}

// services yields the places of services in the order they are printed.
func (p *printer) services(l Listing) iter.Seq[int] {
	order := make([]int, len(l.Services))
	for i := range order {
		order[i] = i
	}
	if !p.NoSort {
		slices.SortFunc(order, func(a, b int) int { return compareServices(l.Services[a].Service.Key, l.Services[b].Service.Key) })
	}
	return slices.Values(order)
}

// servers returns the places of servers in the order they are printed.
func (p *printer) servers(servers []lb.Server) []int {
	order := make([]int, len(servers))
	for i := range order {
		order[i] = len(servers) - 1 - i
	}
	if !p.NoSort {
		slices.SortFunc(order, func(a, b int) int { return compareServers(servers[a], servers[b]) })
	}
	return order
}

// compareServices has ipvsadm's order: marks (signed, as it prints them), then family, protocol, address, port. Where ipvsadm
// compares addresses by a difference that overflows (192.0.2.1 comes before 10.0.0.1), this is the order of the numbers.
func compareServices(a, b lb.ServiceKey) int {
	six := func(k lb.ServiceKey) int {
		if is6(k) {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(int32(a.Mark), int32(b.Mark)), cmp.Compare(six(a), six(b)), cmp.Compare(a.Proto, b.Proto),
		compareAddrs(a.Addr, b.Addr), cmp.Compare(a.Port, b.Port))
}

func compareServers(a, b lb.Server) int {
	return cmp.Or(compareAddrs(a.Addr, b.Addr), cmp.Compare(a.Port, b.Port))
}

// compareAddrs compares byte by byte from the left, whatever the family: 2001:db8:: comes between 10.0.0.1 and 127.0.0.1 (recorded).
func compareAddrs(a, b lb.Addr) int {
	x, y := a.Netip(), b.Netip()
	if x.BitLen() == y.BitLen() {
		return x.Compare(y)
	}
	return cmp.Or(slices.Compare(x.AsSlice(), y.AsSlice()), cmp.Compare(x.BitLen(), y.BitLen()))
}

func (p *printer) title() {
	first, columns := "Prot LocalAddress:Port Scheduler Flags", "           Forward Weight ActiveConn InActConn"
	switch {
	case p.Stats:
		first, columns = "Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes", ""
	case p.Rate:
		first, columns = "Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS", ""
	case p.Thresholds:
		first, columns = "Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn ", ""
	case p.PersistentConn:
		first, columns = "Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn ", ""
	case p.TunnelInfo:
		columns = "           Forward TunnelInfo    Weight ActiveConn InActConn"
	}
	fmt.Fprintf(p.w, "%s\n  -> RemoteAddress:Port%s\n", first, columns)
}

func (p *printer) service(l *ListedService) {
	s := &l.Service
	name := fmt.Sprintf("%-4s %s", s.Key.Proto, clip(p.addrPort(s.Key.Addr, s.Key.Port, s.Key.Proto), s.Key.Addr))
	if s.Key.Mark != 0 {
		name = fmt.Sprintf("FWM  %d", int32(s.Key.Mark)) // signed, as ipvsadm prints it
		if s.Key.Is6 {
			name += " IPv6"
		}
	}
	switch {
	case p.Stats:
		fmt.Fprintf(p.w, "%-33s%s\n", name, p.traffic(l.Total))
	case p.Rate:
		fmt.Fprintf(p.w, "%-33s%s\n", name, p.traffic(l.Rate))
	default:
		fmt.Fprintf(p.w, "%s %s%s\n", name, s.Scheduler, serviceFlags(s))
	}
	for _, i := range p.servers(s.Servers) {
		var load ServerLoad
		if i < len(l.Servers) {
			load = l.Servers[i]
		}
		p.server(&s.Servers[i], &load, namingProto(s.Key))
	}
}

// serviceFlags is what stands behind the scheduler's name.
func serviceFlags(s *Service) (flags string) {
	if len(s.SchedFlags) > 0 {
		flags = " (" + joinFlags(s.SchedFlags) + ")"
	}
	if s.Persist != 0 {
		flags += fmt.Sprintf(" persistent %d", s.Persist/time.Second)
		if mask := netmask(s); mask != "" {
			flags += " mask " + mask
		}
		if s.Engine != "" {
			flags += " pe " + s.Engine
		}
	}
	if s.OnePacket {
		flags += " ops"
	}
	return flags
}

func (p *printer) server(s *lb.Server, l *ServerLoad, proto lb.Proto) {
	fmt.Fprintf(p.w, "  -> %-28s", clip(p.addrPort(s.Addr, s.Port, proto), s.Addr))
	switch {
	case p.Stats:
		fmt.Fprintf(p.w, "%s\n", p.traffic(l.Total))
	case p.Rate:
		r := &l.Rate
		fmt.Fprintf(p.w, " %8d %8d %8d%s%s\n", r.Conns, r.InPackets, r.OutPackets, p.amount(r.InBytes), p.amount(r.OutBytes))
	case p.Thresholds:
		fmt.Fprintf(p.w, " %-10d %-10d %-10d %-10d\n", s.Upper, s.Lower, l.Active, l.Inactive)
	case p.PersistentConn:
		fmt.Fprintf(p.w, " %-9d %-11d %-10d %-10d\n", s.Weight, l.Persistent, l.Active, l.Inactive)
	case p.TunnelInfo:
		fmt.Fprintf(p.w, " %-7s %-13s %-6d %-10d %-10d\n", forward(s, l), tunnelInfo(s), s.Weight, l.Active, l.Inactive)
	default:
		fmt.Fprintf(p.w, " %-7s %-6d %-10d %-10d\n", forward(s, l), s.Weight, l.Active, l.Inactive)
	}
}

func (p *printer) traffic(t Traffic) string {
	return p.amount(t.Conns) + p.amount(t.InPackets) + p.amount(t.OutPackets) + p.amount(t.InBytes) + p.amount(t.OutBytes)
}

// amount prints a number into nine columns: from 10^8 on in thousands, then in millions and so on, cut off; --exact in full.
func (p *printer) amount(n uint64) string {
	switch {
	case p.Exact || n < 1e8:
		return fmt.Sprintf(" %8d", n)
	case n < 1e9:
		return fmt.Sprintf("%8dK", n/1e3)
	case n < 1e11:
		return fmt.Sprintf("%8dM", n/1e6)
	case n < 1e14:
		return fmt.Sprintf("%8dG", n/1e9)
	}
	return fmt.Sprintf("%8dT", n/1e12)
}

// addrPort prints an address, always as a number, and a port, by name unless -n was given.
func (p *printer) addrPort(a lb.Addr, port uint16, proto lb.Proto) string {
	switch {
	case p.Numeric:
		return addrPort(a, port)
	case a.Is4():
		return a.String() + ":" + p.names.name(port, proto)
	}
	return "[" + a.String() + "]:" + p.names.name(port, proto)
}

// clip cuts IPv4 names with long port names to their column, as ipvsadm does.
func clip(name string, a lb.Addr) string {
	if a.Is4() && len(name) > 28 {
		return name[:28]
	}
	return name
}

func forward(s *lb.Server, l *ServerLoad) string {
	switch {
	case l.Local || s.Mode == lb.Local:
		return "Local"
	case s.Mode == lb.NAT:
		return "Masq"
	case s.Mode == lb.TUN:
		return "Tunnel"
	case s.Mode == lb.FULLNAT:
		return "FullNat"
	}
	return "Route"
}

func tunnelInfo(s *lb.Server) string {
	sum := map[bool]string{false: "-c", true: "+c"}[s.Tunnel.Csum]
	if s.Tunnel.Remcs {
		sum = "r+c"
	}
	switch {
	case s.Mode != lb.TUN:
		return "n/a"
	case s.Tunnel.Type == lb.GUE:
		return fmt.Sprintf("gue:%d:%s", s.Tunnel.Port, sum)
	case s.Tunnel.Type == lb.GRE:
		return "gre:" + sum
	}
	return "ipip"
}
