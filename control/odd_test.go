package control_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"

	"weir/conntrack"
	"weir/control"
	"weir/dataplane/reason"
	"weir/internal/testpkt"
	"weir/lb"
)

// Frames that no ordinary sender makes: what becomes of each, to the byte, in every mode, whether it begins a connection or is of one.

// otherOwn is an address of the director's beside the VIP.
var otherOwn = map[string]lb.Addr{"IPv4": lb.MustParseAddr("192.0.2.11"), "IPv6": lb.MustParseAddr("2001:db8:2::11")}

func newOddDirector(t *testing.T, f family, mode string) *director {
	t.Helper()
	if mode == "-g" || mode == "-i" {
		f.server = netip.AddrPortFrom(f.server.Addr(), f.vip.Port())
	}
	d := newFamilyDirector(t, 1, f, mode)
	d.store.SetOwn([]lb.Addr{lb.AddrFrom(f.vip.Addr()), otherOwn[f.name], clientSide.Addr, clientSide.Addr6})
	return d
}

// exchange lets a frame arrive at an interface and returns the frames that left, by interface, as they are.
func (d *director) exchange(iface int, frame []byte) (left [2][][]byte) {
	d.t.Helper()
	if !d.queues[0][iface].Inject(frame) {
		d.t.Fatal("queue full")
	}
	d.workers[0].Turn()
	for i, q := range d.queues[0] {
		left[i] = q.Sent()
		if n := q.Outstanding(); n != 0 {
			d.t.Fatalf("%d frames of interface %d are lost", n, i)
		}
	}
	return left
}

// build makes a packet between two addresses.
type build func(src, dst netip.AddrPort) testpkt.Packet

// atServer returns the IP packet that a client's becomes in a mode, and the frame's Ethernet header. got is what came, for the local port.
func atServer(f family, mode string, b build, got []byte) (ether, ip []byte) {
	src, dst := f.client, f.vip
	switch mode {
	case "-m":
		dst = f.server
	case "-F":
		at := f.headers
		if got[14]>>4 == 4 {
			at = 14 + int(got[14]&15)*4
		}
		src, dst = netip.AddrPortFrom(f.local.Addr(), binary.BigEndian.Uint16(got[at:])), f.server
	}
	frame := b(src, dst).From(serverSide.MAC[:]).To(net.HardwareAddr(hwOf(f.server.Addr()))).Bytes()
	return frame[:14], frame[14:]
}

func hwOf(a netip.Addr) []byte {
	mac := macOf(lb.AddrFrom(a))
	return mac[:]
}

// wantAtServer compares a frame that left towards the server with what the client's packet must become: the IP packet, and behind it in
// every mode but TUN what was behind it when it came.
func wantAtServer(t *testing.T, f family, mode string, b build, change func(ip []byte), pad, got []byte) {
	t.Helper()
	ether, ip := atServer(f, mode, b, got)
	if change != nil {
		change(ip)
	}
	if mode != "-i" {
		if want := slices.Concat(ether, ip, pad); !bytes.Equal(got, want) {
			t.Errorf("the server gets\n%x, want\n%x", got, want)
		}
		return
	}
	if want := append(slices.Clone(ether[:12]), got[12:f.headers]...); !bytes.Equal(got, append(want, ip...)) {
		t.Errorf("the server gets\n%x, want, behind the outer header,\n%x", got, append(want, ip...))
	}
	v, err := testpkt.Parse(got)
	if err != nil {
		t.Fatal(err)
	}
	source := serverSide.Addr
	if f.client.Addr().Is6() {
		source = serverSide.Addr6
	}
	if v.Src.Addr() != source.Netip() || v.Dst.Addr() != f.server.Addr() || v.Checksums != nil || v.TTL != ttlOf(ip) {
		t.Errorf("outer header from %s to %s, TTL %d, %v", v.Src, v.Dst, v.TTL, v.Checksums)
	}
}

func ttlOf(ip []byte) byte {
	if ip[0]>>4 == 6 {
		return ip[7]
	}
	return ip[8]
}

// wrong adds to the 16-bit checksum at an offset of an IP packet, in ones' complement: what a right update leaves of it is as wrong.
func wrong(at int) func(ip []byte) {
	return func(ip []byte) {
		sum := uint32(binary.BigEndian.Uint16(ip[at:])) + 0x1234
		binary.BigEndian.PutUint16(ip[at:], uint16(sum>>16+sum))
	}
}

func TestOddPacketsAreForwardedWithNothingElseChanged(t *testing.T) {
	recordRoute := []byte{7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0}
	garbage := bytes.Repeat([]byte("junk"), 5)
	udp := func(src, dst netip.AddrPort) testpkt.Packet { return testpkt.UDP(src, dst).Text("odd") }
	for _, row := range []struct {
		name    string
		only    string // this family; "" for both
		build   build
		ttl     uint8
		change  func(ip []byte) // of the packet, before and after
		change6 func(ip []byte)
		pad     []byte // behind the packet
	}{
		{name: "a plain datagram", build: udp},
		{name: "TTL 2", build: udp, ttl: 2},
		{name: "an IP option to record the route, which nobody does", only: "IPv4", build: func(src, dst netip.AddrPort) testpkt.Packet { return udp(src, dst).Options(recordRoute...) }},
		{name: "a router alert and a no-operation", only: "IPv4", build: func(src, dst netip.AddrPort) testpkt.Packet { return udp(src, dst).Options(148, 4, 0, 0, 1) }},
		{name: "an option of nobody's", only: "IPv4", build: func(src, dst netip.AddrPort) testpkt.Packet { return udp(src, dst).Options(222, 3, 9) }},
		{name: "a segment with IP options", only: "IPv4", build: func(src, dst netip.AddrPort) testpkt.Packet {
			return testpkt.TCP(src, dst, testpkt.SYN).MSS(1460).Options(recordRoute...)
		}},
		{name: "padding that is not zero", build: udp, pad: garbage},
		{name: "a segment with padding", build: func(src, dst netip.AddrPort) testpkt.Packet { return testpkt.TCP(src, dst, testpkt.SYN) }, pad: garbage[:6]},
		{name: "a datagram without data, padded", build: func(src, dst netip.AddrPort) testpkt.Packet { return testpkt.UDP(src, dst) }, pad: garbage[:18]},
		{name: "no UDP checksum", only: "IPv4", build: func(src, dst netip.AddrPort) testpkt.Packet { return udp(src, dst).NoChecksum() }},
		{name: "a wrong UDP checksum", build: udp, change: wrong(20 + 6), change6: wrong(40 + 6)},
		{name: "a wrong TCP checksum", build: func(src, dst netip.AddrPort) testpkt.Packet { return testpkt.TCP(src, dst, testpkt.SYN) },
			change: wrong(20 + 16), change6: wrong(40 + 16)},
	} {
		everyModeOfEveryFamily(t, func(t *testing.T, f family, mode string) {
			if row.only != "" && row.only != f.name {
				return
			}
			t.Run(row.name, func(t *testing.T) {
				change, ttl := row.change, row.ttl
				if f.name == "IPv6" {
					change = row.change6
				}
				if ttl == 0 {
					ttl = 64
				}
				d := newOddDirector(t, f, mode)
				frame := row.build(f.client, f.vip).TTL(ttl).Bytes()
				if change != nil {
					change(frame[14:])
				}
				frame = append(frame, row.pad...)
				forwarded := func(src, dst netip.AddrPort) testpkt.Packet { return row.build(src, dst).TTL(ttl - 1) }
				for range 3 { // opens a connection, and is of one
					left := d.exchange(0, frame)
					if len(left[1]) != 1 || len(left[0]) != 0 {
						t.Fatalf("%d frames to the server and %d to the client; %v", len(left[1]), len(left[0]), stops(d))
					}
					wantAtServer(t, f, mode, forwarded, change, row.pad, left[1][0])
				}
				if n := d.counters().Connections; n != 1 {
					t.Errorf("%d connections", n)
				}
			})
		})
	}
}

// A server's odd answers, too, change in nothing but what they must.
func TestOddAnswersAreForwardedWithNothingElseChanged(t *testing.T) {
	for _, f := range families {
		for _, mode := range []string{"-m", "-F"} {
			t.Run(f.name+mode, func(t *testing.T) {
				d := newOddDirector(t, f, mode)
				out := d.exchange(0, testpkt.UDP(f.client, f.vip).Text("ask").Bytes())[1][0]
				to := testpkt.Decode(t, out).Src
				at := f.headers - 14
				for name, change := range map[string]func([]byte){"plain": nil, "wrong checksum": wrong(at + 6), "no checksum": func(ip []byte) { clear(ip[at+6 : at+8]) }} {
					if name == "no checksum" && f.name == "IPv6" {
						continue
					}
					answer := testpkt.UDP(f.server, to).Text("answer").Bytes()
					want := testpkt.UDP(f.vip, f.client).Text("answer").TTL(63).From(clientSide.MAC[:]).To(testpkt.ClientMAC).Bytes()
					if change != nil {
						change(answer[14:])
						change(want[14:])
					}
					left := d.exchange(1, append(answer, "padding"...))
					if len(left[0]) != 1 || !bytes.Equal(left[0][0], append(want, "padding"...)) {
						t.Errorf("%s: the client gets\n%x, want\n%x", name, left[0], want)
					}
				}
			})
		}
	}
}

func TestOddPacketsThatOpenNothing(t *testing.T) {
	broadcast, group, group6 := net.HardwareAddr{255, 255, 255, 255, 255, 255}, net.HardwareAddr{1, 0, 0x5e, 0, 0, 1}, net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
	routed := func(kind byte) []byte { return []byte{1, kind, 7, 4, 10, 0, 0, 2} }
	snap := func(p testpkt.Packet) []byte {
		b := p.Bytes()
		f := append(slices.Clone(b[:12]), byte((len(b)-14+8)>>8), byte(len(b)-14+8), 0xaa, 0xaa, 3, 0, 0, 0)
		return append(f, b[12:]...)
	}
	type row struct {
		name  string
		frame []byte
		why   reason.Reason
	}
	for _, f := range families {
		at := func(a string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(a), f.client.Port()) }
		syn := func(src netip.AddrPort) testpkt.Packet { return testpkt.TCP(src, f.vip, testpkt.SYN) }
		udp := testpkt.UDP(f.client, f.vip).Text("odd")
		changed := func(p testpkt.Packet, change func(frame []byte)) []byte {
			b := p.Bytes()
			change(b)
			return b
		}
		own := otherOwn[f.name]
		rows := []row{
			{"a broadcast frame", syn(f.client).To(broadcast).Bytes(), reason.NotUnicast},
			{"a multicast frame", udp.To(group).Bytes(), reason.NotUnicast},
			{"a multicast frame of IPv6's kind", udp.To(group6).Bytes(), reason.NotUnicast},
			{"a frame from a group's address", syn(f.client).From(group).Bytes(), reason.Martian},
			{"a frame from everybody", udp.From(broadcast).Bytes(), reason.Martian},
			{"SNAP", snap(udp), reason.NotIP},
			{"three tags", udp.VLAN(1, 2, 3).Bytes(), reason.NotIP},
			{"land attack", syn(f.vip).Bytes(), reason.Martian},
			{"land attack from another port", syn(netip.AddrPortFrom(f.vip.Addr(), 999)).Bytes(), reason.Martian},
			{"from another of the host's addresses", syn(netip.AddrPortFrom(own.Netip(), 999)).Bytes(), reason.Martian},
			{"an ICMP error from nowhere", nil, reason.Martian},
		}
		nowhere := map[string][]string{
			"IPv4": {"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.255", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.254", "255.255.255.255"},
			"IPv6": {"::1", "ff02::1", "ff0e::1234"},
		}[f.name]
		for _, a := range nowhere {
			rows = append(rows, row{"from " + a, syn(at(a)).Bytes(), reason.Martian}, row{"a datagram from " + a, testpkt.UDP(at(a), f.vip).Bytes(), reason.Martian})
		}
		if f.name == "IPv4" {
			rows = append(rows,
				row{"a loose source route", udp.Options(routed(131)...).Bytes(), reason.SourceRoute},
				row{"a strict source route", udp.Options(routed(137)...).Bytes(), reason.SourceRoute},
				row{"an option that is longer than the header", changed(udp.Options(148, 4, 0, 0), func(f []byte) { f[35] = 5; soundHeader(f) }), reason.SourceRoute},
				row{"an option of no length", changed(udp.Options(148, 4, 0, 0), func(f []byte) { f[35] = 0; soundHeader(f) }), reason.SourceRoute},
				row{"an option that is cut off", changed(udp.Options(1, 1, 1, 0), func(f []byte) { f[37] = 148; soundHeader(f) }), reason.SourceRoute},
				row{"a wrong header checksum", changed(udp, func(f []byte) { f[24]++ }), reason.BadIPHeader},
				row{"a TTL that is not what its checksum says", changed(udp, func(f []byte) { f[22] = 1 }), reason.BadIPHeader},
			)
		} else {
			mapped := []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 198, 51, 100, 7}
			rows = append(rows,
				row{"from ::", syn(at("::")).Bytes(), reason.BadIPHeader},
				row{"from an IPv4-mapped address", changed(syn(f.client), func(f []byte) { copy(f[22:], mapped) }), reason.BadIPHeader},
				row{"no UDP checksum", udp.NoChecksum().Bytes(), reason.BadL4Header},
			)
		}
		for _, mode := range []string{"-g", "-m", "-F", "-i"} {
			for _, r := range rows {
				t.Run(f.name+mode+" "+r.name, func(t *testing.T) {
					d := newOddDirector(t, f, mode)
					if r.frame == nil {
						d.exchange(0, udp.Bytes())
						r.frame = errorFromNowhere(f).Bytes()
					}
					before := d.counters()
					left := d.exchange(0, r.frame)
					after := d.counters()
					if len(left[0])+len(left[1]) != 0 || after.Reasons[r.why] != before.Reasons[r.why]+1 || after.Connections != before.Connections {
						t.Fatalf("%x left, %d connections, stopped %v; want %s", left, after.Connections-before.Connections, stops(d), r.why)
					}
					if n := len(d.host.frames); n != int(after.ToHost) || r.why.ToHost() != (n == 1) {
						t.Fatalf("the host got %d frames", n)
					}
					if r.why.ToHost() && !bytes.Equal(d.host.frames[0], r.frame) {
						t.Errorf("the host got\n%x, want\n%x", d.host.frames[0], r.frame)
					}
				})
			}
		}
	}
}

// Frames of a connection that say they come from a group's address go on, but nothing is sent to the group.
func TestAnswersAreNotSentToGroups(t *testing.T) {
	group := net.HardwareAddr{255, 255, 255, 255, 255, 255}
	for _, f := range families {
		for _, mode := range []string{"-m", "-F"} {
			d := newOddDirector(t, f, mode)
			ask := testpkt.UDP(f.client, f.vip).Text("ask")
			asked := d.client(ask)
			d.client(ask.From(group))
			if left := d.exchange(0, ask.From(group).TTL(1).Bytes()); len(left[0])+len(left[1]) != 0 || d.counters().Reasons[reason.TTLExceeded] != 1 {
				t.Errorf("%s%s: %x left; %v", f.name, mode, left, stops(d))
			}
			if got := d.server(0, testpkt.UDP(f.server, asked.Src)).DstMAC; !bytes.Equal(got, testpkt.ClientMAC) {
				t.Errorf("%s%s: the answer goes to %s", f.name, mode, got)
			}
		}
	}
}

// soundHeader writes an IPv4 header's checksum anew.
func soundHeader(frame []byte) {
	header := frame[14 : 14+int(frame[14]&15)*4]
	header[10], header[11] = 0, 0
	binary.BigEndian.PutUint16(header[10:], ^words(0, header))
}

func errorFromNowhere(f family) testpkt.Packet {
	answer := testpkt.UDP(f.vip, f.client).Text("answer")
	if f.name == "IPv6" {
		return testpkt.ICMPError(netip.MustParseAddr("::1"), f.vip.Addr(), 1, 4, 0, answer)
	}
	return testpkt.ICMPError(netip.MustParseAddr("127.0.0.1"), f.vip.Addr(), 3, 3, 0, answer)
}

// A connection's own packets with a wrong header checksum go on as wrong as they came, for the receiver to drop, and nobody is told
// of one that ends here, whoever it says it is from.
func TestAWrongHeaderChecksumIsNeverRepaired(t *testing.T) {
	f := families[0]
	for _, mode := range []string{"-g", "-m", "-F", "-i"} {
		t.Run(mode, func(t *testing.T) {
			d := newOddDirector(t, f, mode)
			udp := func(src, dst netip.AddrPort) testpkt.Packet { return testpkt.UDP(src, dst).Text("odd") }
			d.exchange(0, udp(f.client, f.vip).Bytes())
			frame := udp(f.client, f.vip).Bytes()
			wrong(10)(frame[14:])
			left := d.exchange(0, frame)
			if len(left[1]) != 1 {
				t.Fatalf("%d frames; %v", len(left[1]), stops(d))
			}
			wantAtServer(t, f, mode, func(src, dst netip.AddrPort) testpkt.Packet { return udp(src, dst).TTL(63) }, wrong(10), nil, left[1][0])

			frame = udp(f.client, f.vip).TTL(1).Bytes()
			wrong(10)(frame[14:])
			if left = d.exchange(0, frame); len(left[0])+len(left[1]) != 0 || d.counters().Reasons[reason.TTLExceeded] != 1 {
				t.Errorf("%x left; %v", left, stops(d))
			}
		})
	}
}

func TestTTLThatEndsHere(t *testing.T) {
	everyModeOfEveryFamily(t, func(t *testing.T, f family, mode string) {
		d := newOddDirector(t, f, mode)
		for i, ttl := range []uint8{0, 1, 0, 1} {
			left := d.exchange(0, testpkt.TCP(f.client, f.vip, testpkt.SYN).TTL(ttl).Bytes())
			if len(left[1]) != 0 || len(left[0]) != 1 || d.counters().Reasons[reason.TTLExceeded] != uint64(i+1) {
				t.Fatalf("TTL %d: %d frames to the server and %d to the client; %v", ttl, len(left[1]), len(left[0]), stops(d))
			}
			v := testpkt.Decode(t, left[0][0]).MustHold(t)
			if want := map[string]uint8{"IPv4": 11, "IPv6": 3}[f.name]; v.ICMPType != want || v.ICMPCode != 0 || v.Src.Addr() != f.vip.Addr() || v.Dst.Addr() != f.client.Addr() {
				t.Errorf("TTL %d: answered by %+v", ttl, v.IP)
			}
		}
	})
}

// A firewall mark's rule may name addresses that are no one host's.
func TestMulticastIsNotBalancedByAMark(t *testing.T) {
	mark, err := lb.ParseMarkRule("7 udp 0.0.0.0/0")
	if err != nil {
		t.Fatal(err)
	}
	d := newDirectorWith(t, 1, conntrack.Options{Capacity: 64}, control.Options{Marks: []lb.MarkRule{mark}},
		"-A -f 7 -s rr", "-a -f 7 -r 10.0.0.2 -i")
	for _, to := range []string{"224.0.0.1", "239.1.2.3", "255.255.255.255"} {
		d.stopped(testpkt.UDP(cip, netip.AddrPortFrom(netip.MustParseAddr(to), 80)), reason.NotUnicast)
	}
	d.client(testpkt.UDP(cip, vip))
}

// A datagram's source port of 0 says that no answer is wanted (RFC 768): one that comes all the same may reach nobody else's port.
func TestAnswersToPortZero(t *testing.T) {
	for _, w := range everyWay() {
		if w.mode != "-m" && w.mode != "-F" {
			continue
		}
		t.Run(w.String(), func(t *testing.T) {
			d := newDirector6(t, 1, serving(w.vip, w.mode, w.server.String())...)
			client := netip.AddrPortFrom(w.client.Addr(), 0)
			asked := d.client(testpkt.UDP(client, w.vip).Text("x"))
			left := d.exchange(1, testpkt.UDP(asked.Dst, asked.Src).Text("y").Bytes())
			for _, frame := range left[0] {
				if v := testpkt.Decode(t, frame); v.Dst != client {
					t.Errorf("an answer went to %s; %v", v.Dst, stops(d))
				}
			}
		})
	}
}
