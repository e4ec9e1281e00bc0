package control_test

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"weir/conntrack"
	"weir/dataplane/packet"
	"weir/dataplane/reason"
	"weir/internal/testpkt"
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
	server6 := netip.MustParseAddrPort("[2001:db8:20::2]:80")
	for port := uint16(80); port < 86; port++ {
		to := netip.AddrPortFrom(vip6.Addr(), port)
		f.Add(false, testpkt.TCP(cip6, to, testpkt.SYN).MSS(1440).Bytes())
		f.Add(false, testpkt.UDP(cip6, to).Text("x").Extension(0, 5, 2, 0, 0).Extension(60).Bytes())
		f.Add(false, testpkt.UDP(cip6, to).TTL(1).VLAN(1, 2).Bytes())
		f.Add(false, testpkt.UDP(cip6, to).Size(1514).Bytes())
		f.Add(false, testpkt.UDP(cip6, to).Payload(make([]byte, 64)).Extension(43, 2).Fragment(0, true).Bytes())
	}
	f.Add(true, testpkt.TCP(server6, cip6, testpkt.SYN, testpkt.ACK).Bytes())
	f.Add(true, testpkt.UDP(server6, netip.AddrPortFrom(lip6.Netip(), 1024)).Bytes())
	f.Add(false, testpkt.ICMPError(cip6.Addr(), vip6.Addr(), 2, 0, 1400, testpkt.UDP(netip.AddrPortFrom(vip6.Addr(), 81), cip6)).Bytes())
	// Every mode has a port, in both families.
	var rules []string
	for port, mode := range map[uint16]string{80: "-g", 81: "-m", 82: "-F", 83: "-i", 84: "-i --tun-type gue --tun-port 6080 --tun-csum", 85: "-i --tun-type gre --tun-csum"} {
		rules = append(rules, serving(netip.AddrPortFrom(vip.Addr(), port), mode, server.String())...)
		rules = append(rules, serving(netip.AddrPortFrom(vip6.Addr(), port), mode, server6.String())...)
	}
	// FULLNAT to the other family, port 86.
	rules = append(rules, serving(netip.AddrPortFrom(vip.Addr(), 86), "-F", server6.String())...)
	rules = append(rules, serving(netip.AddrPortFrom(vip6.Addr(), 86), "-F", server.String())...)
	for _, frame := range []testpkt.Packet{
		testpkt.UDP(cip, netip.AddrPortFrom(vip.Addr(), 86)).NoChecksum().Options(1, 1, 1, 1), testpkt.TCP(cip, netip.AddrPortFrom(vip.Addr(), 86), testpkt.SYN),
		testpkt.UDP(cip6, netip.AddrPortFrom(vip6.Addr(), 86)).Extension(60), testpkt.TCP(cip6, netip.AddrPortFrom(vip6.Addr(), 86), testpkt.SYN),
		testpkt.ICMPError(cip.Addr(), vip.Addr(), 3, 4, 1400, testpkt.UDP(netip.AddrPortFrom(vip.Addr(), 86), cip)),
		testpkt.ICMPError(cip6.Addr(), vip6.Addr(), 2, 0, 1400, testpkt.UDP(netip.AddrPortFrom(vip6.Addr(), 86), cip6)),
	} {
		f.Add(false, frame.Bytes())
	}
	for _, of := range []struct{ client, vip netip.AddrPort }{{cip, vip}, {cip6, vip6}} {
		for port := uint16(80); port < 87; port++ { // too long for every way, and in pieces
			p := testpkt.UDP(of.client, netip.AddrPortFrom(of.vip.Addr(), port))
			f.Add(false, p.Size(1600).Bytes())
			f.Add(false, p.Options(7, 7, 4, 0, 0, 0, 0).Size(1514).Bytes())
			f.Add(false, p.Payload(make([]byte, 1400)).Fragment(0, true).Bytes())
		}
	}
	f.Add(true, testpkt.UDP(server, netip.MustParseAddrPort("10.0.0.100:1025")).NoChecksum().Bytes())
	f.Add(true, testpkt.ICMPError(server6.Addr(), lip6.Netip(), 1, 4, 0, testpkt.UDP(netip.AddrPortFrom(lip6.Netip(), 1025), server6)).Bytes())
	// SCTP on every port, and IPsec by NAT and in a tunnel.
	for port, mode := range map[uint16]string{80: "-g", 81: "-m", 82: "-F", 83: "-i"} {
		rules = append(rules, sctpRules(netip.AddrPortFrom(vip.Addr(), port), mode, "10.0.0.2:90")...)
		rules = append(rules, sctpRules(netip.AddrPortFrom(vip6.Addr(), port), mode, "[2001:db8:20::2]:90")...)
		for _, p := range []testpkt.Packet{testpkt.SCTP(cip, netip.AddrPortFrom(vip.Addr(), port)), testpkt.SCTP(cip6, netip.AddrPortFrom(vip6.Addr(), port))} {
			f.Add(false, p.Chunk(testpkt.ChunkInit, nil).Bytes())
			f.Add(false, p.Chunk(testpkt.ChunkCookieEcho, []byte("cookie")).Chunk(testpkt.ChunkAbort, nil).Bytes())
			f.Add(false, p.Chunk(testpkt.ChunkData, make([]byte, 64)).Fragment(0, true).Bytes())
		}
	}
	f.Add(true, testpkt.SCTP(netip.MustParseAddrPort("10.0.0.2:90"), cip, testpkt.ChunkInitAck).Bytes())
	f.Add(false, testpkt.ICMPError(router, vip.Addr(), 3, 4, 1400, testpkt.SCTP(netip.AddrPortFrom(vip.Addr(), 81), cip, testpkt.ChunkInitAck)).Bytes())
	rules = append(rules, vpns[0].rules("-m")...)
	rules = append(rules, vpns[1].rules("-i")...)
	for _, v := range vpns {
		f.Add(false, sealed(v.client.Addr(), v.virtual.Addr(), packet.ESP, 64).Bytes())
		f.Add(false, sealed(v.client.Addr(), v.virtual.Addr(), packet.AH, 1400).DF().Bytes())
		f.Add(true, sealed(v.server.Addr(), v.client.Addr(), packet.ESP, 64).Fragment(64, true).Bytes())
	}
	f.Add(false, testpkt.ICMPError(router, vip.Addr(), 3, 4, 1400, sealed(vip.Addr(), cip.Addr(), packet.ESP, 64)).Bytes())
	// Errors about IPv6 in a tunnel, with options, and with an extension behind what they quote.
	router6 := routers["IPv6"]
	inside6 := testpkt.UDP(cip6, netip.AddrPortFrom(vip6.Addr(), 83)).Payload(make([]byte, 200))
	outer6 := inside6.Via(serverSide.Addr6.Netip(), server6.Addr())
	f.Add(true, testpkt.ICMPError(router6, serverSide.Addr6.Netip(), 2, 0, 1400, outer6).Bytes())
	f.Add(true, testpkt.ICMPError(router6, serverSide.Addr6.Netip(), 3, 0, 0, outer6).Extension(60).Bytes())
	payload, rest := extended(families[1], outer6.Bytes()[14:], 128)
	f.Add(true, about(router6, serverSide.Addr6.Netip(), 1, 3, rest, payload, 0).Bytes())
	f.Add(false, testpkt.ICMPError(router6, vip6.Addr(), 1, 1, 0, testpkt.UDP(netip.AddrPortFrom(vip6.Addr(), 86), cip6).Extension(0).Extension(44)).Bytes())
	list := services(f, rules...)
	f.Fuzz(func(t *testing.T, fromServer bool, frame []byte) {
		if len(frame) == 0 || len(frame) > 1700 {
			return
		}
		o := both
		o.ClampMSS = true
		d := newDirectorWith(t, 1, conntrack.Options{Capacity: 64}, o)
		d.paths.mtu = []int{1500, 1280, 576}[len(frame)%3]
		d.paths.vlans = taggings[len(frame)%len(taggings)].vlans()
		if err := d.store.Apply(list); err != nil {
			t.Fatal(err)
		}
		iface := 0
		if fromServer {
			iface = 1
		}
		// Connections that the frame may belong to.
		d.send(0, 0, testpkt.UDP(cip, netip.AddrPortFrom(vip.Addr(), 81)))
		d.send(0, 0, testpkt.UDP(cip, netip.AddrPortFrom(vip.Addr(), 82)))
		d.send(0, 0, testpkt.UDP(cip, netip.AddrPortFrom(vip.Addr(), 83)))
		d.send(0, 0, testpkt.UDP(cip6, netip.AddrPortFrom(vip6.Addr(), 81)))
		d.send(0, 0, testpkt.UDP(cip6, netip.AddrPortFrom(vip6.Addr(), 82)))
		d.send(0, 0, testpkt.UDP(cip6, netip.AddrPortFrom(vip6.Addr(), 83)))
		d.send(0, 0, testpkt.UDP(cip, netip.AddrPortFrom(vip.Addr(), 86)))
		d.send(0, 0, testpkt.UDP(cip6, netip.AddrPortFrom(vip6.Addr(), 86)))
		for port := uint16(81); port < 84; port++ {
			d.send(0, 0, testpkt.SCTP(cip, netip.AddrPortFrom(vip.Addr(), port), testpkt.ChunkInit))
			d.send(0, 0, testpkt.SCTP(cip6, netip.AddrPortFrom(vip6.Addr(), port), testpkt.ChunkInit))
		}
		for _, v := range vpns {
			d.send(0, 0, v.isakmp())
		}
		want := d.counters().Received + 2
		for _, frame := range [][]byte{frame, soundError(frame)} {
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
		if c.Received != want || c.ToServer+c.ToClient+stopped != want {
			t.Fatalf("received %d, to servers %d, to clients %d, stopped %d: %v", c.Received, c.ToServer, c.ToClient, stopped, c.Stops())
		}
	})
}

// soundError returns a frame as it is, but an ICMP error with checksums that hold: without them not much is done with it.
func soundError(frame []byte) []byte {
	frame = slices.Clone(frame)
	var p packet.Packet
	if p.Parse(frame, 0, len(frame)) != reason.ICMPError {
		return frame
	}
	message := p.L4Bytes()
	message[2], message[3] = 0, 0
	sum := uint32(0)
	if p.Is6() {
		sum = uint32(packet.ICMPv6) + uint32(len(message)) + uint32(words(0, p.IP6()[8:40]))
	} else {
		header := p.IP()[:p.IP().HeaderLen()]
		header[10], header[11] = 0, 0
		binary.BigEndian.PutUint16(header[10:], ^words(0, header))
	}
	binary.BigEndian.PutUint16(message[2:], ^words(sum, message))
	return frame
}
