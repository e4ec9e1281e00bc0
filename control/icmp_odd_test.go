package control_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"weir/conntrack"
	"weir/dataplane/reason"
	"weir/internal/testpkt"
	"weir/lb"
)

// ICMP errors as few senders make them: broken on their way, with options inside and outside, with extensions behind what they quote.

// tooBigOf is the error that tells an MTU, by family.
var tooBigOf = map[string][2]uint8{"IPv4": {3, 4}, "IPv6": {2, 0}}

// An error that weir makes anew, because it is about a tunnel or crosses families, would come out sound. So a broken one stops, and nobody
// learns an MTU from it.
func TestWhatABrokenErrorSaysIsNotRepeated(t *testing.T) {
	for _, c := range []struct {
		front, back family
		mode        string
	}{
		{families[0], families[0], "-i"}, {families[1], families[1], "-i"}, {families[0], families[1], "-F"}, {families[1], families[0], "-F"},
	} {
		for what, at := range map[string]int{"the checksum": 2, "the MTU": 6, "what is quoted": 8 + 60} {
			t.Run(fmt.Sprint(c.front.name, " to ", c.back.name, c.mode, ", ", what), func(t *testing.T) {
				f := c.front
				f.server = c.back.server
				d := newFamilyDirector(t, 1, f, c.mode)
				sent := d.client(testpkt.UDP(f.client, f.vip).DF().Payload(testpkt.Pattern(1372)))
				e := tooBigOf[c.back.name]
				frame := about(routers[c.back.name], sent.Src.Addr(), e[0], e[1], 1300, sent.Frame[14:], 500).Bytes()
				broken := slices.Clone(frame)
				broken[c.back.headers+at] ^= 0x40
				if left := d.exchange(1, broken); len(left[0])+len(left[1]) != 0 || len(d.shared.PathMTUs()) != 0 {
					t.Errorf("%d frames left, and %v was learnt; %v", len(left[0])+len(left[1]), d.shared.PathMTUs(), stops(d))
				}
				if left := d.exchange(1, frame); len(left[0]) != 1 {
					t.Errorf("as it was sent: %d frames left; %v", len(left[0]), stops(d))
				}
				if c.back.name == "IPv4" {
					wrong(10)(frame[14:])
					if left := d.exchange(1, frame); len(left[0])+len(left[1]) != 0 {
						t.Errorf("with a wrong IP checksum: %d frames left", len(left[0])+len(left[1]))
					}
				}
			})
		}
	}
}

// An error's own IP options, and those of the packet that it is about, are stepped over; the addresses and ports behind them change all the same.
func TestErrorsWithOptionsInAndAroundThem(t *testing.T) {
	everyModeOfEveryFamily(t, func(t *testing.T, f family, mode string) {
		d := newFamilyDirector(t, 1, f, mode)
		asked := d.client(testpkt.UDP(f.client, f.vip))
		e := errors4and6[f.name][1]
		answer := testpkt.UDP(f.vip, f.client).Text("answer")
		for n, quotes := range map[string]testpkt.Packet{
			"none":                      answer,
			"4 bytes":                   answer.Options(148, 4, 0, 0),
			"40 bytes":                  answer.Options(append([]byte{7, 39, 4}, make([]byte, 36)...)...),
			"destination options":       answer.Extension(60),
			"for every hop, and others": answer.Extension(0, 5, 2, 0, 0).Extension(60).Extension(43, 0, 0),
			"an atomic fragment":        answer.Extension(60).Extension(44),
		} {
			for _, own := range []bool{false, true} {
				packet := testpkt.ICMPError(routers[f.name], f.vip.Addr(), e.typ, e.code, e.rest, quotes)
				if own && f.name == "IPv4" {
					packet = packet.Options(148, 4, 0, 0)
				} else if own {
					packet = packet.Extension(0, 5, 2, 0, 0).Extension(60)
				}
				out := d.send(0, 0, packet)
				if len(out.toServers) != 1 {
					t.Errorf("%s (own: %t): %d to servers; %v", n, own, len(out.toServers), stops(d))
					continue
				}
				got := inside(out.toServers[0])
				q := quoted(t, got)
				wantSrc, wantDst := f.vip, f.client
				if mode == "-m" || mode == "-F" {
					wantSrc = f.server
				}
				if mode == "-F" {
					wantDst = asked.Src
				}
				if q.Src != wantSrc || q.Dst != wantDst || got.Checksums != nil || len(q.Header) != len(quotes.Bytes())-14-len("answer")-8 {
					t.Errorf("%s (own: %t): about %s -> %s, want %s -> %s; %v", n, own, q.Src, q.Dst, wantSrc, wantDst, got.Checksums)
				}
			}
		}
	})
}

// extended returns the payload of an error with an extension behind what it quotes, of n bytes, and what its second word has to say of it
// (RFC 4884): where the extension begins, in words of 32 bits over IPv4 and of 64 over IPv6.
func extended(f family, ip []byte, n int) (payload []byte, rest uint32) {
	payload = append(slices.Clone(ip[:min(len(ip), n)]), make([]byte, max(0, n-len(ip)))...)
	object := []byte{0x20, 0, 0, 0, 0, 8, 1, 1, 0, 0x10, 0x11, 0x40} // version 2; an MPLS label (RFC 4950)
	binary.BigEndian.PutUint16(object[2:], ^words(0, object))
	if f.name == "IPv6" {
		return append(payload, object...), uint32(n/8) << 24
	}
	return append(payload, object...), uint32(n/4) << 16
}

// An extension travels along, where an error is rewritten; it is no part of what is quoted, where one is made anew.
func TestExtendedErrors(t *testing.T) {
	unreachable := map[string][2]uint8{"IPv4": {3, 1}, "IPv6": {1, 3}}
	everyModeOfEveryFamily(t, func(t *testing.T, f family, mode string) {
		for _, size := range []int{10, 400} { // padded to 128 bytes, and cut
			d := newFamilyDirector(t, 1, f, mode)
			asked := d.client(testpkt.UDP(f.client, f.vip).Payload(testpkt.Pattern(size)))
			e := unreachable[f.name]
			payload, rest := extended(f, testpkt.UDP(f.vip, f.client).Payload(testpkt.Pattern(size)).Bytes()[14:], 128)
			out := d.send(0, 0, about(routers[f.name], f.vip.Addr(), e[0], e[1], rest, payload, 0))
			if len(out.toServers) != 1 {
				t.Fatalf("%d to servers; %v", len(out.toServers), stops(d))
			}
			got := inside(out.toServers[0])
			if got.ICMPRest != rest || len(got.Payload) != len(payload) || !bytes.Equal(got.Payload[128:], payload[128:]) || got.Checksums != nil {
				t.Errorf("%x, %x, want an unchanged extension of\n%x; %v", got.ICMPRest, got.Payload, payload, got.Checksums)
			}
			if mode != "-i" {
				continue
			}
			// About the tunnel: its client gets an error about its own packet, and nothing behind it.
			payload, rest = extended(f, asked.Frame[14:], 128)
			out = d.send(0, 1, about(routers[f.name], asked.Src.Addr(), e[0], e[1], rest, payload, 0))
			if len(out.toClients) != 1 {
				t.Fatalf("%d to clients; %v", len(out.toClients), stops(d))
			}
			told := out.toClients[0].MustHold(t)
			own := testpkt.UDP(f.client, f.vip).TTL(63).Payload(testpkt.Pattern(size)).Bytes()[14:]
			if outer := f.headers - 14; told.ICMPRest != 0 || !bytes.Equal(told.Payload, own[:min(len(own), 128-outer)]) {
				t.Errorf("of %d bytes, the client is told %x about\n%x, want\n%x", size, told.ICMPRest, told.Payload, own)
			}
		}
	})
	for i, f := range families {
		other := families[1-i]
		f.server = other.server
		d := newFamilyDirector(t, 1, f, "-F")
		asked := d.client(testpkt.UDP(f.client, f.vip).Payload(testpkt.Pattern(400)))
		e := unreachable[other.name]
		payload, rest := extended(other, asked.Frame[14:], 128)
		out := d.send(0, 1, about(routers[other.name], asked.Src.Addr(), e[0], e[1], rest, payload, 0))
		if len(out.toClients) != 1 {
			t.Fatalf("%s: %d to clients; %v", f.name, len(out.toClients), stops(d))
		}
		told := out.toClients[0].MustHold(t)
		if n := 128 - (other.headers - 14) + f.headers - 14; told.ICMPRest != 0 || len(told.Payload) != n || !bytes.Equal(told.Payload[f.headers-14+8:], testpkt.Pattern(400)[:n-(f.headers-14+8)]) {
			t.Errorf("%s: told %x about %d bytes, want %d:\n%x", f.name, told.ICMPRest, len(told.Payload), n, told.Payload)
		}
	}
}

// "Packet too big" below 1,280 bytes, which the way to an IPv4 host may say by a translator (RFC 8200 section 5), goes on as it is; weir's own
// packets are no smaller for it.
func TestAnMTUBelowTheLeastOfIPv6(t *testing.T) {
	f := families[1]
	for _, mode := range []string{"-g", "-m", "-F", "-i"} {
		d := newFamilyDirector(t, 1, f, mode)
		sent := d.client(testpkt.UDP(f.client, f.vip))
		out := d.send(0, 0, about(routers[f.name], f.vip.Addr(), 2, 0, 1000, testpkt.UDP(f.vip, f.client).Text("answer").Bytes()[14:], 0))
		if len(out.toServers) != 1 || inside(out.toServers[0]).ICMPRest != 1000 {
			t.Errorf("%s: the server is told %+v", mode, out.toServers)
		}
		switch out = d.send(0, 1, about(routers[f.name], sent.Src.Addr(), 2, 0, 1000, sent.Frame[14:], 0)); {
		case mode == "-m" || mode == "-F":
			if len(out.toClients) != 1 || out.toClients[0].ICMPRest != 1000 {
				t.Errorf("%s: the client is told %+v", mode, out.toClients)
			}
		case mode == "-i":
			if got := d.shared.PathMTUs()[lb.AddrFrom(f.server.Addr())]; len(out.toClients) != 1 || out.toClients[0].ICMPRest != 1280 || got != 1280 {
				t.Errorf("%s: the client is told %+v, %d is learnt", mode, out.toClients, got)
			}
		}
	}
}

// A TTL that ends on the way back, or between two families: whoever sent the packet is told, in its own family.
func TestTTLThatEndsOnTheWayBack(t *testing.T) {
	for _, w := range everyWay() {
		if w.mode != "-m" && w.mode != "-F" {
			continue
		}
		t.Run(w.String(), func(t *testing.T) {
			d := newDirector6(t, 1, serving(w.vip, w.mode, w.server.String())...)
			asked := d.client(testpkt.UDP(w.client, w.vip))
			for _, ttl := range []uint8{0, 1} {
				d.now++
				wantTold := func(left [][]byte, to, from netip.Addr, about netip.AddrPort) {
					t.Helper()
					if len(left) != 1 {
						t.Fatalf("TTL %d: %d errors; %v", ttl, len(left), stops(d))
					}
					v := testpkt.Decode(t, left[0]).MustHold(t)
					typ := uint8(11)
					if to.Is6() {
						typ = 3
					}
					if src, _, _, err := v.Quoted(); v.ICMPType != typ || v.ICMPCode != 0 || v.Dst.Addr() != to || v.Src.Addr() != from || src != about || err != nil {
						t.Errorf("TTL %d: %s tells %s %d/%d about %s", ttl, v.Src, v.Dst, v.ICMPType, v.ICMPCode, src)
					}
				}
				left := d.exchange(0, testpkt.UDP(w.client, w.vip).TTL(ttl).Bytes())
				wantTold(left[0], w.client.Addr(), w.vip.Addr(), w.client)
				source := serverSide.Addr
				if w.to6 {
					source = serverSide.Addr6
				}
				left = d.exchange(1, testpkt.UDP(asked.Dst, asked.Src).TTL(ttl).Bytes())
				wantTold(left[1], asked.Dst.Addr(), source.Netip(), asked.Dst)
			}
		})
	}
}

// A TUN server may serve others by NAT, and the host itself: what is UDP to it need not be a tunnel's.
func TestErrorsAboutWhatElseATunnelServerGets(t *testing.T) {
	for _, f := range families {
		for _, mode := range []string{"-m", "-F"} {
			d := newFamilyDirector(t, 1, f, mode)
			tunnelled := netip.AddrPortFrom(f.vip.Addr(), 99)
			d.apply(append(serving(f.vip, mode, f.server.String()),
				fmt.Sprintf("-A -u %s -s rr", tunnelled), fmt.Sprintf("-a -u %s -r %s -i --tun-type gue --tun-port 6080 --tun-csum", tunnelled, f.server))...)
			e := errors4and6[f.name][1]
			for n, payload := range [][]byte{nil, {0, 4, 0, 0}, make([]byte, 100), {0, 41, 0, 0, 0x60, 1, 2}} {
				asked := d.client(testpkt.UDP(f.client, f.vip).Payload(payload))
				out := d.send(0, 1, about(f.server.Addr(), asked.Src.Addr(), e.typ, e.code, e.rest, asked.Frame[14:], 0))
				if len(out.toClients) != 1 || quoted(t, &out.toClients[0].IP).Src != f.client {
					t.Errorf("%s%s, %d: %d to clients; %v", f.name, mode, n, len(out.toClients), stops(d))
				}
				dip := serverSide.Addr
				if f.name == "IPv6" {
					dip = serverSide.Addr6
				}
				own := testpkt.UDP(netip.AddrPortFrom(dip.Netip(), 50_000), netip.AddrPortFrom(f.server.Addr(), 514)).Payload(payload)
				frame := about(f.server.Addr(), dip.Netip(), e.typ, e.code, e.rest, own.Bytes()[14:], 0).Bytes()
				d.exchange(1, frame)
				if got := d.host.frames; len(got) != n+1 || !bytes.Equal(got[n], frame) {
					t.Errorf("%s%s, %d: the host got %d errors about its own packets; %v", f.name, mode, n, len(got), stops(d))
				}
			}
		}
	}
}

// An error whose own TTL ends here is nobody's to be told of, in any mode.
func TestErrorsThatEndHere(t *testing.T) {
	everyModeOfEveryFamily(t, func(t *testing.T, f family, mode string) {
		d := newFamilyDirector(t, 1, f, mode)
		d.client(testpkt.UDP(f.client, f.vip))
		e := errors4and6[f.name][0]
		for _, ttl := range []uint8{0, 1} {
			out := d.stopped(about(routers[f.name], f.vip.Addr(), e.typ, e.code, 0, testpkt.UDP(f.vip, f.client).Bytes()[14:], 0).TTL(ttl), reason.TTLExceeded)
			if len(out.toClients)+len(out.toServers) != 0 {
				t.Errorf("TTL %d: %d packets left", ttl, len(out.toClients)+len(out.toServers))
			}
		}
	})
}

// An error about a tunnel reaches its client whatever source the tunnel has.
func TestErrorsAboutTunnelsWhoseSourcesVary(t *testing.T) {
	for block, f := range map[string]family{"10.77.0.0/16": families[0], "2001:db8:77::/64": families[1]} {
		o, prefix := both, netip.MustParsePrefix(block)
		o.TunnelSources = []lb.Prefix{{Addr: lb.AddrFrom(prefix.Addr()), Bits: prefix.Bits()}}
		d := newDirectorWith(t, 1, conntrack.Options{Capacity: 64}, o, serving(f.vip, "-i", f.server.String())...)
		sent := d.client(testpkt.UDP(f.client, f.vip).DF().Size(1400))
		e := tooBigOf[f.name]
		out := d.send(0, 1, about(routers[f.name], sent.Src.Addr(), e[0], e[1], 1300, sent.Frame[14:], 500))
		if !prefix.Contains(sent.Src.Addr()) || len(out.toClients) != 1 || out.toClients[0].Dst.Addr() != f.client.Addr() {
			t.Errorf("about a tunnel from %s: %d to clients; %v", sent.Src, len(out.toClients), stops(d))
		}
	}
}
