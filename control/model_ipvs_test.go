package control_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"weir/lb"
)

// ipvs is a model of IPVS, slow and obvious: maps and slices, and for TCP's states what a real one was recorded to do
// (conntrack/testdata). It knows servers by NAT and DR, new connections, port reuse, thresholds, timeouts and edits.
type ipvs struct {
	services []*ipvsService
	conns    map[ipvsKey]*ipvsConn
	now      int
	reuse    int           // conn_reuse_mode
	nodest   lb.NodestMode // expire_nodest_conn
	recorded map[lb.Mode]transitions
	timeouts map[string]int // of states that --set has changed
}

type ipvsService struct {
	proto     lb.Proto
	scheduler string
	list      []*ipvsServer // newest first
	known     []*ipvsServer // all there ever were
	last      *ipvsServer   // rr: the one chosen last; nil: the list's head
}

type ipvsServer struct {
	addr             lb.Addr
	mode             lb.Mode
	weight           int
	upper, lower     int
	active, inactive int
	overloaded       bool
	listed           bool
}

// ipvsKey is a connection's: which service, and the client's port.
type ipvsKey struct {
	service int
	port    uint16
}

type ipvsConn struct {
	server *ipvsServer
	state  string
	ends   int // the second at which it is gone
}

// transitions tell the next state and its timeout, by the state and a packet in the recording's words ("c:FA").
type transitions map[[2]string]ipvsState

type ipvsState struct {
	name    string
	timeout int
}

// recordedTransitions are those of the recorded trees of packet sequences: nat and dr.
func recordedTransitions(t *testing.T) map[lb.Mode]transitions {
	var file struct {
		Trees []struct {
			Name string
			Rows []struct {
				Sequence []string
				After    [][]any
			}
		}
	}
	readRecording(t, "../conntrack/testdata/tcp-states.json.gz", &file)
	all := map[lb.Mode]transitions{lb.NAT: {}, lb.DR: {}}
	for _, tree := range file.Trees {
		into := all[map[string]lb.Mode{"nat": lb.NAT, "dr": lb.DR}[tree.Name]]
		for _, row := range tree.Rows {
			state := "NONE"
			for i := 0; into != nil && i < len(row.Sequence); i++ {
				next := ipvsState{row.After[i][0].(string), int(row.After[i][1].(float64))}
				into[[2]string{state, row.Sequence[i]}] = next
				state = next.name
			}
		}
	}
	return all
}

func isActive(state string) bool {
	return state == "SYN_RECV" || state == "ESTABLISHED" || state == "SYN_SENT"
}

// client is a client's packet. It returns the server it goes to, nil if it goes to none.
func (m *ipvs) client(key ipvsKey, flags string) *ipvsServer {
	s, c := m.services[key.service], m.conns[key]
	syn := s.proto == lb.TCP && strings.Contains(flags, "S")
	var old *ipvsConn
	switch {
	case c == nil:
	case syn && m.reschedules(c):
		old = c
	case c.server.listed:
		m.packet(s, c, "c:"+flags)
		return c.server
	case m.nodest == lb.NodestAll || m.nodest == lb.NodestUDP && s.proto == lb.UDP:
		old = c
	default:
		return nil
	}
	var server *ipvsServer
	if s.proto == lb.UDP || syn {
		server = s.schedule()
	}
	if old != nil {
		m.end(key)
	}
	if server == nil {
		return nil
	}
	c = &ipvsConn{server: server, state: "NONE"}
	m.conns[key] = c
	server.inactive++
	if server.upper != 0 && server.active+server.inactive >= server.upper {
		server.overloaded = true
	}
	m.packet(s, c, "c:"+flags)
	return server
}

// reschedules is what a SYN on an old connection does (SEMANTICS of the recordings, "Same ports again").
func (m *ipvs) reschedules(c *ipvsConn) bool {
	if m.nodest == lb.NodestAll && c.server.weight == 0 {
		return true
	}
	switch c.state {
	case "TIME_WAIT", "CLOSE":
		return m.reuse != 0
	case "FIN_WAIT":
		return m.reuse == 2 && c.server.mode == lb.DR
	}
	return false
}

// server is a NAT server's answer; it reports whether it goes to the client as the service's.
func (m *ipvs) server(key ipvsKey, flags string) bool {
	c := m.conns[key]
	if c == nil || c.server.mode != lb.NAT {
		return false
	}
	m.packet(m.services[key.service], c, "s:"+flags)
	return true
}

// packet takes a connection to its next state and starts its time anew.
func (m *ipvs) packet(s *ipvsService, c *ipvsConn, packet string) {
	next := ipvsState{"UDP", 300}
	if s.proto == lb.TCP {
		var known bool
		if next, known = m.recorded[c.server.mode][[2]string{c.state, packet}]; !known {
			panic("no recording has " + packet + " in " + c.state)
		}
	}
	if timeout, changed := m.timeouts[next.name]; changed {
		next.timeout = timeout
	}
	switch was, is := isActive(c.state), isActive(next.name); {
	case is && !was:
		c.server.active++
		c.server.inactive--
	case was && !is:
		c.server.active--
		c.server.inactive++
	}
	c.state, c.ends = next.name, m.now+next.timeout
}

// end takes a connection out.
func (m *ipvs) end(key ipvsKey) {
	c := m.conns[key]
	delete(m.conns, key)
	s := c.server
	if isActive(c.state) {
		s.active--
	} else {
		s.inactive--
	}
	total := s.active + s.inactive
	switch {
	case s.lower != 0 && total < s.lower, s.lower == 0 && total*4 < s.upper*3, s.upper == 0:
		s.overloaded = false
	}
}

// sleep lets time pass.
func (m *ipvs) sleep(seconds int) {
	m.now += seconds
	for key, c := range maps.Clone(m.conns) {
		if c.ends <= m.now {
			m.end(key)
		}
	}
}

// schedule picks the server of a new connection.
func (s *ipvsService) schedule() *ipvsServer {
	if s.scheduler == "rr" {
		at := slices.Index(s.list, s.last) // -1 for the head
		for i := range s.list {
			if v := s.list[(at+1+i)%len(s.list)]; v.open() {
				s.last = v
				return v
			}
		}
		return nil
	}
	load := func(v *ipvsServer) int {
		if s.scheduler == "sed" {
			return v.active + 1
		}
		return v.active*256 + v.inactive
	}
	var least *ipvsServer
	for _, v := range s.list {
		if v.open() && (least == nil || load(v)*least.weight < load(least)*v.weight) {
			least = v
		}
	}
	return least
}

func (v *ipvsServer) open() bool { return v.weight > 0 && !v.overloaded }

// edit is ipvsadm -e.
func (v *ipvsServer) edit(weight, upper, lower int) {
	if upper == 0 || upper > v.upper {
		v.overloaded = false
	}
	v.weight, v.upper, v.lower = weight, upper, lower
}

// remove is ipvsadm -d.
func (m *ipvs) remove(service int, v *ipvsServer) {
	s := m.services[service]
	i := slices.Index(s.list, v)
	if s.last == v { // rr goes on from the one before
		s.last = nil
		if i > 0 {
			s.last = s.list[i-1]
		}
	}
	s.list = slices.Delete(s.list, i, i+1)
	v.listed = false
	for key, c := range maps.Clone(m.conns) {
		if c.server == v && (m.nodest == lb.NodestAll || m.nodest == lb.NodestUDP && s.proto == lb.UDP) {
			m.end(key)
		}
	}
}

// add is ipvsadm -a of a known server: it comes back with what it carries.
func (m *ipvs) add(service int, v *ipvsServer) {
	s := m.services[service]
	s.list = slices.Insert(s.list, 0, v)
	v.listed = true
}
