package control_test

import (
	"net/netip"
	"testing"

	"weir/conntrack"
	"weir/control"
	"weir/internal/testpkt"
	"weir/lb"
)

// FuzzWorker sends one frame of any bytes, from either side, through a director with all modes. Nothing panics (memqueue does,
// when a frame leaves with bounds outside its memory), no frame is lost, and every packet is accounted for exactly once.
func FuzzWorker(f *testing.F) {
	server := netip.MustParseAddrPort("10.0.0.2:80")
	for port := uint16(80); port < 84; port++ {
		to := netip.AddrPortFrom(vip.Addr(), port)
		f.Add(false, testpkt.TCP(cip, to, testpkt.SYN).Bytes())
		f.Add(false, testpkt.UDP(cip, to).Text("x").Bytes())
		f.Add(false, testpkt.UDP(cip, to).TTL(1).VLAN(1, 2).Bytes())
		f.Add(false, testpkt.UDP(cip, to).DF().Size(1514).Bytes())
		f.Add(false, testpkt.TCP(cip, to, testpkt.SYN).Options(7, 7, 4, 0, 0, 0, 0).MSS(1460).Bytes())
	}
	f.Add(true, testpkt.TCP(server, cip, testpkt.SYN, testpkt.ACK).Bytes())
	f.Add(true, testpkt.UDP(server, netip.MustParseAddrPort("10.0.0.100:1024")).Bytes())
	f.Add(true, testpkt.ICMPError(server.Addr(), vip.Addr(), 3, 3, 0, testpkt.UDP(vip, server)).Bytes())
	// Errors about the connections below, in every direction, and fragments.
	router := netip.MustParseAddr("203.0.113.9")
	for port := uint16(81); port < 84; port++ {
		answer := testpkt.UDP(netip.AddrPortFrom(vip.Addr(), port), cip).Text("x")
		f.Add(false, testpkt.ICMPError(router, vip.Addr(), 3, 4, 1400, answer).Bytes())
		f.Add(false, testpkt.ICMPError(router, vip.Addr(), 11, 1, 0, answer.Fragment(0, true)).Bytes())
	}
	f.Add(true, testpkt.ICMPError(server.Addr(), cip.Addr(), 3, 3, 0, testpkt.UDP(cip, server)).Bytes())
	f.Add(true, testpkt.ICMPError(router, serverSide.Addr.Netip(), 3, 4, 1400,
		testpkt.UDP(cip, netip.AddrPortFrom(vip.Addr(), 83)).DF().Via(serverSide.Addr.Netip(), server.Addr())).Bytes())
	for port := uint16(80); port < 84; port++ {
		piece := testpkt.UDP(cip, netip.AddrPortFrom(vip.Addr(), port)).Payload(make([]byte, 64))
		f.Add(false, piece.Fragment(0, true).Bytes())
		f.Add(false, piece.Fragment(72, true).Bytes())
		f.Add(false, piece.Fragment(64, false).Options(7, 3, 4, 0).Bytes())
	}
	f.Fuzz(func(t *testing.T, fromServer bool, frame []byte) {
		if len(frame) == 0 || len(frame) > 1700 {
			return
		}
		d := newDirectorWith(t, 1, conntrack.Options{Capacity: 64}, control.Options{Locals: []lb.Addr{lb.MustParseAddr("10.0.0.100")}},
			"-A -t 192.0.2.10:80 -s rr", "-a -t 192.0.2.10:80 -r 10.0.0.2:80 -g", "-A -u 192.0.2.10:80 -s rr", "-a -u 192.0.2.10:80 -r 10.0.0.2:80 -g",
			"-A -t 192.0.2.10:81 -s rr", "-a -t 192.0.2.10:81 -r 10.0.0.2:80 -m", "-A -u 192.0.2.10:81 -s rr", "-a -u 192.0.2.10:81 -r 10.0.0.2:80 -m",
			"-A -t 192.0.2.10:82 -s rr", "-a -t 192.0.2.10:82 -r 10.0.0.2:80 -F", "-A -u 192.0.2.10:82 -s rr", "-a -u 192.0.2.10:82 -r 10.0.0.2:80 -F",
			"-A -t 192.0.2.10:83 -s rr", "-a -t 192.0.2.10:83 -r 10.0.0.2:80 -i", "-A -u 192.0.2.10:83 -s rr", "-a -u 192.0.2.10:83 -r 10.0.0.2:80 -i")
		iface := 0
		if fromServer {
			iface = 1
		}
		// Connections that the frame may belong to.
		d.send(0, 0, testpkt.UDP(cip, netip.AddrPortFrom(vip.Addr(), 81)))
		d.send(0, 0, testpkt.UDP(cip, netip.AddrPortFrom(vip.Addr(), 82)))
		d.send(0, 0, testpkt.UDP(cip, netip.AddrPortFrom(vip.Addr(), 83)))
		for range 2 {
			d.queues[0][iface].Inject(frame)
			d.workers[0].Turn()
			for i, q := range d.queues[0] {
				q.Sent()
				if n := q.Outstanding(); n != 0 {
					t.Fatalf("%d frames of interface %d are lost", n, i)
				}
			}
		}
		c := d.counters()
		var stopped uint64
		for _, s := range c.Stops() {
			stopped += s.Count
		}
		if c.Received != 5 || c.ToServer+c.ToClient+stopped != 5 {
			t.Fatalf("received %d, to servers %d, to clients %d, stopped %d: %v", c.Received, c.ToServer, c.ToClient, stopped, c.Stops())
		}
	})
}
