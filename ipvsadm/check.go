package ipvsadm

import (
	"fmt"

	"weir/lb"
)

// checkOptions tells whether the options given go with the command.
func (p *parser) checkOptions() error {
	c := &commands[p.cmd.Op]
	one := optCount
	for o := range optCount {
		switch {
		case !p.given.has(o):
			if c.needs.has(o) {
				return &Error{Status: 2, Text: fmt.Sprintf("You need to supply the '%s' option for the '%s' command", optionNames[o].name, c.name),
					Detail: fmt.Sprintf("%s: needs %s", p.cmd.Op, optionNames[o].flag)}
			}
		case !p.allowed().has(o):
			return &Error{Status: 2, Text: fmt.Sprintf("Illegal '%s' option with the '%s' command", optionNames[o].name, c.name),
				Detail: fmt.Sprintf("%s: does not go with %s, which takes %v", optionNames[o].flag, p.cmd.Op, p.allowed())}
		case c.takesOne.has(o) && one != optCount:
			return &Error{Status: 2, Text: fmt.Sprintf("The option '%s' conflicts with the '%s' option in the '%s' command",
				optionNames[o].name, optionNames[one].name, c.name)}
		case c.takesOne.has(o):
			one = o
		}
	}
	return nil
}

// finish checks what can only be checked when all options are known, and fills in defaults.
func (p *parser) finish() error {
	svc, srv := &p.cmd.Service, &p.cmd.Server
	switch p.cmd.Op {
	case OpAddService, OpEditService:
		if err := p.finishService(); err != nil {
			return err
		}
		*srv = lb.Server{}
	case OpAddServer, OpEditServer:
		if err := p.finishServer(); err != nil {
			return err
		}
		*svc = Service{Service: lb.Service{Key: svc.Key}}
	case OpList:
		l := p.cmd.Options
		instead := l.Connections || l.Timeouts || l.Daemon
		if instead && (l.Stats || l.Rate || l.Thresholds) || (l.Timeouts || l.Daemon) && l.PersistentConn {
			return &Error{Status: 2, Text: "options conflicts in the list command",
				Detail: "-L: -c, --timeout and --daemon list something else and do not go with --stats, --rate and --thresholds" +
					" (--timeout and --daemon not with --persistent-conn either)"}
		}
		fallthrough
	default:
		*svc = Service{Service: lb.Service{Key: svc.Key}}
		*srv = lb.Server{Addr: srv.Addr, Port: srv.Port}
	}
	return nil
}

func (p *parser) finishService() error {
	svc := &p.cmd.Service
	if svc.Key.Mark == 0 && svc.Key.Port == 0 && svc.Persist == 0 {
		return &Error{Status: 2, Text: "Zero port specified for non-persistent service", Detail: fmt.Sprintf(
			"%s: a service for every port (no port, or port 0) needs -p; for one port write ADDRESS:PORT, IPv6 in brackets", svc.Key)}
	}
	if svc.OnePacket && svc.Key.Mark == 0 && svc.Key.Proto != lb.UDP {
		return &Error{Status: 2, Text: "One-Packet Scheduling is only for UDP virtual services",
			Detail: fmt.Sprintf("-o: %s: one-packet scheduling is for UDP services (-u) and firewall marks (-f)", svc.Key)}
	}
	n := prefixLen(p.mask4)
	switch {
	case svc.Persist == 0: // -M without -p is taken and has no effect
	case p.is6:
		svc.PersistLen = p.plen6 % 128
	case n < 1:
		svc.OddMask = lb.AddrFrom4(p.mask4)
	default:
		svc.PersistLen = n % 32
	}
	return nil
}

func (p *parser) finishServer() error {
	svc, srv := &p.cmd.Service, &p.cmd.Server
	// DR and TUN leave the packet's port alone: whatever -r said, the server's port is the service's (but for marks, which have none).
	if svc.Key.Mark == 0 && (srv.Mode == lb.DR || srv.Mode == lb.TUN) {
		srv.Port = svc.Key.Port
	}
	if srv.Addr.Is4() == p.is6 && srv.Mode != lb.TUN && srv.Mode != lb.FULLNAT {
		return &Error{Status: 2, Text: "Different address family is allowed only for tunneling servers",
			Detail: fmt.Sprintf("-r %s: is of another address family than %s; only -i and -F allow that", srv.Addr, svc.Key)}
	}
	tun := p.given & set(optTunType, optTunPort, optTunNoCsum, optTunCsum, optTunRemcsum)
	if tun != 0 && srv.Mode != lb.TUN {
		return &Error{Status: 2, Text: "Tunnel options conflict with forward method", Detail: fmt.Sprintf("%v: needs -i", tun)}
	}
	return checkTunnel(srv.Tunnel.Type, tun)
}

// checkTunnel tells whether the options of a tunnel go with its type.
func checkTunnel(typ lb.TunnelType, given optionSet) error {
	oneOf := map[lb.TunnelType]optionSet{lb.GUE: set(optTunNoCsum, optTunCsum, optTunRemcsum), lb.GRE: set(optTunNoCsum, optTunCsum)}[typ]
	var needs optionSet
	if typ == lb.GUE {
		needs = set(optTunPort)
	}
	one := optCount
	for _, o := range []option{optTunPort, optTunNoCsum, optTunCsum, optTunRemcsum} {
		text := ""
		switch {
		case !given.has(o) && needs.has(o):
			text = fmt.Sprintf("You need to supply the '%s' option for the '%s' tunnel type", optionNames[o].name, typ)
		case !given.has(o) || needs.has(o):
		case !oneOf.has(o):
			text = fmt.Sprintf("Illegal '%s' option with the '%s' tunnel type", optionNames[o].name, typ)
		case one != optCount:
			text = fmt.Sprintf("The option '%s' conflicts with the '%s' option in the '%s' tunnel type", optionNames[o].name, optionNames[one].name, typ)
		default:
			one = o
		}
		if text != "" {
			return &Error{Status: 2, Text: text,
				Detail: fmt.Sprintf("--tun-type %s: needs %v, takes one of %v; given %v", typ, needs, oneOf, given&^set(optTunType))}
		}
	}
	return nil
}
