package admin

import (
	"context"
	"fmt"
	"net/netip"

	"weir/conntrack"
	"weir/control/api"
	"weir/ipvsadm"
	"weir/lb"
)

// Listing implements api.Backend: the configuration with the numbers of the moment, each by itself.
func (d *Director) Listing() ipvsadm.Listing {
	d.mu.Lock()
	l := d.rules.Listing()
	d.mu.Unlock()
	l.Size = d.Conns.Stats().Capacity
	for i := range l.Services {
		d.Store.Read(&l.Services[i])
	}
	return l
}

// Status implements api.Backend.
func (d *Director) Status() api.Status {
	var s api.Status
	if d.Options.Status != nil {
		s = d.Options.Status()
	}
	d.mu.Lock()
	services := d.rules.Services()
	d.mu.Unlock()
	s.Services = len(services)
	for _, v := range services {
		s.Servers += len(v.Servers)
	}
	s.Unreachable = []api.Unreachable{}
	for _, u := range d.Store.Unreachable() {
		s.Unreachable = append(s.Unreachable, api.Unreachable{Service: u.Service.String(), Server: addrPort(u.Server.Addr, u.Server.Port).String()})
	}
	t := d.Conns.Stats()
	s.Table = api.Table{Capacity: t.Capacity, Used: t.Used, Opened: t.Opened, Expired: t.Expired, Evicted: t.Evicted, Refused: map[string]uint64{}}
	for result, n := range t.Refused {
		if n > 0 {
			s.Table.Refused[conntrack.Result(result).String()] = n
		}
	}
	return s
}

func addrPort(a lb.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a.Netip(), port) }

// How many entries of the connection table one request looks at: some milliseconds' worth.
const (
	lookAtOnce = 1 << 16
	lookAtMost = 1 << 20
)

// Connections implements api.Backend.
func (d *Director) Connections(from uint32, limit int, filter *api.Filter, countOnly bool) api.Connections {
	page := api.Connections{Connections: []api.Connection{}}
	now := d.Shared.Now()
	for looked := 0; looked < lookAtMost; looked += lookAtOnce {
		from = d.Conns.Range(from, lookAtOnce, func(_ conntrack.Ref, c *conntrack.Conn) bool {
			conn := connection(c, now)
			if !filter.Matches(&conn) {
				return true
			}
			page.Matched++
			if countOnly {
				return true
			}
			page.Connections = append(page.Connections, conn)
			return len(page.Connections) < limit
		})
		if from == 0 || len(page.Connections) >= limit {
			break
		}
	}
	page.Next = from
	return page
}

// connection is an entry as it is shown.
func connection(c *conntrack.Conn, now uint32) api.Connection {
	out := api.Connection{
		Protocol: "IP", State: c.State.String(), Expires: int(c.Expires(now)), Mode: api.ModeName(c.Mode), Template: c.Flags&conntrack.Template != 0,
		Client: addrPort(c.Client, c.ClientPort), Virtual: addrPort(c.Virtual, c.VirtualPort), Server: addrPort(c.Server, c.ServerPort),
	}
	if c.Proto != 0 {
		out.Protocol = c.Proto.String()
	}
	if c.Local.IsValid() {
		out.Local = addrPort(c.Local, c.LocalPort)
	}
	if c.Flags&conntrack.Retired != 0 {
		out.Virtual = netip.AddrPortFrom(out.Virtual.Addr(), conntrack.RetiredPort)
		out.Server = netip.AddrPortFrom(out.Server.Addr(), conntrack.RetiredPort)
	}
	return out
}

// Drain implements api.Backend.
func (d *Director) Drain(ctx context.Context, server netip.AddrPort) (api.Drained, error) {
	d.mu.Lock()
	var commands []ipvsadm.Command
	out := api.Drained{Services: []string{}}
	for _, s := range d.rules.Services() {
		for _, v := range s.Servers {
			if v.Addr.Netip() != server.Addr() || server.Port() != 0 && v.Port != server.Port() {
				continue
			}
			c := ipvsadm.Command{Op: ipvsadm.OpEditServer, Server: v, HasService: true, Source: "drain"}
			c.Service.Key = s.Key
			if c.Server.Weight != 0 {
				c.Server.Weight = 0
				commands = append(commands, c)
			}
			out.Services = append(out.Services, s.Key.String())
		}
	}
	var done api.Changed
	var err error
	if len(commands) > 0 {
		done, err = d.each(commands)
	}
	d.mu.Unlock()
	switch {
	case len(out.Services) == 0:
		name := server.String()
		if server.Port() == 0 {
			name = server.Addr().String()
		}
		return out, api.Refused(fmt.Errorf("no service has a server %s", name))
	case err != nil:
		return out, err
	case len(done.Refused) > 0:
		return out, api.Refused(done.Refused[0].Error)
	case done.Applied > 0:
		err = d.settle(ctx)
	}
	return out, err
}
