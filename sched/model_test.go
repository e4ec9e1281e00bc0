package sched

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"weir/lb"
)

// model is as much of IPVS around a scheduler as the recordings need, slow and obvious: services, their servers in the kernel's
// order, and connections of NAT with packets from the client only, without timers (no recorded scenario lasts that long).
type model struct {
	services []*modelService
	conns    map[lb.Flow]*modelConn
	serial   uint64
	ids      uint32
	// orders are the orders in which the kernel may list two services: by its hash, which differs from boot to boot, so it
	// is found out by leaving those out that a recorded state contradicts.
	orders [][]int
}

type modelService struct {
	key       recordedService
	scheduler Scheduler
	list      *List
	known     map[serverAddr]*modelServer // removed ones too: they keep their counts for when they come back
}

// modelServer is the kernel's ip_vs_dest.
type modelServer struct {
	id     lb.ServerID
	addr   serverAddr
	load   *lb.Load
	kept   int32
	listed bool
}

type modelConn struct {
	server *modelServer
	state  string
	active bool
}

func newModel(t *testing.T, sc *scenario) *model {
	m := &model{conns: map[lb.Flow]*modelConn{}, orders: [][]int{{0}}}
	if len(sc.Services) == 2 {
		m.orders = [][]int{{0, 1}, {1, 0}}
	}
	for _, rs := range sc.Services {
		s := &modelService{key: rs, list: &List{}, known: map[serverAddr]*modelServer{}}
		s.use(t, rs.Scheduler, rs.Flags)
		for _, c := range rs.Servers {
			m.add(s, serverAddr{lb.MustParseAddr(c.Addr), c.Port}, c.Weight, c.Upper, c.Lower)
		}
		m.services = append(m.services, s)
	}
	return m
}

// use gives the service a new scheduler (ipvsadm -A and -E).
func (s *modelService) use(t *testing.T, name, flags string) {
	scheduler, err := New(name, strings.FieldsFunc(flags, func(r rune) bool { return r == ',' }))
	if err != nil {
		t.Fatal(err)
	}
	s.scheduler = scheduler
	s.publish(s.list.Servers)
}

func (s *modelService) publish(servers []*Server) {
	s.list = &List{Servers: servers}
	Prepare(s.scheduler, s.list)
	s.scheduler.Update(s.list)
}

func (s *modelService) place(a serverAddr) int {
	return slices.IndexFunc(s.list.Servers, func(c *Server) bool { return c.Addr == a.addr && c.Port == a.port })
}

// add is ipvsadm -a: the server goes to the head, and one that was there before is the same again.
func (m *model) add(s *modelService, a serverAddr, weight int32, upper, lower uint32) {
	d := s.known[a]
	if d == nil {
		m.ids++
		d = &modelServer{id: lb.NewServerID(m.ids, 0), addr: a, load: new(lb.Load)}
		s.known[a] = d
	}
	d.listed = true
	m.serial++
	c := &Server{ID: d.id, Serial: m.serial, Addr: a.addr, Port: a.port, Weight: weight, Load: d.load}
	d.kept = weight
	d.setThresholds(upper, lower)
	s.publish(append([]*Server{c}, s.list.Servers...))
}

func (m *model) remove(s *modelService, a serverAddr) {
	s.known[a].listed = false
	i := s.place(a)
	s.publish(slices.Delete(slices.Clone(s.list.Servers), i, i+1))
}

// edit is ipvsadm -e.
func (m *model) edit(s *modelService, a serverAddr, weight int32, upper, lower uint32) {
	d := s.known[a]
	if weight != 0 {
		d.kept = weight
	}
	d.setThresholds(upper, lower)
	servers := slices.Clone(s.list.Servers)
	i := s.place(a)
	c := *servers[i]
	c.Weight, c.Kept = weight, d.kept
	servers[i] = &c
	s.publish(servers)
}

// setThresholds opens the server when its limit is lifted (kernel __ip_vs_update_dest).
func (d *modelServer) setThresholds(upper, lower uint32) {
	if upper == 0 || upper > d.load.Upper.Load() {
		d.load.Overloaded.Store(false)
	}
	d.load.Upper.Store(upper)
	d.load.Lower.Store(lower)
}

// packet handles a client's packet and returns where it goes: a server's address and port, or "none".
func (m *model) packet(f lb.Flow, mark uint32, tcpFlags string) string {
	conn := m.conns[f]
	if conn == nil && f.Proto == lb.TCP && !strings.Contains(tcpFlags, "S") {
		return "none" // not the start of a connection
	}
	if conn == nil {
		s := m.serviceFor(f, mark)
		c := s.scheduler.Pick(&Request{Flow: f})
		if c == nil {
			return "none"
		}
		conn = &modelConn{server: s.known[serverAddr{c.Addr, c.Port}], state: "NONE"}
		m.conns[f] = conn
		conn.server.load.Inactive.Add(1)
		conn.server.load.Opened()
	}
	if !conn.server.listed {
		return "none" // dropped, without a look at its flags
	}
	if f.Proto == lb.TCP {
		conn.become(nextState(conn.state, tcpFlags))
	}
	port := conn.server.addr.port
	if port == 0 {
		port = f.DstPort
	}
	return netip.AddrPortFrom(conn.server.addr.addr.Netip(), port).String()
}

func (m *model) serviceFor(f lb.Flow, mark uint32) *modelService {
	for _, s := range m.services {
		if s.key.FWMark != 0 && s.key.FWMark == mark {
			return s
		}
	}
	for _, s := range m.services {
		if s.key.FWMark == 0 && strings.EqualFold(s.key.Proto, f.Proto.String()) && lb.MustParseAddr(s.key.Addr) == f.Dst && s.key.Port == f.DstPort {
			return s
		}
	}
	panic("no service for " + f.String())
}

// become moves the connection between the server's active and inactive ones.
func (c *modelConn) become(state string) {
	active := state == "SYN_RECV" || state == "ESTABLISHED"
	if active && !c.active {
		c.server.load.Active.Add(1)
		c.server.load.Inactive.Add(-1)
	}
	if !active && c.active {
		c.server.load.Active.Add(-1)
		c.server.load.Inactive.Add(1)
	}
	c.state, c.active = state, active
}

// nextState is the part of the kernel's tcp_states for packets from the client that the recordings use.
func nextState(state, flags string) string {
	switch {
	case strings.Contains(flags, "R"):
		if state == "SYN_RECV" {
			return state
		}
		return "CLOSE"
	case strings.Contains(flags, "S"):
		if state == "ESTABLISHED" {
			return state
		}
		return "SYN_RECV"
	case strings.Contains(flags, "F"):
		switch state {
		case "ESTABLISHED":
			return "CLOSE_WAIT"
		case "SYN_RECV":
			return "TIME_WAIT"
		}
		return state
	default:
		if state == "SYN_RECV" {
			return "ESTABLISHED"
		}
		return state
	}
}

// checkState compares the servers, their order, weights and counts with a recorded state: a list of
// [server, weight, active, inactive], or a list of such lists with several services.
func (m *model) checkState(t *testing.T, what string, recorded json.RawMessage) {
	t.Helper()
	lists := make([][][]any, 1)
	into := any(&lists[0])
	if len(m.services) > 1 {
		into = &lists
	}
	if err := json.Unmarshal(recorded, into); err != nil {
		t.Fatal(err)
	}
	got := make([][][]any, len(m.services))
	for i, s := range m.services {
		got[i] = [][]any{}
		for _, c := range s.list.Servers {
			name := netip.AddrPortFrom(c.Addr.Netip(), c.Port).String()
			got[i] = append(got[i], []any{name, float64(c.Weight), float64(c.Load.Active.Load()), float64(c.Load.Inactive.Load())})
		}
	}
	m.orders = slices.DeleteFunc(m.orders, func(order []int) bool {
		return slices.ContainsFunc(order, func(i int) bool { return !reflect.DeepEqual(got[order[i]], lists[i]) })
	})
	if len(m.orders) == 0 {
		t.Fatalf("%s: the servers are %v, in IPVS %v", what, got, lists)
	}
}
