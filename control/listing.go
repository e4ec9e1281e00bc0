package control

import (
	"slices"
	"strings"

	"weir/lb"
)

// ServiceState is a service as it is served now.
type ServiceState struct {
	Service lb.Service
	Servers []ServerState // in the order its scheduler walks them: newest first
}

// ServerState is a server with what it carries at the moment.
type ServerState struct {
	Server                       lb.Server
	Active, Inactive, Persistent int
	Overloaded                   bool // over its threshold: new connections go elsewhere
	Local                        bool // it is the director itself
}

// Listing returns what is served, services by the names of their keys. The counts are those of the moment, each by itself.
func (s *Store) Listing() []ServiceState {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]ServiceState, 0, len(s.services))
	for _, v := range s.services {
		state := ServiceState{Service: v.config, Servers: make([]ServerState, len(v.servers))}
		for i, c := range v.servers {
			_, local := s.paths.Path(c.config.Addr)
			state.Servers[i] = ServerState{
				Server: c.config, Local: local, Overloaded: c.load.Overloaded.Load(),
				Active: int(c.load.Active.Load()), Inactive: int(c.load.Inactive.Load()), Persistent: int(c.load.Persistent.Load()),
			}
		}
		list = append(list, state)
	}
	slices.SortFunc(list, func(a, b ServiceState) int { return strings.Compare(a.Service.Key.String(), b.Service.Key.String()) })
	return list
}
