package web

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"weir/control/api"
)

// What an answer holds at most.
const (
	pageSize        = 20  // services
	serversOfRow    = 16  // of a service among others
	serversOfChosen = 200 // of the service that was asked for
	maxUnreachable  = 100
)

// answer is everything that the page shows.
type answer struct {
	Host     string     `json:"host"`
	Time     int64      `json:"time"` // when the director said so, milliseconds since 1970
	Status   api.Status `json:"status"`
	Problems []problem  `json:"problems"` // the worst first
	Now      rates      `json:"now"`      // of the whole director
	Dropped  uint64     `json:"dropped"`  // packets, a second
	Services services   `json:"services"`
	Chosen   *row       `json:"chosen,omitempty"` // the service that was asked for, unless there is none
	Chart    chart      `json:"chart"`            // its, or else the director's
}

// rates are a second's.
type rates struct {
	Connections uint64 `json:"connections"`
	InPackets   uint64 `json:"in_packets"`
	OutPackets  uint64 `json:"out_packets"`
	InBits      uint64 `json:"in_bits"`
	OutBits     uint64 `json:"out_bits"`
}

func ratesOf(r *api.Traffic) rates {
	return rates{r.Conns, r.InPackets, r.OutPackets, 8 * r.InBytes, 8 * r.OutBytes}
}

// services is a page of them.
type services struct {
	Total   int    `json:"total"`
	Matched int    `json:"matched"` // by the search
	Page    int    `json:"page"`    // the one that was asked for, or the last
	Pages   int    `json:"pages"`
	Sort    string `json:"sort"` // as it was done
	Rows    []row  `json:"rows"`
}

// row is a service.
type row struct {
	Name      string   `json:"name"`
	Scheduler string   `json:"scheduler"`
	Notes     []string `json:"notes,omitempty"` // other things that were configured
	State     string   `json:"state"`           // ok, impaired: a server is lost, down: no server takes connections
	Now       rates    `json:"now"`
	Active    uint64   `json:"active"`
	Inactive  uint64   `json:"inactive"`
	Spark     column   `json:"spark,omitempty"` // packets a second over the last minute
	Total     int      `json:"servers_total"`
	Taking    int      `json:"servers_taking"` // that take new connections
	Servers   []server `json:"servers"`        // as they were added; when too many, the lost ones first
}

// server is a server of a service.
type server struct {
	Address  string `json:"address"`
	Mode     string `json:"mode"`
	Weight   int32  `json:"weight"`
	State    string `json:"state"`
	Now      rates  `json:"now"`
	Active   uint32 `json:"active"`
	Inactive uint32 `json:"inactive"`
}

// States of a server.
const (
	up          = "up"
	local       = "local"       // it is the director itself
	full        = "full"        // at its threshold
	drained     = "drained"     // of weight 0: keeps its connections and gets no new ones
	unreachable = "unreachable" // without a route or a neighbour's answer
)

func takes(state string) bool { return state == up || state == local }

// answer makes what q asks for.
func (p *Page) answer(q query) *answer {
	r := &p.recorder
	s := r.look(time.Now())
	order, page := s.order(q)
	a := &answer{Host: p.host, Time: s.at.UnixMilli(), Status: s.status, Problems: s.problems}
	a.Status.Unreachable = a.Status.Unreachable[:min(len(a.Status.Unreachable), maxUnreachable)]
	a.Services = page
	a.Services.Rows = make([]row, len(order))
	for k, i := range order {
		a.Services.Rows[k] = s.row(i, serversOfRow)
	}
	chosen := ""
	if i, there := s.place[q.service]; there {
		chosen = q.service
		v := s.row(i, serversOfChosen)
		a.Chosen = &v
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	a.Now, a.Dropped = ratesOf(&r.now), r.droppedNow
	a.Chart = r.history.chart(chosen)
	for k := range a.Services.Rows {
		v := &a.Services.Rows[k]
		v.Spark = r.history.spark(v.Name)
	}
	return a
}

// order returns the places of the services that q asks for, and which page that is.
func (s *snapshot) order(q query) ([]int, services) {
	var all []int
	for i := range s.services {
		if q.search == "" || s.matches(i, q.search) {
			all = append(all, i)
		}
	}
	out := services{Total: len(s.services), Matched: len(all), Pages: max(1, (len(all)+pageSize-1)/pageSize), Sort: q.sort}
	if out.Sort == "" {
		if out.Sort = "added"; out.Pages > 1 {
			out.Sort = "packets"
		}
	}
	by := func(value func(i int) uint64) { // computed once for each: a sort compares many times
		values := make([]uint64, len(s.services))
		for _, i := range all {
			values[i] = value(i)
		}
		slices.SortStableFunc(all, func(a, b int) int { return cmp.Compare(values[b], values[a]) })
	}
	switch out.Sort {
	case "name":
		slices.SortStableFunc(all, func(a, b int) int { return s.compareNames(a, b) })
	case "trouble":
		by(func(i int) uint64 {
			return uint64(slices.Index([]string{"ok", "impaired", "down"}, s.health[i].state))
		})
	case "connections":
		by(func(i int) uint64 { return s.rates[i].Conns })
	case "packets":
		by(func(i int) uint64 { return s.rates[i].InPackets + s.rates[i].OutPackets })
	case "bits":
		by(func(i int) uint64 { return s.rates[i].InBytes + s.rates[i].OutBytes })
	case "active":
		by(func(i int) uint64 { active, _ := s.counts(i); return active })
	case "inactive":
		by(func(i int) uint64 { _, inactive := s.counts(i); return inactive })
	}
	out.Page = min(q.page, out.Pages-1)
	from := out.Page * pageSize
	return all[from:min(len(all), from+pageSize)], out
}

// compareNames orders services by protocol, address and port as numbers; marks come last.
func (s *snapshot) compareNames(a, b int) int {
	x, y := &s.services[a], &s.services[b]
	return cmp.Or(cmp.Compare(x.Mark, y.Mark), cmp.Compare(x.Protocol, y.Protocol), x.Address.Compare(y.Address), cmp.Compare(x.Port, y.Port))
}

func (s *snapshot) matches(i int, search string) bool {
	v := &s.services[i]
	if strings.Contains(strings.ToLower(s.names[i]), search) || strings.Contains(v.Scheduler, search) {
		return true
	}
	var text [64]byte
	return slices.ContainsFunc(v.Servers, func(x api.Server) bool {
		return strings.Contains(string(netip.AddrPortFrom(x.Address, x.Port).AppendTo(text[:0])), search)
	})
}

func (s *snapshot) counts(i int) (active, inactive uint64) {
	for k := range s.services[i].Servers {
		v := &s.services[i].Servers[k]
		active, inactive = active+uint64(v.Active), inactive+uint64(v.Inactive)
	}
	return active, inactive
}

// health is a service's state and how many of its servers take new connections.
type health struct {
	state  string
	taking int
}

// check finds a service's health. It is done once a snapshot.
func (s *snapshot) check(i int) health {
	h := health{state: "ok"}
	down := s.down[s.services[i].Name()]
	for k := range s.services[i].Servers {
		switch v := stateOf(&s.services[i].Servers[k], down); {
		case takes(v):
			h.taking++
		case v == unreachable:
			h.state = "impaired"
		}
	}
	if h.taking == 0 {
		h.state = "down"
	}
	return h
}

// stateOf is the state of a server of a service that cannot reach those in down.
func stateOf(v *api.Server, down map[netip.AddrPort]bool) string {
	switch {
	case down[netip.AddrPortFrom(v.Address, v.Port)]:
		return unreachable
	case v.Weight == 0:
		return drained
	case v.Upper > 0 && uint64(v.Active)+uint64(v.Inactive) >= uint64(v.Upper):
		return full
	case v.Local:
		return local
	}
	return up
}

// row is service i with at most so many of its servers.
func (s *snapshot) row(i, most int) row {
	v := &s.services[i]
	out := row{Name: s.names[i], Scheduler: v.Scheduler, Notes: notes(v), Now: ratesOf(&s.rates[i]), Total: len(v.Servers), Servers: []server{}}
	out.State, out.Taking = s.health[i].state, s.health[i].taking
	out.Active, out.Inactive = s.counts(i)
	places := make([]int, len(v.Servers))
	for k := range places {
		places[k] = k
	}
	down := s.down[v.Name()]
	if len(places) > most {
		slices.SortStableFunc(places, func(a, b int) int {
			return cmp.Compare(lostFirst(&v.Servers[a], down), lostFirst(&v.Servers[b], down))
		})
		places = places[:most]
	}
	for _, k := range places {
		x := &v.Servers[k]
		rate := s.serverRate(i, k)
		out.Servers = append(out.Servers, server{
			Address: netip.AddrPortFrom(x.Address, x.Port).String(), Mode: x.Mode, Weight: x.Weight, State: stateOf(x, down),
			Now: ratesOf(&rate), Active: x.Active, Inactive: x.Inactive,
		})
	}
	return out
}

func lostFirst(v *api.Server, down map[netip.AddrPort]bool) int {
	if stateOf(v, down) == unreachable {
		return 0
	}
	return 1
}

// serverRate is what service i's server k carries a second.
func (s *snapshot) serverRate(i, k int) api.Traffic {
	v := &s.services[i].Servers[k]
	old := s.earlier(i)
	if old == nil {
		return v.Rate
	}
	same := func(x *api.Server) bool { return x.Address == v.Address && x.Port == v.Port }
	if k < len(old.Servers) && same(&old.Servers[k]) { // as it is unless servers were removed
		return per(&v.Total, &old.Servers[k].Total, s.at.Sub(s.before.at))
	}
	if n := slices.IndexFunc(old.Servers, func(x api.Server) bool { return same(&x) }); n >= 0 {
		return per(&v.Total, &old.Servers[n].Total, s.at.Sub(s.before.at))
	}
	return v.Rate
}

// notes tell what else is special about a service.
func notes(v *api.Service) (list []string) {
	if v.PersistSeconds > 0 {
		list = append(list, "persistent "+(time.Duration(v.PersistSeconds)*time.Second).String())
	}
	if v.OnePacket {
		list = append(list, "one packet")
	}
	return list
}
