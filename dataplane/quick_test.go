package dataplane_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"weir/conntrack"
	"weir/dataplane"
	"weir/dataplane/forward"
	"weir/dataplane/memqueue"
	"weir/dataplane/reason"
	"weir/internal/testpkt"
	"weir/lb"
	"weir/sched"
)

// quickEnds are who speaks to whom in TestQuickChangesNothing. Of an IP version there is one local address, with a single port, so that
// everybody can tell where a FULLNAT server's answers go to.
type quickEnds struct {
	client, vip netip.AddrPort
	rip, lip    netip.Addr
}

const quickPort = 5000

var quickFamilies = map[string]quickEnds{
	"IPv4": {netip.MustParseAddrPort("198.51.100.7:40000"), netip.MustParseAddrPort("192.0.2.10:80"),
		netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.200")},
	"IPv4 from port 0": {netip.MustParseAddrPort("198.51.100.7:0"), netip.MustParseAddrPort("192.0.2.10:80"),
		netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.200")},
	"IPv4 to IPv6": {netip.MustParseAddrPort("198.51.100.7:40000"), netip.MustParseAddrPort("192.0.2.10:80"),
		netip.MustParseAddr("fd00::2"), netip.MustParseAddr("fd00::200")},
	"IPv6 to IPv4": {netip.MustParseAddrPort("[2001:db8:7::7]:40000"), netip.MustParseAddrPort("[2001:db8::10]:80"),
		netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.200")},
	"IPv6": {netip.MustParseAddrPort("[2001:db8:7::7]:40000"), netip.MustParseAddrPort("[2001:db8::10]:80"),
		netip.MustParseAddr("fd00::2"), netip.MustParseAddr("fd00::200")},
}

// oneServer is a worker between two interfaces, with a service for TCP and one for UDP, whose only server, server, is behind the second.
type oneServer struct {
	worker *dataplane.Worker
	queues [2]*memqueue.Queue
	shared *dataplane.Shared
	server dataplane.Server
}

func newOneServer(t *testing.T, ends quickEnds, server dataplane.Server, second *uint32) *oneServer {
	t.Helper()
	conns, err := conntrack.New(conntrack.Options{Capacity: 4096, FirstPort: quickPort, LastPort: quickPort})
	if err != nil {
		t.Fatal(err)
	}
	if err := conns.SetLocals([]lb.Addr{lb.AddrFrom(ends.lip)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conns.Close)
	o := &oneServer{shared: dataplane.NewShared(conns, func() uint32 { return *second }), queues: [2]*memqueue.Queue{memqueue.New(64), memqueue.New(64)}}
	server.Addr = lb.AddrFrom(ends.rip)
	id, load, err := conns.Servers().Acquire(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	server.ID, server.Load = id, load
	o.server = server
	o.shared.Meter(id)
	edit := o.shared.Table().Edit()
	edit.SetIfaces([]dataplane.Iface{{Name: "mem0", MTU: 1500, MAC: [6]byte(testpkt.MAC(20)), Addr: lb.MustParseAddr("192.0.2.1")},
		{Name: "mem1", MTU: 1500, MAC: [6]byte(testpkt.MAC(21)), Addr: lb.MustParseAddr("10.0.0.1")}})
	edit.SetServer(&o.server)
	picked := &sched.Server{ID: id, Addr: server.Addr, Port: server.Port, Load: load}
	for _, proto := range []lb.Proto{lb.TCP, lb.UDP} {
		edit.SetService(&dataplane.Service{
			Key:    lb.ServiceKey{Addr: lb.AddrFrom(ends.vip.Addr()), Port: 80, Proto: proto},
			Picker: dataplane.NewPicker(schedulerFunc(func() *sched.Server { return picked })), Versions: dataplane.AppendVersion(nil, &sched.List{}),
		})
	}
	o.shared.Publish(edit.Table())
	o.worker = dataplane.NewWorker(o.shared, 0, 1, []dataplane.IfaceQueue{{Iface: 0, Queue: o.queues[0]}, {Iface: 1, Queue: o.queues[1]}}, nil)
	return o
}

// edit changes the server.
func (o *oneServer) edit(change func(*dataplane.Server)) {
	change(&o.server)
	edit := o.shared.Table().Edit()
	edit.SetServer(&o.server)
	o.shared.Publish(edit.Table())
}

// inject hands a frame in by the interface that it would come by.
func (o *oneServer) inject(frame []byte) {
	iface := 0
	if len(frame) >= 12 && bytes.Equal(frame[6:12], testpkt.MAC(7)) {
		iface = 1
	}
	o.queues[iface].Inject(frame)
}

// quickFrames are packets of all kinds between a client and a server in that mode, and packets with wrong bytes in them.
func quickFrames(ends quickEnds, mode lb.Mode, port uint16) [][]byte {
	client, vip := ends.client, ends.vip
	udp, tcp := testpkt.UDP(client, vip).Text("hello"), testpkt.TCP(client, vip, testpkt.ACK).Text("hello")
	fits := 1514 - 20 // into a tunnel
	if ends.rip.Is6() {
		fits = 1514 - 40
	}
	if port == 0 {
		port = vip.Port()
	}
	server, peer := netip.AddrPortFrom(ends.rip, port), client
	if mode == lb.FULLNAT || client.Addr().Is6() != ends.rip.Is6() {
		peer = netip.AddrPortFrom(ends.lip, quickPort)
	}
	udpBack, tcpBack := testpkt.UDP(server, peer).Text("answer").From(testpkt.MAC(7)), testpkt.TCP(server, peer, testpkt.ACK).Text("answer").From(testpkt.MAC(7))
	frames := [][]byte{udp.Bytes(), testpkt.TCP(client, vip, testpkt.SYN).Bytes()}
	for _, p := range []testpkt.Packet{
		udp, tcp, udp.NoChecksum(), udp.TTL(1), tcp.TTL(1), udp.TTL(2), udp.Pad(60), tcp.Pad(80), udp.Size(1514), tcp.Size(1514), udp.Size(1515).DF(),
		udp.VLAN(5), tcp.VLAN(5, 6), udp.From(testpkt.MAC(9)), tcp.From(testpkt.MAC(9)), udp, tcp, udp.TOS(3),
		udp.TOS(0xb9).DF(), udp.Size(fits), tcp.Size(fits + 1), udp.DF().Size(fits + 1), tcp.DF().Size(fits),
		testpkt.TCP(server, peer, testpkt.SYN, testpkt.ACK), udpBack, tcp, tcpBack, udpBack, tcpBack, udpBack.NoChecksum(), udpBack.TTL(1), tcpBack.TTL(2),
		tcpBack.Pad(90), udpBack.Size(1514), tcpBack.Size(1515).DF(), udpBack.VLAN(5), udp.VLAN(5), udpBack, udp, udpBack,
		testpkt.TCP(client, vip, testpkt.PSH, testpkt.ACK), testpkt.TCP(client, vip, testpkt.SYN), testpkt.TCP(client, vip, testpkt.FIN, testpkt.ACK),
		tcpBack, testpkt.TCP(server, peer, testpkt.FIN, testpkt.ACK),
		testpkt.TCP(client, vip, testpkt.ACK), testpkt.TCP(client, vip, testpkt.RST), tcp, tcpBack,
	} {
		frames = append(frames, p.Bytes())
	}
	if !client.Addr().Is6() {
		frames = append(frames, udp.Options(7, 7, 4, 0, 0, 0, 0).Bytes())
	}
	// The sum becomes zero, which UDP has to send as 0xffff; and bytes that are wrong anywhere in the headers, or missing.
	random, sound := rand.New(rand.NewPCG(3, 4)), frames
	for n := range 3000 {
		f := bytes.Clone(sound[n%len(sound)])
		l4 := 34
		if f[12] == 0x86 {
			l4 = 54
		}
		switch n % 3 {
		case 0:
			f[l4+10+random.IntN(2)] = byte(random.Uint32())
			copy(f[l4+6:l4+8], []byte{byte(random.Uint32()), byte(random.Uint32())})
		case 1:
			f[random.IntN(min(len(f), l4+24))] ^= 1 << random.IntN(8)
		case 2:
			f = f[:random.IntN(len(f)+1)]
		}
		frames = append(frames, f)
	}
	return frames
}

// TestQuickChangesNothing: packets leave by the quick way as they do by the long one, with the same counts.
func TestQuickChangesNothing(t *testing.T) {
	for family, ends := range quickFamilies {
		path := func(change func(*forward.Path)) *forward.Path {
			p := &forward.Path{Iface: 1, DstMAC: [6]byte(testpkt.MAC(7)), SrcMAC: [6]byte(testpkt.MAC(21)), MTU: 1500, Source: lb.MustParseAddr("10.0.0.1")}
			if ends.rip.Is6() {
				p.Source = lb.MustParseAddr("fd00::1")
			}
			change(p)
			return p
		}
		paths := map[string]*forward.Path{
			"plain":            path(func(*forward.Path) {}),
			"on the same side": path(func(p *forward.Path) { p.Iface = 0 }),
			"tagged":           path(func(p *forward.Path) { p.VLANs = lb.VLANs(0).Push(lb.CustomerTag, 9) }),
			"narrow":           path(func(p *forward.Path) { p.MTU = 40 }),
			"without a source": path(func(p *forward.Path) { p.Source = lb.Addr{} }),
			"none":             nil,
		}
		for _, mode := range []lb.Mode{lb.DR, lb.NAT, lb.FULLNAT, lb.TUN} {
			if mode == lb.NAT && ends.vip.Addr().Is4() != ends.rip.Is4() {
				continue
			}
			for name, path := range paths {
				for _, server := range []dataplane.Server{{}, {Port: 80}, {Port: 8080, Tunnel: lb.Tunnel{Type: lb.GRE}}} {
					t.Run(fmt.Sprintf("%s, %s, path %s, port %d", family, mode, name, server.Port), func(t *testing.T) {
						server.Mode, server.Path = mode, path
						sameAsInFull(t, ends, server)
					})
				}
			}
		}
	}
}

func sameAsInFull(t *testing.T, ends quickEnds, server dataplane.Server) {
	second := uint32(1)
	quick, full := newOneServer(t, ends, server, &second), newOneServer(t, ends, server, &second)
	frames := quickFrames(ends, server.Mode, server.Port)
	for i, frame := range frames {
		second = 1 + uint32(i/100)
		for _, o := range []*oneServer{quick, full} {
			switch i { // connections keep their mode; a removed server gets none
			case len(frames) * 7 / 10:
				o.edit(func(s *dataplane.Server) {
					s.Mode = map[lb.Mode]lb.Mode{lb.DR: lb.TUN, lb.TUN: lb.NAT, lb.NAT: lb.DR, lb.FULLNAT: lb.Local}[s.Mode]
				})
			case len(frames) * 9 / 10:
				o.edit(func(s *dataplane.Server) { s.Mode, s.Removed = server.Mode, true })
			}
			o.inject(frame)
		}
		quick.worker.Turn()
		full.worker.TurnInFull()
		for side := range quick.queues {
			got, want := quick.queues[side].Sent(), full.queues[side].Sent()
			if len(got) != len(want) || len(got) == 1 && !bytes.Equal(got[0], want[0]) {
				t.Fatalf("packet %d, %x, left by %d as %x, want %x", i, frame, side, got, want)
			}
			if quick.queues[side].Outstanding() != 0 {
				t.Fatal("a frame was lost")
			}
		}
	}
	got, want := quick.worker.Counters(), full.worker.Counters()
	got.Batches, want.Batches, got.Received, want.Received, got.Expired, want.Expired = 0, 0, 0, 0, 0, 0
	got.Reasons[reason.FragmentLate] = 0 // found out by Turn alone
	if got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
	if got, want := quick.shared.Traffic(quick.server.ID), full.shared.Traffic(full.server.ID); got != want {
		t.Errorf("the server's: %+v, want %+v", got, want)
	}
	answers := server.Mode == lb.NAT || server.Mode == lb.FULLNAT && ends.client.Port() != 0
	if p := server.Path; p != nil && p.MTU == 1500 && p.Source.IsValid() && (want.ToServer < 500 || answers != (want.ToClient >= 100)) {
		t.Errorf("only %d packets went to the server, %d came back", want.ToServer, want.ToClient)
	}
}
