package control_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"weir/dataplane/reason"
	"weir/internal/testpkt"
)

// headers are what may stand between IPv6's own header and layer 4, and what becomes of a packet that has them.
var headers = []struct {
	name string
	add  func(testpkt.Packet) testpkt.Packet
	why  reason.Reason // None: it is forwarded
}{
	{"options for every hop", func(p testpkt.Packet) testpkt.Packet { return p.Extension(0, 5, 2, 0, 0) }, reason.None},
	{"destination options of 264 bytes", func(p testpkt.Packet) testpkt.Packet {
		return p.Extension(60, append([]byte{1, 255}, make([]byte, 255)...)...)
	}, reason.None},
	{"a route at its end", func(p testpkt.Packet) testpkt.Packet { return p.Extension(43, 2, 0, 0, 0, 0, 0) }, reason.None},
	{"an atomic fragment", func(p testpkt.Packet) testpkt.Packet { return p.Extension(44) }, reason.None},
	{"an atomic fragment with its reserved bits set", func(p testpkt.Packet) testpkt.Packet { return p.Extension(44, 0, 6, 1, 2, 3, 4) }, reason.None},
	{"all of them", func(p testpkt.Packet) testpkt.Packet {
		return p.Extension(0).Extension(60).Extension(43).Extension(44).Extension(60)
	}, reason.None},
	{"one more", func(p testpkt.Packet) testpkt.Packet {
		return p.Extension(0).Extension(60).Extension(43).Extension(44).Extension(60).Extension(60)
	}, reason.NotL4},
	{"a route that is not at its end", func(p testpkt.Packet) testpkt.Packet { return p.Extension(43, 0, 1) }, reason.NotL4},
	{"options for every hop that are not first", func(p testpkt.Packet) testpkt.Packet { return p.Extension(60).Extension(0) }, reason.NotL4},
}

func TestExtensionHeadersInEveryMode(t *testing.T) {
	f := families[1]
	for _, mode := range []string{"-g", "-m", "-F", "-i"} {
		for _, h := range headers {
			for _, proto := range []string{"TCP", "UDP"} {
				t.Run(mode+proto+" "+h.name, func(t *testing.T) {
					d := newOddDirector(t, f, mode)
					packet := func(src, dst netip.AddrPort) testpkt.Packet {
						if proto == "TCP" {
							return h.add(testpkt.TCP(src, dst, testpkt.SYN).MSS(1400))
						}
						return h.add(testpkt.UDP(src, dst).Text("odd"))
					}
					for range 2 {
						frame := packet(f.client, f.vip).Bytes()
						left := d.exchange(0, frame)
						if h.why != reason.None {
							if len(left[1]) != 0 || d.counters().Reasons[h.why] == 0 || !bytes.Equal(d.host.frames[0], frame) {
								t.Errorf("%d frames to the server; %v", len(left[1]), stops(d))
							}
							continue
						}
						if len(left[1]) != 1 {
							t.Fatalf("%d frames to the server; %v", len(left[1]), stops(d))
						}
						got := left[1][0]
						f := f
						if mode == "-F" { // the local port stands behind the extension headers
							f.headers = len(frame) - map[string]int{"TCP": 24, "UDP": 8 + 3}[proto]
						}
						wantAtServer(t, f, mode, func(src, dst netip.AddrPort) testpkt.Packet { return packet(src, dst).TTL(63) }, nil, nil, got)
						if mode == "-g" || mode == "-i" {
							continue
						}
						to := testpkt.Decode(t, got).Src
						left = d.exchange(1, packet(f.server, to).Bytes())
						want := packet(f.vip, f.client).TTL(63).From(clientSide.MAC[:]).To(testpkt.ClientMAC).Bytes()
						if len(left[0]) != 1 || !bytes.Equal(left[0][0], want) {
							t.Errorf("the client gets\n%x, want\n%x", left[0], want)
						}
					}
				})
			}
		}
	}
}

// Between the families neither IPv4's options nor IPv6's extension headers go along (RFC 7915 sections 4.1 and 5.1), whatever their length,
// and padding behind the packet does not become part of it.
func TestHeadersThatDoNotCross(t *testing.T) {
	for i, f := range families {
		other := families[1-i]
		cross := f
		cross.server = other.server
		d := newFamilyDirector(t, 1, cross, "-F")
		var asks []testpkt.Packet
		ask := testpkt.UDP(f.client, f.vip).Text("odd")
		if f.name == "IPv4" {
			for n := 4; n <= 40; n += 4 {
				asks = append(asks, ask.Options(append([]byte{222, byte(n)}, make([]byte, n-2)...)...))
			}
		} else {
			for _, h := range headers {
				if h.why == reason.None {
					asks = append(asks, h.add(ask))
				}
			}
		}
		for n, p := range asks {
			for _, tags := range []tagging{untagged, vlan10, qinq} {
				left := d.exchange(0, append(tags.on(p).Bytes(), "padding that is none"...))
				if len(left[1]) != 1 {
					t.Fatalf("%s, %d: %d frames to the server; %v", f.name, n, len(left[1]), stops(d))
				}
				v := testpkt.Decode(t, left[1][0]).MustHold(t)
				want := testpkt.UDP(v.Src, other.server).Text("odd").TTL(63).ID(v.ID).From(serverSide.MAC[:]).To(hwOf(other.server.Addr())).Bytes()
				if got := left[1][0][:min(len(left[1][0]), len(want))]; !bytes.Equal(got, want) || v.Src.Addr() != other.local.Addr() {
					t.Errorf("%s, %d: the server gets\n%x, want\n%x", f.name, n, got, want)
				}
			}
		}
	}
}

// A fragment header with others in front of it is a fragment's like any other.
func TestFragmentsBehindExtensionHeaders(t *testing.T) {
	f := families[1]
	for _, mode := range []string{"-g", "-m", "-F", "-i", "across"} {
		for _, first := range []int{0, 1} {
			t.Run(fmt.Sprint(mode, first), func(t *testing.T) {
				f, flag := f, mode
				if mode == "across" {
					f.server, flag = families[0].server, "-F"
				}
				d := newFamilyDirector(t, 1, f, flag)
				payload := testpkt.Pattern(1000)
				whole := testpkt.UDP(f.client, f.vip).Payload(payload).Bytes()[54:]
				part := func(from, to int) testpkt.Packet {
					p := testpkt.UDP(f.client, f.vip)
					if from == 0 { // the length and the checksum are the whole's
						return testpkt.Raw(f.client.Addr(), f.vip.Addr(), 17).Payload(whole[:to]).Fragment(0, true).Extension(60)
					}
					return p.Payload(whole[from:to]).Fragment(uint16(from), to < len(whole)).Extension(60)
				}
				parts := [][]byte{part(0, 800).Bytes(), part(800, len(whole)).Bytes()}
				var sent [][]byte
				for _, i := range []int{first, 1 - first} {
					sent = append(sent, d.exchange(0, parts[i])[1]...)
				}
				if len(sent) != 2 {
					t.Fatalf("%d frames to the server; %v", len(sent), stops(d))
				}
				var data []byte
				var ids []uint16
				slices.SortFunc(sent, func(a, b []byte) int {
					return inside(testpkt.Decode(t, a)).Offset - inside(testpkt.Decode(t, b)).Offset
				})
				for _, frame := range sent {
					v := inside(testpkt.Decode(t, frame))
					ids = append(ids, v.ID)
					data = append(data, frame[len(frame)-(v.Length-len(v.Header)):]...)
				}
				if len(data) != len(whole) || !bytes.Equal(data[8:], payload) || ids[0] != ids[1] {
					t.Errorf("%d bytes arrived in pieces of %v, want %d", len(data), ids, len(whole))
				}
			})
		}
	}
}
