package control_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"weir/internal/testpkt"
	"weir/lb"
)

// tagging is one way to tag frames.
type tagging struct {
	service bool
	ids     []uint16
}

var (
	untagged = tagging{}
	vlan10   = tagging{ids: []uint16{10}}
	vlan20   = tagging{ids: []uint16{20}}
	twoTags  = tagging{ids: []uint16{10, 4094}}
	qinq     = tagging{true, []uint16{300, 11}}
	service  = tagging{true, []uint16{300}}
	priority = tagging{ids: []uint16{0}} // no VLAN, but a tag
)

var taggings = []tagging{untagged, vlan10, vlan20, twoTags, qinq, service, priority}

func (g tagging) on(p testpkt.Packet) testpkt.Packet {
	if p = p.VLAN(g.ids...); g.service {
		return p.ServiceTag()
	}
	return p
}

func (g tagging) vlans() (v lb.VLANs) {
	for i, id := range g.ids {
		etherType := uint16(lb.CustomerTag)
		if g.service && i == 0 {
			etherType = lb.ServiceTag
		}
		v = v.Push(etherType, id)
	}
	return v
}

func (g tagging) String() string { return "[" + g.vlans().String() + "]" }

// header returns an Ethernet header without its addresses: tags, all of priority 0, and EtherType.
func (g tagging) header(is6 bool) (b []byte) {
	for i, id := range g.ids {
		b = append(b, 0x81, 0)
		if g.service && i == 0 {
			b = append(b[:len(b)-2], 0x88, 0xa8)
		}
		b = binary.BigEndian.AppendUint16(b, id)
	}
	if is6 {
		return append(b, 0x86, 0xdd)
	}
	return append(b, 8, 0)
}

// wantTags fails the test unless a frame has exactly these tags, and looks well without them.
func wantTags(t *testing.T, frame []byte, g tagging) *testpkt.View {
	t.Helper()
	v := testpkt.Decode(t, frame).MustHold(t)
	if header := g.header(v.Src.Addr().Is6()); !bytes.HasPrefix(frame[12:], header) || len(v.VLANs) != len(g.ids) {
		t.Errorf("tags and type %x, want %x", frame[12:min(len(frame), 24)], header)
	}
	return v
}

// Frames to a server have the path's tags, frames to a client those that its own came with, whatever the other side has.
func TestTagsOfEverySide(t *testing.T) {
	for _, front := range taggings {
		for _, back := range taggings {
			everyModeOfEveryFamily(t, func(t *testing.T, f family, mode string) {
				t.Run(fmt.Sprint(front, back), func(t *testing.T) { wantTagsKept(t, f, mode, front, back) })
			})
		}
	}
}

func newTagDirector(t *testing.T, f family, mode string, back tagging) *director {
	d := newFamilyDirector(t, 1, f, mode)
	d.paths.vlans = back.vlans()
	d.store.PathChanged(lb.AddrFrom(f.server.Addr()))
	return d
}

func wantTagsKept(t *testing.T, f family, mode string, front, back tagging) {
	udp := func(src, dst netip.AddrPort) testpkt.Packet { return testpkt.UDP(src, dst).Text("tagged") }
	d := newTagDirector(t, f, mode, back)
	ask := front.on(udp(f.client, f.vip)).Bytes()
	if len(front.ids) > 0 {
		ask[14] |= 0xe0 // the client's priority, which is none of the servers' business
	}
	var out *testpkt.View
	for range 2 {
		left := d.exchange(0, ask)
		if len(left[1]) != 1 || len(left[0]) != 0 {
			t.Fatalf("%d frames to the server; %v", len(left[1]), stops(d))
		}
		out = wantTags(t, left[1][0], back)
		if len(out.Frame) != 14+4*len(back.ids)+out.Length || out.DstMAC.String() != net.HardwareAddr(hwOf(f.server.Addr())).String() {
			t.Errorf("%d bytes to %s", len(out.Frame), out.DstMAC)
		}
		if inner := inside(out); string(inner.Payload) != "tagged" || inner.TTL != 63 {
			t.Errorf("carries %+v", inner)
		}
	}

	// An error about the answer goes to the server, and one that is due to the client itself.
	answer := udp(f.vip, f.client)
	errorType := map[string][2]uint8{"IPv4": {3, 1}, "IPv6": {1, 3}}[f.name]
	left := d.exchange(0, front.on(testpkt.ICMPError(routers[f.name], f.vip.Addr(), errorType[0], errorType[1], 0, answer)).Bytes())
	if len(left[1]) != 1 {
		t.Fatalf("an error reached %d servers; %v", len(left[1]), stops(d))
	}
	wantTags(t, left[1][0], back)
	if left = d.exchange(0, front.on(udp(f.client, f.vip).TTL(1)).Bytes()); len(left[0]) != 1 {
		t.Fatalf("%d answers to the client; %v", len(left[0]), stops(d))
	}
	wantTags(t, left[0][0], front)

	// Fragments, of which the last comes first.
	big := testpkt.UDP(f.client, f.vip).Payload(testpkt.Pattern(2000))
	parts := pieces(big, 77, 1200)
	var sent [][]byte
	for _, i := range []int{1, 0} {
		frame := append(append([]byte{}, parts[i][:12]...), front.header(f.name == "IPv6")...)
		left := d.exchange(0, append(frame, parts[i][14:]...))
		sent = append(sent, left[1]...)
	}
	if len(sent) != 2 {
		t.Fatalf("%d fragments reached the server; %v", len(sent), stops(d))
	}
	for _, frame := range sent {
		wantTags(t, frame, back)
	}

	if mode == "-g" || mode == "-i" {
		return
	}
	wantAnswers := func(g tagging) {
		t.Helper()
		left := d.exchange(1, back.on(testpkt.UDP(f.server, out.Src).Text("answer")).Bytes())
		if len(left[0]) != 1 {
			t.Fatalf("%d frames to the client; %v", len(left[0]), stops(d))
		}
		want := g.on(testpkt.UDP(f.vip, f.client).Text("answer").TTL(63).From(clientSide.MAC[:]).To(testpkt.ClientMAC)).Bytes()
		if !bytes.Equal(left[0][0], want) {
			t.Errorf("the client gets\n%x, want\n%x", left[0][0], want)
		}
	}
	wantAnswers(front)
	// The client is in another VLAN now, with the same MAC address, and back again.
	for _, g := range []tagging{{ids: []uint16{77}}, {true, []uint16{77, 78}}, untagged, front} {
		d.exchange(0, g.on(udp(f.client, f.vip)).Bytes())
		wantAnswers(g)
	}
	// What a router says of the client's packet, on the servers' side.
	asked := udp(out.Src, f.server).TTL(60)
	left = d.exchange(1, back.on(testpkt.ICMPError(f.server.Addr(), out.Src.Addr(), errorType[0], errorType[1], 0, asked)).Bytes())
	if len(left[0]) != 1 {
		t.Fatalf("an error reached %d clients; %v", len(left[0]), stops(d))
	}
	wantTags(t, left[0][0], front)
}

// An error about weir's own outer packet, from the servers' side, becomes one to the client, with the client's tags.
func TestErrorsAboutTunnelsHaveTheClientsTags(t *testing.T) {
	for _, front := range taggings {
		for _, back := range taggings {
			for _, f := range families {
				d := newTagDirector(t, f, "-i", back)
				sent := testpkt.Decode(t, d.exchange(0, front.on(testpkt.UDP(f.client, f.vip).DF().Size(1400)).Bytes())[1][0])
				typ, code := uint8(3), uint8(4)
				if f.name == "IPv6" {
					typ, code = 2, 0
				}
				ip := sent.Frame[14+4*len(back.ids):]
				left := d.exchange(1, back.on(about(routers[f.name], sent.Src.Addr(), typ, code, 1300, ip, 500)).Bytes())
				if len(left[0]) != 1 || len(left[1]) != 0 {
					t.Fatalf("%s %s %s: %d frames to the client; %v", f.name, front, back, len(left[0]), stops(d))
				}
				if v := wantTags(t, left[0][0], front); v.ICMPType != typ || v.Dst.Addr() != f.client.Addr() {
					t.Errorf("the client is told %+v", v.IP)
				}
			}
		}
	}
}

// FULLNAT between two IP versions, and the errors about it, each with the tags of the side they leave by.
func TestTagsAcrossFamilies(t *testing.T) {
	for _, front := range taggings {
		for _, back := range taggings {
			for i, f := range families {
				other := families[1-i]
				cross := f
				cross.server = other.server
				d := newTagDirector(t, cross, "-F", back)
				left := d.exchange(0, front.on(testpkt.UDP(f.client, f.vip).Text("ask")).Bytes())
				if len(left[1]) != 1 {
					t.Fatalf("%s %s %s: %d frames to the server; %v", f.name, front, back, len(left[1]), stops(d))
				}
				asked := wantTags(t, left[1][0], back)
				left = d.exchange(1, back.on(testpkt.UDP(other.server, asked.Src).Text("answer")).Bytes())
				if len(left[0]) != 1 {
					t.Fatalf("%s %s %s: %d frames to the client; %v", f.name, front, back, len(left[0]), stops(d))
				}
				if v := wantTags(t, left[0][0], front); v.Src != f.vip || string(v.Payload) != "answer" {
					t.Errorf("the client gets %+v", v.IP)
				}
				refused := map[string][2]uint8{"IPv4": {3, 3}, "IPv6": {1, 4}}[other.name]
				left = d.exchange(1, back.on(about(other.server.Addr(), asked.Src.Addr(), refused[0], refused[1], 0, asked.Frame[14+4*len(back.ids):], 0)).Bytes())
				if len(left[0]) != 1 {
					t.Fatalf("%s %s %s: %d errors to the client; %v", f.name, front, back, len(left[0]), stops(d))
				}
				wantTags(t, left[0][0], front)
			}
		}
	}
}
