package control_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"weir/conntrack"
	"weir/internal/testpkt"
)

// mssOf returns the MSS that a segment built with no other option names.
func mssOf(t *testing.T, v *testpkt.View) int {
	t.Helper()
	frame := v.Frame
	options := frame[len(frame)-4:]
	if options[0] != 2 || options[1] != 4 {
		t.Fatalf("no MSS in %x", frame)
	}
	return int(binary.BigEndian.Uint16(options[2:]))
}

func TestTheMSSIsClampedToWhatFits(t *testing.T) {
	for _, w := range everyWay() {
		for _, mtu := range []int{1500, 1400, 1600} {
			t.Run(fmt.Sprintf("%s, MTU %d", w, mtu), func(t *testing.T) {
				o := both
				o.ClampMSS = true
				d := newDirectorWith(t, 1, conntrack.Options{Capacity: 64}, o)
				d.paths.mtu = mtu
				d.apply(serving(w.vip, w.mode, w.server.String())...)
				headers := map[bool]int{true: 40, false: 60}[w.client.Addr().Is4()]
				// A packet of the client's version that fits the way to the server, and the clients' side, which carries 1,500 bytes.
				fits := min(mtu-w.added, 1500)
				if w.client.Addr().Is6() {
					fits = max(fits, 1280)
				}
				for _, flags := range []testpkt.Flags{testpkt.SYN, testpkt.SYN, testpkt.SYN | testpkt.ECE | testpkt.CWR} { // and sent again
					asked := d.client(testpkt.TCP(w.client, w.vip, flags).MSS(9000))
					if got := mssOf(t, asked); got != fits-headers {
						t.Errorf("the server is asked for segments of %d bytes, want %d", got, fits-headers)
					}
					if w.mode != "-m" && w.mode != "-F" {
						continue
					}
					answer := d.server(0, testpkt.TCP(asked.Dst, asked.Src, testpkt.SYN|testpkt.ACK).DF().MSS(9000))
					if got := mssOf(t, answer); got != fits-headers {
						t.Errorf("the client is asked for segments of %d bytes, want %d", got, fits-headers)
					}
				}
				if got := mssOf(t, d.client(testpkt.TCP(w.client, w.vip, testpkt.SYN).MSS(500))); got != 500 {
					t.Errorf("a smaller MSS became %d", got)
				}
				if got := mssOf(t, d.client(testpkt.TCP(w.client, w.vip, testpkt.ACK).MSS(9000))); got != 9000 {
					t.Errorf("a segment that begins nothing became one of %d", got)
				}
			})
		}
	}
}

func TestTheMSSIsLeftAloneUnlessAsked(t *testing.T) {
	d := newDirector6(t, 1, serving(vip, "-i", "10.0.0.2:80")...)
	if got := mssOf(t, d.client(testpkt.TCP(cip, vip, testpkt.SYN).MSS(1460))); got != 1460 {
		t.Errorf("MSS %d", got)
	}
}
