package control_test

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"weir/conntrack"
	"weir/control"
	"weir/dataplane"
	"weir/dataplane/forward"
	"weir/dataplane/memqueue"
	"weir/dataplane/reason"
	"weir/internal/testpkt"
	"weir/ipvsadm"
	"weir/lb"
)

// director is a whole director without a kernel: rules, store, table and workers over queues in memory. Interface 0 is the
// clients' side, interface 1 the servers'; every server is reached through the latter.
type director struct {
	t       *testing.T
	store   *control.Store
	shared  *dataplane.Shared
	conns   *conntrack.Table
	steer   *steerLog
	paths   *fakePaths
	workers []*dataplane.Worker
	queues  [][]*memqueue.Queue // by worker, by interface
	host    *hostLog
	now     uint32
	during  func() // called once, in the next turn
}

var (
	clientSide = dataplane.Iface{Name: "client0", MAC: [6]byte(testpkt.DirectorMAC), MTU: 1500, Addr: lb.MustParseAddr("198.51.100.1"), Addr6: lb.MustParseAddr("2001:db8:1::1")}
	serverSide = dataplane.Iface{Name: "server0", MAC: [6]byte(testpkt.MAC(0x21)), MTU: 1500, Addr: lb.MustParseAddr("10.19.0.1"), Addr6: lb.MustParseAddr("2001:db8:19::1")}
)

func newDirector(t *testing.T, workers int, rules ...string) *director {
	t.Helper()
	return newDirectorWith(t, workers, conntrack.Options{Capacity: 4096}, control.Options{Locals: []lb.Addr{lb.MustParseAddr("10.0.0.100")}}, rules...)
}

func newDirectorWith(t *testing.T, workers int, o conntrack.Options, c control.Options, rules ...string) *director {
	t.Helper()
	if c.Sysctls == (lb.Sysctls{}) {
		c.Sysctls = lb.DefaultSysctls()
	}
	conns, err := conntrack.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conns.Close)
	if err := conns.SetLocals(c.Locals); err != nil {
		t.Fatal(err)
	}
	d := &director{t: t, conns: conns, steer: &steerLog{}, paths: &fakePaths{mac: map[lb.Addr][6]byte{}}, host: &hostLog{}, now: 1}
	d.shared = dataplane.NewShared(conns, func() uint32 {
		if f := d.during; f != nil {
			d.during = nil
			f()
		}
		return d.now
	})
	d.store = control.NewStore(d.shared, conns, d.steer, d.paths, c)
	d.store.SetIfaces([]dataplane.Iface{clientSide, serverSide})
	for w := range workers {
		queues := []*memqueue.Queue{memqueue.New(512), memqueue.New(512)}
		d.queues = append(d.queues, queues)
		d.workers = append(d.workers, dataplane.NewWorker(d.shared, w, workers,
			[]dataplane.IfaceQueue{{Iface: 0, Queue: queues[0]}, {Iface: 1, Queue: queues[1]}}, d.host))
	}
	d.apply(rules...)
	return d
}

func services(t testing.TB, rules ...string) []lb.Service {
	t.Helper()
	set := new(ipvsadm.Rules)
	for _, line := range rules {
		c, err := ipvsadm.ParseLine(line)
		if err == nil {
			err = set.Apply(c)
		}
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	return set.Services()
}

func (d *director) apply(rules ...string) {
	d.t.Helper()
	if err := d.store.Apply(services(d.t, rules...)); err != nil {
		d.t.Fatal(err)
	}
}

// sent is what left a director, by interface.
type sent struct{ toClients, toServers []*testpkt.View }

// send lets a packet arrive at a worker's queue of an interface and returns what all of it led to.
func (d *director) send(worker, iface int, p testpkt.Packet) sent {
	d.t.Helper()
	return d.sendFrame(worker, iface, p.Bytes())
}

// sendFrame is send for a frame of any bytes.
func (d *director) sendFrame(worker, iface int, frame []byte) sent {
	d.t.Helper()
	if !d.queues[worker][iface].Inject(frame) {
		d.t.Fatal("queue full")
	}
	d.workers[worker].Turn()
	var out sent
	for i, q := range d.queues[worker] {
		for _, frame := range q.Sent() {
			v := testpkt.Decode(d.t, frame).MustHold(d.t)
			if i == 0 {
				out.toClients = append(out.toClients, v)
			} else {
				out.toServers = append(out.toServers, v)
			}
		}
		if n := q.Outstanding(); n != 0 {
			d.t.Fatalf("%d frames of interface %d are lost", n, i)
		}
	}
	return out
}

// client sends a client's packet through worker 0 and returns the one packet that must reach a server.
func (d *director) client(p testpkt.Packet) *testpkt.View {
	d.t.Helper()
	out := d.send(0, 0, p)
	if len(out.toServers) != 1 || len(out.toClients) != 0 {
		d.t.Fatalf("%d packets to servers and %d to clients, want one to a server", len(out.toServers), len(out.toClients))
	}
	return out.toServers[0]
}

// server sends a server's packet through a worker and returns the one packet that must reach a client.
func (d *director) server(worker int, p testpkt.Packet) *testpkt.View {
	d.t.Helper()
	out := d.send(worker, 1, p)
	if len(out.toServers) != 0 || len(out.toClients) != 1 {
		d.t.Fatalf("%d packets to servers and %d to clients, want one to a client", len(out.toServers), len(out.toClients))
	}
	return out.toClients[0]
}

// stopped sends a client's packet that must go nowhere, for this reason.
func (d *director) stopped(p testpkt.Packet, why reason.Reason) sent {
	d.t.Helper()
	before := d.counters().Reasons[why]
	out := d.send(0, 0, p)
	if len(out.toServers) != 0 {
		d.t.Fatalf("%d packets to servers, want none", len(out.toServers))
	}
	if got := d.counters().Reasons[why] - before; got != 1 {
		d.t.Fatalf("%d packets stopped for %s, want one; all: %v", got, why, stops(d))
	}
	return out
}

func stops(d *director) []string {
	c := d.counters()
	var s []string
	for _, stop := range c.Stops() {
		s = append(s, fmt.Sprintf("%s %d", stop.Reason, stop.Count))
	}
	return s
}

func (d *director) counters() dataplane.Counters {
	var sum dataplane.Counters
	for _, w := range d.workers {
		sum.Add(w.Counters())
	}
	return sum
}

// inTurn calls f while worker 0 is in a turn.
func (d *director) inTurn(f func()) {
	d.during = f
	d.workers[0].Turn()
}

// sleep lets the workers' clock go on and housekeeping finish.
func (d *director) sleep(seconds uint32) {
	d.t.Helper()
	for range seconds {
		d.now++
		for _, w := range d.workers {
			for done := false; !done; {
				_, done = w.Turn()
			}
		}
	}
	if err := d.store.Reap(); err != nil {
		d.t.Fatal(err)
	}
}

type steerLog struct{ services, servers, tunnels []string }

func key(e lb.Endpoint) string {
	return fmt.Sprintf("%s %s", e.Proto, netip.AddrPortFrom(e.Addr.Netip(), e.Port))
}

func (s *steerLog) AddServices(list []lb.Endpoint) error    { add(&s.services, list); return nil }
func (s *steerLog) RemoveServices(list []lb.Endpoint) error { remove(&s.services, list); return nil }
func (s *steerLog) AddServers(list []lb.Endpoint) error     { add(&s.servers, list); return nil }
func (s *steerLog) RemoveServers(list []lb.Endpoint) error  { remove(&s.servers, list); return nil }

func add(to *[]string, list []lb.Endpoint) {
	for _, e := range list {
		*to = append(*to, key(e))
	}
}

func remove(from *[]string, list []lb.Endpoint) {
	for _, e := range list {
		*from = slices.DeleteFunc(*from, func(k string) bool { return k == key(e) })
	}
}
func (s *steerLog) AddTunnel(addr lb.Addr) error {
	s.tunnels = append(s.tunnels, addr.String())
	return nil
}
func (s *steerLog) RemoveTunnel(addr lb.Addr) error {
	s.tunnels = slices.DeleteFunc(s.tunnels, func(k string) bool { return k == addr.String() })
	return nil
}

// fakePaths reaches every address by a MAC address made of its last byte, unless mac says otherwise (zero: not at all).
type fakePaths struct {
	mac   map[lb.Addr][6]byte
	vlans lb.VLANs // of every path
	mtu   int      // of every path; 1,500 when 0
	local lb.Addr

	mu    sync.Mutex // watch's
	watch map[lb.Addr]int
}

func (f *fakePaths) Watch(addr lb.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watch == nil {
		f.watch = map[lb.Addr]int{}
	}
	f.watch[addr]++
}
func (f *fakePaths) Unwatch(addr lb.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watch[addr]--; f.watch[addr] == 0 {
		delete(f.watch, addr)
	}
}
func (f *fakePaths) Hold(addrs []lb.Addr) func() {
	for _, a := range addrs {
		f.Watch(a)
	}
	return func() {
		for _, a := range addrs {
			f.Unwatch(a)
		}
	}
}
func (f *fakePaths) Check(addr lb.Addr) error {
	if addr == lb.MustParseAddr("203.0.113.66") {
		return fmt.Errorf("%s is reached through eth7, which weir was not given: add --interface eth7", addr)
	}
	return nil
}
func (f *fakePaths) Path(addr lb.Addr) (*forward.Path, bool) {
	if addr == f.local {
		return nil, true
	}
	mac, said := f.mac[addr]
	if !said {
		mac = macOf(addr)
	}
	if mac == [6]byte{} {
		return nil, false
	}
	source := serverSide.Addr
	if !addr.Is4() {
		source = serverSide.Addr6
	}
	return &forward.Path{Iface: 1, DstMAC: mac, SrcMAC: serverSide.MAC, VLANs: f.vlans, Source: source, MTU: cmp.Or(f.mtu, 1500)}, false
}

func macOf(addr lb.Addr) [6]byte { return [6]byte(testpkt.MAC(uint16(0x1000 | addr.Lo&0xff))) }

type hostLog struct {
	frames [][]byte
	ifaces []int
	refuse bool
}

func (h *hostLog) Send(iface int, frame []byte) bool {
	if h.refuse {
		return false
	}
	h.frames, h.ifaces = append(h.frames, slices.Clone(frame)), append(h.ifaces, iface)
	return true
}

var (
	cip = netip.MustParseAddrPort("198.51.100.7:40000")
	vip = netip.MustParseAddrPort("192.0.2.10:80")
)

func from(port uint16) netip.AddrPort { return netip.AddrPortFrom(cip.Addr(), port) }

func web(mode string, servers ...string) []string {
	rules := []string{"-A -t 192.0.2.10:80 -s rr", "-A -u 192.0.2.10:80 -s rr"}
	for _, s := range servers {
		for _, proto := range []string{"-t", "-u"} {
			rules = append(rules, fmt.Sprintf("-a %s 192.0.2.10:80 -r %s %s", proto, s, mode))
		}
	}
	return rules
}

func TestAConnectionStaysWithItsServerInEveryMode(t *testing.T) {
	for _, mode := range []string{"-g", "-m", "-F", "-i"} {
		t.Run(strings.TrimPrefix(mode, "-"), func(t *testing.T) {
			d := newDirector(t, 1, web(mode, "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80")...)
			first := map[uint16]string{}
			shares := map[string]int{}
			for port := uint16(1000); port < 1030; port++ {
				server := d.client(testpkt.TCP(from(port), vip, testpkt.SYN)).DstMAC.String()
				first[port] = server
				shares[server]++
			}
			for _, n := range shares {
				if n != 10 {
					t.Errorf("30 connections over three servers: %v", shares)
				}
			}
			for range 3 {
				for port, server := range first {
					if got := d.client(testpkt.TCP(from(port), vip, testpkt.ACK).Text("more")).DstMAC.String(); got != server {
						t.Fatalf("client port %d went to %s and then to %s", port, server, got)
					}
				}
			}
		})
	}
}

func TestAnswersComeBackFromTheService(t *testing.T) {
	for _, mode := range []string{"-m", "-F"} {
		for _, proto := range []string{"TCP", "UDP"} {
			t.Run(mode+proto, func(t *testing.T) {
				d := newDirector(t, 2, web(mode, "10.0.0.2:8080")...)
				build := func(src, dst netip.AddrPort, flags testpkt.Flags) testpkt.Packet {
					if proto == "TCP" {
						return testpkt.TCP(src, dst, flags)
					}
					return testpkt.UDP(src, dst).Text("x")
				}
				router := testpkt.MAC(0x99)
				asked := d.client(build(cip, vip, testpkt.SYN).From(router))
				if asked.Dst != netip.MustParseAddrPort("10.0.0.2:8080") || (mode == "-m") != (asked.Src == cip) {
					t.Fatalf("%s -> %s", asked.Src, asked.Dst)
				}
				// The answer comes by another queue than the request did.
				answer := d.server(1, build(asked.Dst, asked.Src, testpkt.SYN|testpkt.ACK))
				if answer.Src != vip || answer.Dst != cip || answer.DstMAC.String() != router.String() {
					t.Errorf("%s -> %s to %s, want %s -> %s to %s", answer.Src, answer.Dst, answer.DstMAC, vip, cip, router)
				}
				// The client's packets come by another router now: so do its answers go.
				other := testpkt.MAC(0x98)
				d.client(build(cip, vip, testpkt.ACK).From(other))
				if answer = d.server(1, build(asked.Dst, asked.Src, testpkt.ACK)); answer.DstMAC.String() != other.String() {
					t.Errorf("answer to %s, want %s", answer.DstMAC, other)
				}
			})
		}
	}
}

func TestWhatIsNotWeirsGoesToTheKernelAsItCame(t *testing.T) {
	d := newDirector(t, 1, web("-m", "10.0.0.2:80")...)
	for name, c := range map[string]struct {
		iface int
		in    testpkt.Packet
		why   reason.Reason
	}{
		"another port":                   {0, testpkt.TCP(cip, netip.MustParseAddrPort("192.0.2.10:81"), testpkt.SYN), reason.NoService},
		"an ACK without a connection":    {0, testpkt.TCP(cip, vip, testpkt.ACK), reason.NoConnection},
		"a FIN without a connection":     {0, testpkt.TCP(cip, vip, testpkt.FIN, testpkt.ACK), reason.NoConnection},
		"a RST without a connection":     {0, testpkt.TCP(cip, vip, testpkt.RST), reason.NoConnection},
		"ping":                           {0, testpkt.Echo(cip.Addr(), vip.Addr()), reason.NotL4},
		"a fragment of a ping":           {0, testpkt.Echo(cip.Addr(), vip.Addr()).Fragment(0, true), reason.Fragment},
		"a fragment to another port":     {0, testpkt.UDP(cip, netip.MustParseAddrPort("192.0.2.10:81")).Fragment(0, true), reason.NoService},
		"ARP":                            {0, testpkt.ARP(cip.Addr(), vip.Addr()), reason.NotIP},
		"a NAT server's own traffic":     {1, testpkt.TCP(netip.MustParseAddrPort("10.0.0.2:80"), netip.MustParseAddrPort("203.0.113.5:443"), testpkt.SYN), reason.NoService},
		"an answer without a connection": {1, testpkt.TCP(netip.MustParseAddrPort("10.0.0.2:80"), cip, testpkt.ACK), reason.NoService},
	} {
		*d.host = hostLog{}
		before := d.counters()
		out := d.send(0, c.iface, c.in)
		after := d.counters()
		if len(out.toClients)+len(out.toServers) != 0 || after.Reasons[c.why] != before.Reasons[c.why]+1 || after.ToHost != before.ToHost+1 {
			t.Errorf("%s: sent %v, stops %v", name, out, stops(d))
			continue
		}
		if len(d.host.frames) != 1 || string(d.host.frames[0]) != string(c.in.Bytes()) || d.host.ifaces[0] != c.iface {
			t.Errorf("%s: the host got %d frames, of interfaces %v, or another one", name, len(d.host.frames), d.host.ifaces)
		}
	}
	d.host.refuse = true
	d.stopped(testpkt.TCP(cip, vip, testpkt.ACK), reason.HostRefused)
}

func TestWhyAPacketStops(t *testing.T) {
	t.Run("no server", func(t *testing.T) {
		d := newDirector(t, 1, web("-m")...)
		out := d.stopped(testpkt.TCP(cip, vip, testpkt.SYN), reason.NoServer)
		if len(out.toClients) != 1 || out.toClients[0].ICMPType != 3 || out.toClients[0].ICMPCode != 3 || out.toClients[0].Src.Addr() != vip.Addr() {
			t.Errorf("answered %+v, want port unreachable from the VIP", out.toClients)
		}
	})
	t.Run("TTL 1", func(t *testing.T) {
		d := newDirector(t, 1, web("-g", "10.0.0.2:80")...)
		out := d.stopped(testpkt.UDP(cip, vip).TTL(1), reason.TTLExceeded)
		if len(out.toClients) != 1 || out.toClients[0].ICMPType != 11 || out.toClients[0].Src.Addr() != vip.Addr() || out.toClients[0].Dst.Addr() != cip.Addr() {
			t.Errorf("answered %+v, want time exceeded from the VIP", out.toClients)
		}
		if n := d.counters().Connections; n != 1 {
			t.Errorf("%d connections, want the one that IPVS makes too", n)
		}
	})
	t.Run("TTL 1 of an answer", func(t *testing.T) {
		d := newDirector(t, 1, web("-m", "10.0.0.2:80")...)
		d.client(testpkt.UDP(cip, vip))
		out := d.send(0, 1, testpkt.UDP(netip.MustParseAddrPort("10.0.0.2:80"), cip).TTL(1))
		if len(out.toServers) != 1 || out.toServers[0].ICMPType != 11 || out.toServers[0].Src.Addr() != serverSide.Addr.Netip() {
			t.Errorf("answered %+v, want time exceeded from the interface's address", out.toServers)
		}
	})
	t.Run("too big for the tunnel", func(t *testing.T) {
		d := newDirector(t, 1, web("-i", "10.0.0.2:80")...)
		out := d.stopped(testpkt.UDP(cip, vip).DF().Size(14+1481), reason.TooBig)
		if len(out.toClients) != 1 || out.toClients[0].ICMPType != 3 || out.toClients[0].ICMPCode != 4 || out.toClients[0].ICMPRest != 1480 {
			t.Errorf("answered %+v, want fragmentation needed, MTU 1480", out.toClients)
		}
		d.client(testpkt.UDP(cip, vip).DF().Size(14 + 1480))
	})
	t.Run("unreachable server, until its neighbour answers", func(t *testing.T) {
		d := newDirector(t, 1, web("-g", "10.0.0.2:80")...)
		rip := lb.MustParseAddr("10.0.0.2")
		d.paths.mac[rip] = [6]byte{}
		d.store.PathChanged(rip)
		d.stopped(testpkt.UDP(cip, vip), reason.ServerUnreachable)
		d.paths.mac[rip] = [6]byte(testpkt.MAC(0x777))
		d.store.PathChanged(rip)
		if v := d.client(testpkt.UDP(cip, vip)); v.DstMAC.String() != testpkt.MAC(0x777).String() {
			t.Errorf("to %s, want the new address %s", v.DstMAC, testpkt.MAC(0x777))
		}
	})
	t.Run("a router of many servers has another address", func(t *testing.T) {
		const servers = 2500
		rules := []string{"-A -u 192.0.2.10:53"}
		var addrs []lb.Addr
		for i := range servers {
			addrs = append(addrs, lb.AddrFrom4(10<<24|uint32(1+i)))
			rules = append(rules, fmt.Sprintf("-a -u 192.0.2.10:53 -r %s:53 -g", addrs[i]))
		}
		d := newDirector(t, 1, rules...)
		for _, a := range addrs {
			d.paths.mac[a] = [6]byte(testpkt.MAC(0x777))
		}
		if err := d.store.PathChanged(addrs...); err != nil {
			t.Fatal(err)
		}
		for slot := range uint32(servers) {
			if s := d.shared.Table().Server(lb.NewServerID(1+slot, 0)); s == nil || s.Path.DstMAC != [6]byte(testpkt.MAC(0x777)) {
				t.Fatalf("server %d of %d: %+v", slot, servers, s)
			}
		}
	})
	t.Run("local server", func(t *testing.T) {
		d := newDirector(t, 1, web("-m", "10.0.0.2:80")...)
		d.paths.local = lb.MustParseAddr("10.0.0.2")
		d.store.PathChanged(d.paths.local)
		d.stopped(testpkt.TCP(cip, vip, testpkt.SYN), reason.LocalServer)
		if len(d.host.frames) != 1 {
			t.Errorf("the host got %d frames", len(d.host.frames))
		}
		// The address moves to another host: what was the kernel's stays the kernel's, new connections go out.
		moved := d.paths.local
		d.paths.local = lb.Addr{}
		d.store.PathChanged(moved)
		d.stopped(testpkt.TCP(cip, vip, testpkt.ACK), reason.LocalServer)
		d.client(testpkt.TCP(from(1), vip, testpkt.SYN))
	})
	t.Run("table full of established connections", func(t *testing.T) {
		d := newDirectorWith(t, 1, conntrack.Options{Capacity: 64}, control.Options{}, web("-g", "10.0.0.2:80")...)
		for port := uint16(1); port <= 64; port++ {
			d.client(testpkt.TCP(from(port), vip, testpkt.SYN))
			d.client(testpkt.TCP(from(port), vip, testpkt.ACK))
		}
		d.stopped(testpkt.TCP(from(65), vip, testpkt.SYN), reason.TableFull)
		for port := uint16(1); port <= 64; port++ {
			d.client(testpkt.TCP(from(port), vip, testpkt.ACK))
		}
	})
	t.Run("local ports exhausted", func(t *testing.T) {
		d := newDirectorWith(t, 1, conntrack.Options{Capacity: 4096, FirstPort: 2000, LastPort: 2009},
			control.Options{Locals: []lb.Addr{lb.MustParseAddr("10.0.0.100"), lb.MustParseAddr("10.0.0.101")}}, web("-F", "10.0.0.2:80")...)
		seen := map[netip.AddrPort]bool{}
		for port := uint16(1); port <= 20; port++ {
			seen[d.client(testpkt.UDP(from(port), vip)).Src] = true
		}
		if len(seen) != 20 {
			t.Errorf("20 connections left from %d local addresses and ports", len(seen))
		}
		d.stopped(testpkt.UDP(from(21), vip), reason.PortsExhausted)
		d.sleep(301)
		d.client(testpkt.UDP(from(21), vip))
	})
}

func TestAServerComesAndGoes(t *testing.T) {
	d := newDirector(t, 1, web("-m", "10.0.0.2:80", "10.0.0.3:80")...)
	on := map[string]uint16{} // server -> a client port
	for port := uint16(1); port <= 2; port++ {
		on[d.client(testpkt.TCP(from(port), vip, testpkt.SYN)).Dst.Addr().String()] = port
	}
	if len(on) != 2 {
		t.Fatalf("two connections on %v", on)
	}
	d.apply(web("-m", "10.0.0.2:80")...)
	// IPVS with expire_nodest_conn=0: what a client sends to a removed server is dropped, what the server still says passes.
	d.stopped(testpkt.TCP(from(on["10.0.0.3"]), vip, testpkt.ACK), reason.ServerRemoved)
	d.server(0, testpkt.TCP(netip.MustParseAddrPort("10.0.0.3:80"), from(on["10.0.0.3"]), testpkt.ACK))
	d.client(testpkt.TCP(from(on["10.0.0.2"]), vip, testpkt.ACK))
	for port := uint16(100); port < 110; port++ {
		if v := d.client(testpkt.TCP(from(port), vip, testpkt.SYN)); v.Dst.Addr().String() != "10.0.0.2" {
			t.Fatalf("a new connection went to %s", v.Dst)
		}
	}
	// The one that comes back finds its connections.
	d.apply(web("-m", "10.0.0.2:80", "10.0.0.3:80")...)
	if v := d.client(testpkt.TCP(from(on["10.0.0.3"]), vip, testpkt.ACK)); v.Dst.Addr().String() != "10.0.0.3" {
		t.Errorf("the old connection went to %s", v.Dst)
	}
}

func TestKeysGoWhenTheLastConnectionHasEnded(t *testing.T) {
	d := newDirectorWith(t, 1, conntrack.Options{Capacity: 4096}, control.Options{Sysctls: lb.Sysctls{ExpireNodestConn: lb.NodestNone}},
		"-A -u 192.0.2.10:80 -s rr", "-a -u 192.0.2.10:80 -r 10.0.0.2:80 -m", "-A -u 192.0.2.10:53 -s rr")
	d.client(testpkt.UDP(cip, vip))
	d.apply("-A -u 192.0.2.10:53 -s rr")
	d.sleep(1)
	if len(d.steer.services) != 2 || len(d.steer.servers) != 1 || len(d.paths.watch) != 1 {
		t.Errorf("while a connection lives: services %v, servers %v, watched %v", d.steer.services, d.steer.servers, d.paths.watch)
	}
	d.sleep(301)
	if len(d.steer.services) != 1 || len(d.steer.servers) != 0 || len(d.paths.watch) != 0 {
		t.Errorf("after its end: services %v, servers %v, watched %v", d.steer.services, d.steer.servers, d.paths.watch)
	}
	if d.counters().Expired != 1 {
		t.Errorf("%d connections expired, want 1", d.counters().Expired)
	}
}

func TestARemovedServersDatagramsGoToAnotherAtOnce(t *testing.T) {
	d := newDirector(t, 1, web("-m", "10.0.0.2:80", "10.0.0.3:80")...)
	on := map[string]uint16{}
	for port := uint16(1); port <= 2; port++ {
		on[d.client(testpkt.UDP(from(port), vip)).Dst.Addr().String()] = port
	}
	d.apply(web("-m", "10.0.0.2:80")...)
	if v := d.client(testpkt.UDP(from(on["10.0.0.3"]), vip)); v.Dst.Addr().String() != "10.0.0.2" {
		t.Errorf("to %s, want the server that is left", v.Dst)
	}
}

func TestWeightsChangeWhileConnectionsRun(t *testing.T) {
	rules := func(w1, w2 int) []string {
		return []string{
			"-A -t 192.0.2.10:80 -s wrr",
			fmt.Sprintf("-a -t 192.0.2.10:80 -r 10.0.0.2:80 -g -w %d", w1),
			fmt.Sprintf("-a -t 192.0.2.10:80 -r 10.0.0.3:80 -g -w %d", w2),
		}
	}
	d := newDirector(t, 1, rules(1, 3)...)
	port := uint16(1)
	share := func(n int) (first int) {
		for range n {
			if d.client(testpkt.TCP(from(port), vip, testpkt.SYN)).DstMAC.String() == testpkt.MAC(0x1002).String() {
				first++
			}
			port++
		}
		return first
	}
	if n := share(40); n != 10 {
		t.Errorf("weight 1 of 4: %d of 40", n)
	}
	d.apply(rules(3, 1)...)
	share(4) // the round under way
	if n := share(40); n != 30 {
		t.Errorf("weight 3 of 4: %d of 40", n)
	}
	d.apply(rules(0, 1)...)
	if n := share(40); n != 0 {
		t.Errorf("weight 0: %d of 40", n)
	}
	for p := uint16(1); p < port; p++ {
		d.client(testpkt.TCP(from(p), vip, testpkt.ACK))
	}
}

func TestABadConfigurationChangesNothing(t *testing.T) {
	d := newDirector(t, 1, web("-m", "10.0.0.2:80")...)
	before := d.shared.Table()
	err := d.store.Apply(services(t, "-A -t 192.0.2.11:80 -s rr", "-a -t 192.0.2.11:80 -r 203.0.113.66:80 -m"))
	if err == nil || !strings.Contains(err.Error(), "--interface eth7") {
		t.Errorf("error %v, want one that names the interface", err)
	}
	if d.shared.Table() != before {
		t.Error("a table was published all the same")
	}
	d.client(testpkt.TCP(cip, vip, testpkt.SYN))
}

func TestASYNOnAClosedConnectionOpensANewOneAtOnce(t *testing.T) {
	d := newDirector(t, 1, web("-m", "10.0.0.2:80", "10.0.0.3:80")...)
	first := d.client(testpkt.TCP(cip, vip, testpkt.SYN)).Dst
	d.server(0, testpkt.TCP(first, cip, testpkt.SYN, testpkt.ACK))
	d.client(testpkt.TCP(cip, vip, testpkt.ACK))
	d.client(testpkt.TCP(cip, vip, testpkt.FIN, testpkt.ACK))
	d.server(0, testpkt.TCP(first, cip, testpkt.FIN, testpkt.ACK))
	d.client(testpkt.TCP(cip, vip, testpkt.ACK))
	if second := d.client(testpkt.TCP(cip, vip, testpkt.SYN)).Dst; second == first {
		t.Errorf("the same ports again went to %s again: rr has another server now", second)
	}
}
