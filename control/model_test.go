package control_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"weir/conntrack"
	"weir/control"
	"weir/internal/testpkt"
	"weir/lb"
)

// TestAgainstAModelOfIPVS plays random events (SYN, data, FIN, RST of both sides, time that passes, edits) to a director and to a
// model of IPVS, and wants the same server for each packet and the same counts of each server after every event.
func TestAgainstAModelOfIPVS(t *testing.T) {
	settings := []struct {
		reuse  int
		nodest lb.NodestMode
	}{{1, lb.NodestUDP}, {1, lb.NodestNone}, {1, lb.NodestAll}, {2, lb.NodestNone}, {0, lb.NodestAll}}
	recorded := recordedTransitions(t)
	for seed, s := range settings {
		t.Run(fmt.Sprintf("conn_reuse_mode=%d expire_nodest_conn=%s", s.reuse, s.nodest), func(t *testing.T) {
			t.Parallel()
			m := &ipvs{conns: map[ipvsKey]*ipvsConn{}, now: 1, reuse: s.reuse, nodest: s.nodest, recorded: recorded,
				timeouts: map[string]int{"ESTABLISHED": 100, "FIN_WAIT": 45, "UDP": 30}}
			p := newMatch(t, m, rand.New(rand.NewPCG(uint64(seed), 63)))
			for i := range modelEvents / len(settings) {
				what := p.event()
				if i%1000 == 999 {
					p.sameTable(what)
				}
				if p.sameCounts(what); t.Failed() {
					t.Fatalf("that was event %d", i)
				}
			}
			for what, n := range p.seen {
				if n == 0 {
					t.Errorf("no event was %s", what)
				}
			}
		})
	}
}

// match is a director and a model that are told the same.
type match struct {
	*director
	model  *ipvs
	random *rand.Rand
	frames map[string][]byte // what was built once
	seen   map[string]int    // how often something came about that the events are meant to lead to
}

const (
	modelClients = 40
	modelServers = 4 // of each service
)

func newMatch(t *testing.T, m *ipvs, r *rand.Rand) *match {
	m.services = []*ipvsService{{proto: lb.TCP, scheduler: "wlc"}, {proto: lb.UDP, scheduler: "rr"}, {proto: lb.TCP, scheduler: "sed"}, {proto: lb.TCP, scheduler: "rr"}}
	options := control.Options{Sysctls: lb.DefaultSysctls()}
	options.Sysctls.ConnReuseMode, options.Sysctls.ExpireNodestConn = m.reuse, m.nodest
	p := &match{model: m, random: r, frames: map[string][]byte{},
		director: newDirectorWith(t, 1, conntrack.Options{Capacity: 1024}, options),
		seen:     map[string]int{"a new server for old ports": 0, "nobody to serve": 0, "an overload": 0, "an answer": 0, "a packet to a removed server": 0}}
	timeouts := p.conns.Timeouts()
	timeouts.Set(100, 45, 30)
	p.conns.SetTimeouts(timeouts)
	for i := range m.services {
		for n := range modelServers {
			v := &ipvsServer{addr: lb.AddrFrom4(10<<24 | 20<<16 | uint32(i)<<8 | uint32(10*i+n+1)), mode: []lb.Mode{lb.NAT, lb.DR}[n%2]}
			v.edit(1+n%3, 0, 0)
			m.services[i].known = append(m.services[i].known, v)
			m.add(i, v)
		}
	}
	p.configure()
	return p
}

// virtual is a service's address.
func virtual(service int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, 0, byte(service + 1)}), 80)
}

// configure tells the director what the model's services are.
func (p *match) configure() {
	var all []lb.Service
	for i, s := range p.model.services {
		config := lb.Service{Key: lb.ServiceKey{Addr: lb.AddrFrom(virtual(i).Addr()), Port: 80, Proto: s.proto}, Scheduler: s.scheduler}
		for _, v := range slices.Backward(s.list) {
			config.Servers = append(config.Servers, lb.Server{Addr: v.addr, Port: 80, Mode: v.mode, Weight: int32(v.weight),
				Upper: uint32(v.upper), Lower: uint32(v.lower)})
		}
		all = append(all, config)
	}
	if err := p.store.Apply(all); err != nil {
		p.t.Fatal(err)
	}
	p.settle()
}

func (p *match) settle() {
	for done := false; !done; {
		_, done = p.workers[0].Turn()
	}
}

// event does something to both and compares what comes of it at once. It returns what it was.
func (p *match) event() string {
	key := ipvsKey{p.random.IntN(len(p.model.services)), uint16(1024 + p.random.IntN(modelClients))}
	switch n := p.random.IntN(1000); {
	case n < 750:
		flags := []string{"S", "S", "A", "A", "FA", "R"}[p.random.IntN(6)]
		return p.fromClient(key, flags)
	case n < 960:
		return p.fromServer(key, []string{"SA", "A", "A", "FA", "R"}[p.random.IntN(5)])
	case n < 980:
		seconds := 1 + p.random.IntN(25)
		p.model.sleep(seconds)
		p.now += uint32(seconds)
		p.settle()
		if err := p.store.Reap(); err != nil {
			p.t.Fatal(err)
		}
		return fmt.Sprintf("%d seconds", seconds)
	default:
		return p.edit(key.service)
	}
}

func (p *match) fromClient(key ipvsKey, flags string) string {
	s, before := p.model.services[key.service], p.model.conns[key]
	if s.proto == lb.UDP {
		flags = ""
	}
	what := fmt.Sprintf("client %d to service %d, %q", key.port, key.service, flags)
	wanted := p.model.client(key, flags)
	src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, 5}), key.port)
	servers, clients := p.pass(0, what, func() testpkt.Packet { return segment(protoWord(s.proto), flags, src, virtual(key.service)) })
	switch {
	case wanted == nil && len(servers) != 0, wanted != nil && (len(servers) != 1 || len(clients) != 0):
		p.t.Errorf("%s: %d frames to servers and %d to clients, to go to %v", what, len(servers), len(clients), wanted)
		return what
	case wanted != nil && wanted.mode == lb.NAT:
		if to := lb.AddrFrom4(binary.BigEndian.Uint32(servers[0][30:])); to != wanted.addr {
			p.t.Errorf("%s goes to %s, in the model to %s", what, to, wanted.addr)
		}
	case wanted != nil:
		if to := [6]byte(servers[0][:6]); to != macOf(wanted.addr) {
			p.t.Errorf("%s goes to %x, in the model to %s", what, to, wanted.addr)
		}
	}
	after := p.model.conns[key]
	switch {
	case before != nil && after != nil && before != after && before.server != after.server:
		p.seen["a new server for old ports"]++
	case wanted == nil && len(clients) == 1:
		p.seen["nobody to serve"]++
	case wanted == nil && before != nil && before == after:
		p.seen["a packet to a removed server"]++
	}
	if p.model.nodest == lb.NodestAll {
		p.seen["a packet to a removed server"]++ // there are none
	}
	if after != nil && after.server.overloaded {
		p.seen["an overload"]++
	}
	return what
}

// fromServer is an answer from one of the service's servers; most often the one that has the connection.
func (p *match) fromServer(key ipvsKey, flags string) string {
	s, c := p.model.services[key.service], p.model.conns[key]
	if c == nil || c.server.mode != lb.NAT {
		return "nothing"
	}
	if s.proto == lb.UDP {
		flags = ""
	}
	what := fmt.Sprintf("server %s to client %d, %q", c.server.addr, key.port, flags)
	p.model.server(key, flags)
	p.seen["an answer"]++
	dst := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, 5}), key.port)
	servers, clients := p.pass(1, what, func() testpkt.Packet {
		return segment(protoWord(s.proto), flags, netip.AddrPortFrom(c.server.addr.Netip(), 80), dst)
	})
	if len(servers) != 0 || len(clients) != 1 {
		p.t.Errorf("%s: %d frames to servers and %d to clients", what, len(servers), len(clients))
	} else if from := lb.AddrFrom4(binary.BigEndian.Uint32(clients[0][26:])); from.Netip() != virtual(key.service).Addr() {
		p.t.Errorf("%s comes from %s", what, from)
	}
	return what
}

func protoWord(p lb.Proto) string { return strings.ToLower(p.String()) }

// pass lets a frame arrive and returns the frames that left.
func (p *match) pass(iface int, what string, build func() testpkt.Packet) (servers, clients [][]byte) {
	frame := p.frames[what]
	if frame == nil {
		frame = build().Bytes()
		p.frames[what] = frame
	}
	*p.host = hostLog{}
	if !p.queues[0][iface].Inject(frame) {
		p.t.Fatal("queue full")
	}
	p.workers[0].Turn()
	return p.queues[0][1].Sent(), p.queues[0][0].Sent()
}

// edit changes, removes or brings back a server.
func (p *match) edit(service int) string {
	s := p.model.services[service]
	v := s.known[p.random.IntN(len(s.known))]
	what := ""
	switch n := p.random.IntN(4); {
	case !v.listed:
		what = fmt.Sprintf("%s comes back", v.addr)
		v.edit(1+p.random.IntN(5), 0, 0)
		p.model.add(service, v)
	case n == 0:
		what = fmt.Sprintf("%s is removed", v.addr)
		p.model.remove(service, v)
	case n == 1:
		upper := p.random.IntN(12)
		lower := p.random.IntN(upper + 1)
		what = fmt.Sprintf("%s gets thresholds %d and %d", v.addr, upper, lower)
		v.edit(v.weight, upper, lower)
	default:
		weight := p.random.IntN(6)
		what = fmt.Sprintf("%s gets weight %d", v.addr, weight)
		v.edit(weight, v.upper, v.lower)
	}
	p.configure()
	return what
}

// sameCounts compares the listed servers, their order and what each carries.
func (p *match) sameCounts(what string) {
	p.t.Helper()
	for _, s := range p.store.Listing() {
		list := p.model.services[s.Service.Key.Addr.V4()&0xff-1].list
		if len(list) != len(s.Servers) {
			p.t.Errorf("after %s: %d servers, in the model %d", what, len(s.Servers), len(list))
			return
		}
		for i, m := range list {
			if v := &s.Servers[i]; v.Server.Addr != m.addr || v.Active != m.active || v.Inactive != m.inactive || v.Overloaded != m.overloaded {
				p.t.Errorf("after %s: %s has %d active and %d inactive (full %v), in the model %+v", what, v.Server.Addr, v.Active, v.Inactive, v.Overloaded, *m)
			}
		}
	}
}

// sameTable compares every connection.
func (p *match) sameTable(what string) {
	p.t.Helper()
	left := len(p.model.conns)
	p.conns.Range(0, 1<<20, func(_ conntrack.Ref, c *conntrack.Conn) bool {
		key := ipvsKey{int(c.Virtual.V4()&0xff) - 1, c.ClientPort}
		m := p.model.conns[key]
		left--
		if m == nil || m.state != c.State.String() || m.ends != int(c.LastSeen+c.Timeout) || m.server.addr != c.Server {
			p.t.Errorf("after %s: %v is %s at %s until %d, in the model %+v", what, key, c.State, c.Server, c.LastSeen+c.Timeout, m)
		}
		return true
	})
	if left != 0 {
		p.t.Errorf("after %s: %d connections more in the model", what, left)
	}
}
