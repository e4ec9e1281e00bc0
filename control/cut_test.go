package control_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"weir/conntrack"
	"weir/dataplane/reason"
	"weir/internal/testpkt"
)

// way is how a packet goes on: what comes in, by which rule, what is in front of it then.
type way struct {
	client, vip, server netip.AddrPort
	mode                string
	added               int  // bytes by which the IP packet grows
	to6                 bool // what leaves is IPv6
}

func (w way) String() string { return fmt.Sprintf("%s to %s %s", w.client, w.server, w.mode) }

// everyWay returns every mode and tunnel between every two families.
func everyWay() (all []way) {
	overheads := map[string]int{"-i": 0, "gue": 12, "gre": 4, "gre-csum": 8}
	for _, in := range families {
		for _, out := range families {
			header := map[string]int{"IPv4": 20, "IPv6": 40}
			base := way{client: in.client, vip: in.vip, server: out.server, to6: out.name == "IPv6"}
			add := func(mode string, added int) {
				w := base
				w.mode, w.added = mode, added
				all = append(all, w)
			}
			for _, tunnel := range tunnels {
				kind := "-i"
				if fields := strings.Fields(tunnel); len(fields) > 2 {
					kind = fields[2]
					if kind == "gre" && strings.Contains(tunnel, "csum") {
						kind = "gre-csum"
					}
				}
				if kind == "gue" && !strings.Contains(tunnel, "csum") && out.name == "IPv6" {
					continue // a zero checksum, which tunnels may have there (RFC 6935) and the judge refuses
				}
				add(tunnel, header[out.name]+overheads[kind])
			}
			add("-F", header[out.name]-header[in.name])
			if in.name == out.name {
				add("-g", 0)
				add("-m", 0)
			}
		}
	}
	return all
}

// A packet that fits goes on whole; one that does not is told of, with the MTU that would have fitted; or it goes on in pieces that do.
func TestEverySizeOnEveryWay(t *testing.T) {
	for _, w := range everyWay() {
		for mtu, sizes := range map[int][2]int{1500: {1400, 1514}, 1400: {1400, 1514}, 1300: {1230, 1320}} {
			t.Run(fmt.Sprintf("%s, MTU %d", w, mtu), func(t *testing.T) {
				t.Parallel()
				d := newDirector6(t, 1)
				d.paths.mtu = mtu
				d.apply(serving(w.vip, w.mode, w.server.String())...)
				for size := sizes[0]; size <= sizes[1]; size++ {
					d.now++ // no more errors a second than are allowed
					w.wantSize(t, d, testpkt.UDP(w.client, w.vip).Size(size), mtu, false)
					if w.client.Addr().Is4() {
						w.wantSize(t, d, testpkt.UDP(w.client, w.vip).DF().Size(size), mtu, true)
					}
				}
				if n := d.counters().Connections; n != 1 {
					t.Errorf("%d connections", n)
				}
			})
		}
	}
}

func (w way) wantSize(t *testing.T, d *director, in testpkt.Packet, mtu int, df bool) {
	t.Helper()
	length := len(in.Bytes()) - 14
	is6 := w.client.Addr().Is6()
	left := d.exchange(0, in.Bytes())
	told := df || is6 && (length > 1280 || w.added == 0)
	fits := length+w.added <= mtu
	if !fits && told {
		wantMTU := mtu - w.added
		if is6 {
			wantMTU = max(wantMTU, 1280)
		}
		if len(left[1]) != 0 || len(left[0]) != 1 {
			t.Fatalf("%d bytes: %d frames to the server and %d to the client", length, len(left[1]), len(left[0]))
		}
		v := testpkt.Decode(t, left[0][0]).MustHold(t)
		typ, code := uint8(3), uint8(4)
		if is6 {
			typ, code = 2, 0
		}
		if src, dst, _, err := v.Quoted(); v.ICMPType != typ || v.ICMPCode != code || v.ICMPRest != uint32(wantMTU) || src != w.client || dst != w.vip || err != nil {
			t.Fatalf("%d bytes: told %d/%d, %d about %s -> %s, want %d", length, v.ICMPType, v.ICMPCode, v.ICMPRest, src, dst, wantMTU)
		}
		return
	}
	if len(left[0]) != 0 || fits && len(left[1]) != 1 || !fits && len(left[1]) < 2 {
		t.Fatalf("%d bytes: %d frames to the server and %d to the client; %v", length, len(left[1]), len(left[0]), stops(d))
	}
	whole := left[1][0]
	if !fits {
		for _, frame := range left[1] {
			if len(frame)-14 > mtu {
				t.Fatalf("%d bytes: a piece of %d", length, len(frame)-14)
			}
		}
		var err error
		if whole, err = testpkt.Reassemble(left[1]); err != nil {
			t.Fatalf("%d bytes: %v", length, err)
		}
	}
	v := testpkt.Decode(t, whole)
	if !v.ZeroUDP { // of GUE
		v.MustHold(t)
	}
	got := inside(v)
	wantSrc, wantDst := w.client, w.vip
	if w.mode == "-F" || w.mode == "-m" {
		wantDst = w.server
	}
	if w.mode == "-F" {
		wantSrc = got.Src // some local port
	}
	want := in.Bytes()[len(in.Bytes())-len(got.Payload):]
	if v.Length != length+w.added || got.Src != wantSrc || got.Dst != wantDst || got.TTL != 63 || got.Checksums != nil || !bytes.Equal(got.Payload, want) ||
		v.Src.Addr().Is6() != w.to6 {
		t.Fatalf("%d bytes: %d left, %s -> %s; %v", length, v.Length, got.Src, got.Dst, got.Checksums)
	}
}

// Answers that are longer than the clients' side carries are cut as well, or told of to the server.
func TestAnswersOfEverySize(t *testing.T) {
	for _, w := range everyWay() {
		if w.mode != "-m" && w.mode != "-F" {
			continue
		}
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			d := newDirector6(t, 1, serving(w.vip, w.mode, w.server.String())...)
			asked := d.client(testpkt.UDP(w.client, w.vip))
			for size := 1480; size <= 1600; size++ {
				for _, df := range []bool{false, true} {
					if df && w.to6 {
						continue
					}
					d.now++
					in := testpkt.UDP(asked.Dst, asked.Src).Size(size)
					if df {
						in = in.DF()
					}
					length := size - 14
					left := d.exchange(1, in.Bytes())
					mtu := 1500
					if !w.to6 && !df && w.client.Addr().Is6() {
						mtu = 1280 // nobody knows what the way to the client carries
					}
					if fits := length-w.added <= mtu; fits && len(left[0]) == 1 && len(left[1]) == 0 {
						continue
					} else if tell := w.to6 || df; !fits && tell && len(left[1]) == 1 && len(left[0]) == 0 {
						v := testpkt.Decode(t, left[1][0]).MustHold(t)
						if v.ICMPRest != uint32(1500+w.added) || v.Dst.Addr() != w.server.Addr() {
							t.Fatalf("%d bytes: %s is told of %d, want %d", length, v.Dst, v.ICMPRest, 1500+w.added)
						}
						continue
					} else if fits || tell || len(left[1]) != 0 {
						t.Fatalf("%d bytes: %d frames to the client and %d to the server; %v", length, len(left[0]), len(left[1]), stops(d))
					}
					whole, err := testpkt.Reassemble(left[0])
					if err != nil {
						t.Fatalf("%d bytes: %v", length, err)
					}
					v := testpkt.Decode(t, whole).MustHold(t)
					if v.Src != w.vip || v.Dst != w.client || v.Length != length-w.added || len(left[0][0])-14 > mtu {
						t.Fatalf("%d bytes: %d, in pieces of %d, %s -> %s", length, v.Length, len(left[0][0])-14, v.Src, v.Dst)
					}
				}
			}
		})
	}
}

// Two clients' packets with one identification, cut behind one address: the receiver must not mix them up.
func TestPiecesBehindASharedAddressHaveTheirOwnIdentification(t *testing.T) {
	for _, mode := range []string{"-F", "-i"} {
		d := newDirector6(t, 1)
		d.paths.mtu = 1400
		d.apply(serving(vip, mode, "10.0.0.2:80")...)
		ids := map[uint16]bool{}
		for port := uint16(1000); port < 1020; port++ {
			for _, frame := range d.exchange(0, testpkt.UDP(from(port), vip).ID(7).Size(1514).Bytes())[1] {
				ids[testpkt.Decode(t, frame).ID] = true
			}
		}
		if len(ids) != 20 {
			t.Errorf("%s: 20 packets have %d identifications", mode, len(ids))
		}
	}
	// A router leaves a sender's own as it is.
	d := newDirector6(t, 1)
	d.paths.mtu = 1400
	d.apply(serving(vip, "-g", "10.0.0.2:80")...)
	for _, frame := range d.exchange(0, testpkt.UDP(cip, vip).ID(7).Size(1514).Bytes())[1] {
		if v := testpkt.Decode(t, frame); v.ID != 7 {
			t.Errorf("a piece has the identification %d", v.ID)
		}
	}
}

// A queue without room loses what it cannot take, and no frame of its own.
func TestPiecesThatFindNoRoom(t *testing.T) {
	d := newDirector6(t, 1)
	d.paths.mtu = 600
	d.apply(serving(vip, "-i", "10.0.0.2:80")...)
	var taken []func()
	q := d.queues[0][1]
	for {
		frame, ok := q.Alloc()
		if !ok {
			break
		}
		taken = append(taken, func() { q.Drop(&frame) })
	}
	taken[0]() // room for one
	d.queues[0][0].Inject(testpkt.UDP(cip, vip).Size(1514).Bytes())
	d.workers[0].Turn()
	if sent := q.Sent(); len(sent) != 1 || d.counters().Reasons[reason.NoTxRoom] != 1 {
		t.Errorf("%d frames left; %v", len(sent), stops(d))
	}
	for _, drop := range taken[1:] {
		drop()
	}
	if n := q.Outstanding() + d.queues[0][0].Outstanding(); n != 0 {
		t.Errorf("%d frames are lost", n)
	}
}

// What the network tells of the way to an IPv6 server holds for packets whose IPv4 sender cannot be told.
func TestAnMTULearntForFULLNATAcross(t *testing.T) {
	server := netip.MustParseAddrPort("[2001:db8:20::2]:8080")
	d := newDirectorWith(t, 1, conntrack.Options{Capacity: 64}, both, serving(vip, "-F", server.String())...)
	ask := testpkt.UDP(cip, vip).Size(14 + 1400)
	sent := d.client(ask)
	router := netip.MustParseAddr("2001:db8:99::9")
	out := d.send(0, 1, about(router, sent.Src.Addr(), 2, 0, 1300, sent.Frame[14:], 0))
	if len(out.toClients) != 1 || out.toClients[0].ICMPRest != 1280 {
		t.Fatalf("the client is told %+v", out.toClients)
	}
	pieces := d.exchange(0, ask.Bytes())[1]
	whole, err := testpkt.Reassemble(pieces)
	if err != nil || len(pieces) != 2 || len(pieces[0])-14 > 1300 {
		t.Fatalf("%d pieces, the first of %d bytes: %v", len(pieces), len(pieces[0])-14, err)
	}
	if v := testpkt.Decode(t, whole).MustHold(t); v.Dst != server || v.Length != 1420 {
		t.Errorf("to %s, %d bytes", v.Dst, v.Length)
	}
	if out := d.stopped(testpkt.UDP(cip, vip).DF().Size(14+1281), reason.TooBig); len(out.toClients) != 1 || out.toClients[0].ICMPRest != 1280 {
		t.Errorf("told %+v", out.toClients)
	}
}

// Datagrams in pieces cross between the families in both directions, in any order.
func TestDatagramsInPiecesCrossFamilies(t *testing.T) {
	for _, w := range everyWay() {
		if w.mode != "-F" || w.to6 == w.client.Addr().Is6() {
			continue
		}
		t.Run(w.String(), func(t *testing.T) {
			d := newDirector6(t, 2, serving(w.vip, "-F", w.server.String())...)
			for round, size := range []int{1460, 1473, 3000, 9000, 60_000} {
				payload := testpkt.Pattern(size)
				for _, reversed := range []bool{false, true} {
					fly := func(iface int, src, dst netip.AddrPort) (frames [][]byte) {
						list := pieces(testpkt.UDP(src, dst).Payload(payload), uint32(round), 1480-8*map[bool]int{true: 6, false: 0}[src.Addr().Is6()])
						for i := range list {
							if reversed {
								i = len(list) - 1 - i
							}
							worker := i % 2
							if !d.queues[worker][iface].Inject(list[i]) {
								t.Fatal("queue full")
							}
							d.workers[worker].Turn()
							for _, frame := range d.queues[worker][1-iface].Sent() {
								if len(frame) > 1514 {
									t.Fatalf("a frame of %d bytes", len(frame))
								}
								frames = append(frames, frame)
							}
						}
						return frames
					}
					arrived := func(frames [][]byte) *testpkt.View {
						whole, err := testpkt.Reassemble(frames)
						if err != nil {
							t.Fatalf("%d bytes in %d pieces: %v; %v", size, len(frames), err, stops(d))
						}
						v := testpkt.Decode(t, whole).MustHold(t)
						if !bytes.Equal(v.Payload, payload) {
							t.Fatal("the payload has changed")
						}
						return v
					}
					asked := fly(0, w.client, w.vip)
					if len(asked) == 1 { // it had to be no longer than that
						continue
					}
					v := arrived(asked)
					if v.Dst != w.server || v.Src.Addr().Is6() != w.to6 {
						t.Fatalf("%s -> %s", v.Src, v.Dst)
					}
					if back := arrived(fly(1, v.Dst, v.Src)); back.Src != w.vip || back.Dst != w.client {
						t.Fatalf("the answer came as %s -> %s", back.Src, back.Dst)
					}
				}
			}
		})
	}
}

// IPv6 wants a checksum over what only the receiver of an IPv4 datagram in pieces has whole (RFC 7915 section 4.5).
func TestADatagramInPiecesWithoutAChecksumDoesNotCross(t *testing.T) {
	d := newDirector6(t, 1, serving(vip, "-F", "[2001:db8:20::2]:8080")...)
	frames := pieces(testpkt.UDP(cip, vip).NoChecksum().Payload(testpkt.Pattern(3000)), 7, 1480)
	for _, i := range []int{1, 0, 2} {
		if left := d.exchange(0, frames[i]); len(left[0])+len(left[1]) != 0 {
			t.Fatalf("piece %d left", i)
		}
	}
	if n := d.counters().Reasons[reason.CannotCross]; n != 3 {
		t.Errorf("%d stopped: %v", n, stops(d))
	}
	// A whole one gets its checksum.
	if v := d.client(testpkt.UDP(cip, vip).NoChecksum().Text("x")); v.ZeroUDP {
		t.Error("no checksum")
	}
}

// A TUN client that moves is told of its tunnel where it is now.
func TestErrorsAboutATunnelFollowTheClient(t *testing.T) {
	f := families[0]
	d := newFamilyDirector(t, 1, f, "-i")
	ask := testpkt.UDP(f.client, f.vip).DF().Payload(testpkt.Pattern(1372))
	sent := d.client(ask)
	for n := uint16(1); n <= 3; n++ {
		way := testpkt.MAC(0x90 + n)
		d.client(ask.From(way).VLAN(n))
		out := d.send(0, 1, about(routers[f.name], sent.Src.Addr(), 3, 4, 1400, sent.Frame[14:], 500))
		if len(out.toClients) != 1 || out.toClients[0].DstMAC.String() != way.String() || len(out.toClients[0].VLANs) != 1 || out.toClients[0].VLANs[0] != n {
			t.Fatalf("after the client moved to %s in VLAN %d: %+v", way, n, out.toClients)
		}
		d.sleep(601) // what was learnt is forgotten
		sent = d.client(ask)
	}
}

// A first fragment of a connection between IP versions that is wrong in its header stops: IPv6 has nothing that could stay wrong.
func TestAWrongHeaderChecksumDoesNotCross(t *testing.T) {
	d := newDirector6(t, 1, serving(vip, "-F", "[2001:db8:20::2]:8080")...)
	d.client(testpkt.UDP(cip, vip).Text("x"))
	frame := testpkt.UDP(cip, vip).Text("y").Bytes()
	wrong(10)(frame[14:])
	if left := d.exchange(0, frame); len(left[0])+len(left[1]) != 0 || d.counters().Reasons[reason.BadIPHeader] != 1 {
		t.Errorf("%x left; %v", left, stops(d))
	}
}
