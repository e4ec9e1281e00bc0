package api

import (
	"slices"
	"strings"
	"time"

	"weir/ipvsadm"
	"weir/lb"
)

// modeNames are the modes as JSON has them.
var modeNames = map[lb.Mode]string{lb.DR: "dr", lb.NAT: "nat", lb.FULLNAT: "fullnat", lb.TUN: "tun", lb.Local: "local"}

// ModeName returns a mode as JSON has it.
func ModeName(m lb.Mode) string { return modeNames[m] }

// FromListing makes Services of a listing.
func FromListing(l ipvsadm.Listing) Services {
	out := Services{TableSize: l.Size, Timeouts: Timeouts(l.Timeouts), Services: make([]Service, len(l.Services))}
	for i := range l.Services {
		out.Services[i] = fromService(&l.Services[i])
	}
	return out
}

func fromService(l *ipvsadm.ListedService) Service {
	s := &l.Service
	out := Service{
		Address: s.Key.Addr.Netip(), Port: s.Key.Port, Mark: s.Key.Mark, IPv6: s.Key.Is6, Scheduler: s.Scheduler, SchedulerFlags: s.SchedFlags,
		PersistSeconds: int(s.Persist / time.Second), PersistPrefix: s.PersistLen, OnePacket: s.OnePacket,
		Total: Traffic(l.Total), Rate: Traffic(l.Rate), Servers: make([]Server, len(s.Servers)),
	}
	if s.Key.Mark == 0 {
		out.Protocol = strings.ToLower(s.Key.Proto.String())
	}
	for i := range s.Servers {
		v := &s.Servers[i]
		o := &out.Servers[i]
		*o = Server{Address: v.Addr.Netip(), Port: v.Port, Mode: modeNames[v.Mode], Weight: v.Weight, Upper: v.Upper, Lower: v.Lower}
		if v.Mode == lb.TUN {
			o.Tunnel, o.TunnelPort = v.Tunnel.Type.String(), v.Tunnel.Port
			switch {
			case v.Tunnel.Remcs:
				o.TunnelChecksum = "remcsum"
			case v.Tunnel.Csum:
				o.TunnelChecksum = "csum"
			}
		}
		if i < len(l.Servers) {
			n := &l.Servers[i]
			o.Local, o.Active, o.Inactive, o.Persistent = n.Local, n.Active, n.Inactive, n.Persistent
			o.Total, o.Rate = Traffic(n.Total), Traffic(n.Rate)
		}
	}
	return out
}

// Listing is the other way round: what ipvsadm.List and Save print.
func (s *Services) Listing() ipvsadm.Listing {
	l := ipvsadm.Listing{Size: s.TableSize, Timeouts: ipvsadm.Timeouts(s.Timeouts), Services: make([]ipvsadm.ListedService, len(s.Services))}
	for i := range s.Services {
		l.Services[i] = s.Services[i].listed()
	}
	return l
}

func (s *Service) listed() ipvsadm.ListedService {
	protos := map[string]lb.Proto{"tcp": lb.TCP, "udp": lb.UDP, "sctp": lb.SCTP}
	out := ipvsadm.ListedService{Total: ipvsadm.Traffic(s.Total), Rate: ipvsadm.Traffic(s.Rate), Servers: make([]ipvsadm.ServerLoad, len(s.Servers))}
	out.Service.Service = lb.Service{
		Key:       lb.ServiceKey{Proto: protos[s.Protocol], Addr: lb.AddrFrom(s.Address), Port: s.Port, Mark: s.Mark, Is6: s.IPv6},
		Scheduler: s.Scheduler, SchedFlags: s.SchedulerFlags, Persist: time.Duration(s.PersistSeconds) * time.Second,
		PersistLen: s.PersistPrefix, OnePacket: s.OnePacket, Servers: make([]lb.Server, len(s.Servers)),
	}
	tunnels := []lb.TunnelType{lb.IPIP, lb.GUE, lb.GRE}
	for i := range s.Servers {
		v := &s.Servers[i]
		o := &out.Service.Servers[i]
		*o = lb.Server{Addr: lb.AddrFrom(v.Address), Port: v.Port, Weight: v.Weight, Upper: v.Upper, Lower: v.Lower}
		for mode, name := range modeNames {
			if name == v.Mode {
				o.Mode = mode
			}
		}
		if n := slices.IndexFunc(tunnels, func(t lb.TunnelType) bool { return t.String() == v.Tunnel }); n >= 0 {
			o.Tunnel = lb.Tunnel{Type: tunnels[n], Port: v.TunnelPort, Csum: v.TunnelChecksum == "csum", Remcs: v.TunnelChecksum == "remcsum"}
		}
		out.Servers[i] = ipvsadm.ServerLoad{Active: v.Active, Inactive: v.Inactive, Persistent: v.Persistent, Local: v.Local,
			Total: ipvsadm.Traffic(v.Total), Rate: ipvsadm.Traffic(v.Rate)}
	}
	return out
}
