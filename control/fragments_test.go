package control_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"weir/conntrack"
	"weir/control"
	"weir/dataplane/reason"
	"weir/internal/testpkt"
	"weir/lb"
)

// pieces cuts an IP packet into fragments of at most size bytes behind the IP header, as a router (RFC 791) or a source (RFC 8200
// section 4.5) does. It knows frames without tags, options and extension headers.
func pieces(p testpkt.Packet, id uint32, size int) (frames [][]byte) {
	whole := p.Bytes()
	header := 14 + 20
	if whole[14]>>4 == 6 {
		header = 14 + 40
	}
	data := whole[header:]
	for at := 0; at < len(data); at += size {
		part, more := data[at:min(at+size, len(data))], at+size < len(data)
		f := slices.Clone(whole[:header])
		if header == 14+40 {
			offset := uint16(at)
			if more {
				offset |= 1
			}
			f = append(f, f[20], 0)
			f = binary.BigEndian.AppendUint16(f, offset)
			f = binary.BigEndian.AppendUint32(f, id)
			f[20] = 44
			f = append(f, part...)
			binary.BigEndian.PutUint16(f[18:], uint16(len(part)+8))
		} else {
			offset := uint16(at / 8)
			if more {
				offset |= 0x2000
			}
			binary.BigEndian.PutUint16(f[16:], uint16(20+len(part)))
			binary.BigEndian.PutUint16(f[18:], uint16(id))
			binary.BigEndian.PutUint16(f[20:], offset)
			f[24], f[25] = 0, 0
			binary.BigEndian.PutUint16(f[24:], ^words(0, f[14:34]))
			f = append(f, part...)
		}
		frames = append(frames, f)
	}
	return frames
}

// words adds up 16-bit words in ones' complement (RFC 1071).
func words(sum uint32, b []byte) uint16 {
	for i, c := range b {
		sum += uint32(c) << (8 * (1 - i%2))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// datagram is what a receiver makes of fragments.
type datagram struct {
	src, dst netip.AddrPort
	payload  []byte
}

// reassembled puts one datagram together, and fails the test unless that is what the fragments are: of one identification, without a
// gap, all of them towards one MAC address, and the UDP checksum right over the whole.
func reassembled(t *testing.T, views []*testpkt.View) (d datagram) {
	t.Helper()
	var data []byte
	type part struct {
		view *testpkt.View
		ip   *testpkt.IP
	}
	var parts []part
	for _, v := range views {
		ip := &v.IP
		if ip.Inner != nil {
			ip = ip.Inner
		}
		parts = append(parts, part{v, ip})
	}
	slices.SortFunc(parts, func(a, b part) int { return a.ip.Offset - b.ip.Offset })
	for i, p := range parts {
		if p.ip.Offset != len(data) || p.ip.ID != parts[0].ip.ID || p.ip.MF != (i < len(parts)-1) ||
			p.ip.Src.Addr() != parts[0].ip.Src.Addr() || p.ip.Dst.Addr() != parts[0].ip.Dst.Addr() ||
			p.view.DstMAC.String() != parts[0].view.DstMAC.String() {
			t.Fatalf("fragment %d of %d does not fit: offset %d (%d bytes are there), id %#x, %s -> %s, to %s", i, len(parts), p.ip.Offset, len(data),
				p.ip.ID, p.ip.Src, p.ip.Dst, p.view.DstMAC)
		}
		b := p.view.Frame[len(p.view.Frame)-(p.ip.Length-len(p.ip.Header)):]
		data = append(data, b...)
	}
	d.src, d.dst = parts[0].ip.Src, parts[0].ip.Dst
	if n := int(binary.BigEndian.Uint16(data[4:])); n != len(data) {
		t.Fatalf("UDP says %d bytes, %d came", n, len(data))
	}
	sum := uint32(17 + len(data))
	sum += uint32(words(0, d.src.Addr().AsSlice())) + uint32(words(0, d.dst.Addr().AsSlice()))
	if binary.BigEndian.Uint16(data[6:]) != 0 && words(sum, data) != 0xffff {
		t.Fatal("the UDP checksum of the whole does not hold")
	}
	d.payload = data[8:]
	return d
}

// family is a client, a service and a server of one IP version.
type family struct {
	name             string
	client, vip      netip.AddrPort
	server, local    netip.AddrPort
	headers, pieceOf int
}

var families = []family{
	{"IPv4", cip, vip, netip.MustParseAddrPort("10.0.0.2:8080"), netip.MustParseAddrPort("10.0.0.100:0"), 14 + 20, 1472},
	{"IPv6", netip.MustParseAddrPort("[2001:db8:51::7]:40000"), netip.MustParseAddrPort("[2001:db8:2::10]:80"),
		netip.MustParseAddrPort("[2001:db8:10::2]:8080"), netip.MustParseAddrPort("[2001:db8:10::100]:0"), 14 + 40, 1432},
}

// newFamilyDirector serves UDP and TCP of one family in one mode.
func newFamilyDirector(t *testing.T, workers int, f family, mode string) *director {
	t.Helper()
	var rules []string
	for _, proto := range []string{"-u", "-t"} {
		rules = append(rules, fmt.Sprintf("-A %s %s -s rr", proto, f.vip), fmt.Sprintf("-a %s %s -r %s %s", proto, f.vip, f.server, mode))
	}
	return newDirectorWith(t, workers, conntrack.Options{Capacity: 4096},
		control.Options{Locals: []lb.Addr{lb.AddrFrom(families[0].local.Addr()), lb.AddrFrom(families[1].local.Addr())}}, rules...)
}

func everyModeOfEveryFamily(t *testing.T, run func(t *testing.T, f family, mode string)) {
	for _, f := range families {
		for _, mode := range []string{"-g", "-m", "-F", "-i"} {
			t.Run(f.name+mode, func(t *testing.T) { run(t, f, mode) })
		}
	}
}

func TestADatagramInPiecesArrivesWhole(t *testing.T) {
	everyModeOfEveryFamily(t, func(t *testing.T, f family, mode string) {
		d := newFamilyDirector(t, 2, f, mode)
		rng := rand.New(rand.NewPCG(1, 2))
		size := f.pieceOf
		if mode == "-i" {
			size -= 80 // an outer header has to fit as well
		}
		for round := range 60 {
			payload := testpkt.Pattern(1 + rng.IntN(20_000))
			ask := testpkt.UDP(f.client, f.vip).Payload(payload)
			// Both workers get fragments, in any order.
			var toServer []*testpkt.View
			frames := pieces(ask, uint32(round), size)
			for _, i := range rng.Perm(len(frames)) {
				out := d.sendFrame(rng.IntN(2), 0, frames[i])
				toServer = append(toServer, out.toServers...)
				if len(out.toClients) > 0 {
					t.Fatal("something went back to the client")
				}
			}
			if len(frames) == 1 {
				continue
			}
			got := reassembled(t, toServer)
			if !bytes.Equal(got.payload, payload) {
				t.Fatal("the payload has changed")
			}
			want := f.vip
			if mode == "-m" || mode == "-F" {
				want = f.server
			}
			if got.dst != want || mode != "-F" && got.src != f.client || mode == "-F" && got.src.Addr() != f.local.Addr() {
				t.Fatalf("%s -> %s", got.src, got.dst)
			}
			if mode == "-g" || mode == "-i" {
				continue
			}
			// The answer, in pieces, by the other way.
			var toClient []*testpkt.View
			frames = pieces(testpkt.UDP(got.dst, got.src).Payload(payload), uint32(round), f.pieceOf)
			for _, i := range rng.Perm(len(frames)) {
				toClient = append(toClient, d.sendFrame(rng.IntN(2), 1, frames[i]).toClients...)
			}
			if back := reassembled(t, toClient); back.src != f.vip || back.dst != f.client || !bytes.Equal(back.payload, payload) {
				t.Fatalf("the answer came as %s -> %s, or changed", back.src, back.dst)
			}
		}
		c := d.counters()
		for _, r := range []reason.Reason{reason.FragmentLate, reason.FragmentOverlap, reason.FragmentDuplicate, reason.FragmentTableFull} {
			if c.Reasons[r] != 0 {
				t.Errorf("%s: %d", r, c.Reasons[r])
			}
		}
		if c.Connections != 1 {
			t.Errorf("%d connections, want one", c.Connections)
		}
	})
}

func TestTwoSendersWithOneIdentificationStayApart(t *testing.T) {
	// Both go to the server from the same local address: to it they would be one datagram.
	d := newFamilyDirector(t, 1, families[0], "-F")
	ids := map[uint16]bool{}
	for _, host := range []string{"198.51.100.7", "198.51.100.8"} {
		client := netip.AddrPortFrom(netip.MustParseAddr(host), 40000)
		var views []*testpkt.View
		for _, frame := range pieces(testpkt.UDP(client, vip).Payload(testpkt.Pattern(3000)), 7, 1480) {
			views = append(views, d.sendFrame(0, 0, frame).toServers...)
		}
		reassembled(t, views)
		ids[views[0].ID] = true
	}
	if len(ids) != 2 {
		t.Errorf("both left with the identifications %v", ids)
	}
}

func TestTheIdentificationCanBeUsedAgain(t *testing.T) {
	d := newFamilyDirector(t, 1, families[0], "-m")
	for range 5 {
		var views []*testpkt.View
		for _, frame := range pieces(testpkt.UDP(cip, vip).Payload(testpkt.Pattern(3000)), 7, 1480) {
			views = append(views, d.sendFrame(0, 0, frame).toServers...)
		}
		reassembled(t, views)
	}
}

func TestFragmentsThatDoNotFit(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			whole := pieces(testpkt.UDP(f.client, f.vip).Payload(testpkt.Pattern(4000)), 7, 1400)
			other := pieces(testpkt.UDP(f.client, f.vip).Payload(testpkt.Pattern(4000)), 7, 1000)
			longer := pieces(testpkt.UDP(f.client, f.vip).Payload(testpkt.Pattern(5000)), 7, 1400)
			for name, c := range map[string]struct {
				frames [][]byte
				sent   int
				why    reason.Reason
				count  uint64
			}{
				"the first one twice":                              {[][]byte{whole[0], whole[0], whole[1], whole[2]}, 3, reason.FragmentDuplicate, 1},
				"a later one twice":                                {[][]byte{whole[0], whole[1], whole[1], whole[2]}, 3, reason.FragmentDuplicate, 1},
				"one that waits twice":                             {[][]byte{whole[1], whole[1], whole[0], whole[2]}, 3, reason.FragmentDuplicate, 1},
				"an overlap and all after it":                      {[][]byte{whole[0], other[1], whole[1], whole[2]}, 1, reason.FragmentOverlap, 3},
				"an overlap of those that wait, and the first one": {[][]byte{whole[1], other[1], whole[0]}, 0, reason.FragmentOverlap, 3},
				"an overlap of the first one":                      {[][]byte{whole[0], other[0], whole[1]}, 1, reason.FragmentOverlap, 2},
				"two ends":                                         {[][]byte{whole[0], whole[2], longer[3]}, 2, reason.FragmentOverlap, 1},
				"an end before what has come":                      {[][]byte{longer[0], longer[3], shorter(f, whole[1])}, 2, reason.FragmentOverlap, 1},
				"a piece in the middle of no multiple of 8":        {[][]byte{cut(f, whole[1], 1)}, 0, reason.BadIPHeader, 1},
				"a piece that ends beyond 65,535":                  {[][]byte{moved(f, whole[1], 65528)}, 0, reason.BadIPHeader, 1},
				"the first one without a whole header":             {[][]byte{cut(f, whole[0], 1400)}, 0, reason.BadIPHeader, 1},
			} {
				t.Run(name, func(t *testing.T) {
					d := newFamilyDirector(t, 1, f, "-m")
					sent := 0
					for _, frame := range c.frames {
						sent += len(d.sendFrame(0, 0, frame).toServers)
					}
					if got := d.counters().Reasons[c.why]; sent != c.sent || got != c.count {
						t.Errorf("%d went on and %d stopped for %s, want %d and %d; all: %v", sent, got, c.why, c.sent, c.count, stops(d))
					}
				})
			}
		})
	}
}

// cut takes n bytes off a fragment's end.
func cut(f family, frame []byte, n int) []byte {
	frame = slices.Clone(frame[:len(frame)-n])
	if f.headers == 14+40 {
		binary.BigEndian.PutUint16(frame[18:], uint16(len(frame)-54))
		return frame
	}
	binary.BigEndian.PutUint16(frame[16:], uint16(len(frame)-14))
	return resummed(frame)
}

// moved gives a fragment another offset.
func moved(f family, frame []byte, offset uint16) []byte {
	frame = slices.Clone(frame)
	if f.headers == 14+40 {
		binary.BigEndian.PutUint16(frame[56:], offset|1)
		return frame
	}
	binary.BigEndian.PutUint16(frame[20:], offset/8|0x2000)
	return resummed(frame)
}

// shorter makes a fragment the last one.
func shorter(f family, frame []byte) []byte {
	frame = slices.Clone(frame)
	if f.headers == 14+40 {
		frame[57] &^= 1
		return frame
	}
	frame[20] &^= 0x20
	return resummed(frame)
}

func resummed(frame []byte) []byte {
	frame[24], frame[25] = 0, 0
	binary.BigEndian.PutUint16(frame[24:], ^words(0, frame[14:34]))
	return frame
}

func TestFragmentsOfWhatIsNotWeirsGoToTheKernelAsTheyCame(t *testing.T) {
	d := newFamilyDirector(t, 1, families[0], "-m")
	frames := pieces(testpkt.UDP(cip, netip.AddrPortFrom(vip.Addr(), 53)).Payload(testpkt.Pattern(4000)), 7, 1400)
	order := []int{2, 0, 1}
	for _, i := range order {
		if out := d.sendFrame(0, 0, frames[i]); len(out.toServers)+len(out.toClients) != 0 {
			t.Fatal("something was forwarded")
		}
	}
	if len(d.host.frames) != 3 {
		t.Fatalf("the host got %d frames: %v", len(d.host.frames), stops(d))
	}
	for _, got := range d.host.frames {
		if !slices.ContainsFunc(frames, func(f []byte) bool { return bytes.Equal(f, got) }) {
			t.Error("the host got a changed frame")
		}
	}
}

func TestOnePacketSchedulingSendsADatagramsPiecesToOneServer(t *testing.T) {
	d := newDirector(t, 1, "-A -u 192.0.2.10:80 -s rr -o", "-a -u 192.0.2.10:80 -r 10.0.0.2 -g", "-a -u 192.0.2.10:80 -r 10.0.0.3 -g")
	macs := map[string]int{}
	for id := range uint32(6) {
		frames := pieces(testpkt.UDP(cip, vip).Payload(testpkt.Pattern(4000)), id, 1400)
		var views []*testpkt.View
		for _, i := range []int{1, 0, 2} {
			views = append(views, d.sendFrame(0, 0, frames[i]).toServers...)
		}
		reassembled(t, views)
		macs[views[0].DstMAC.String()]++
	}
	if len(macs) != 2 {
		t.Errorf("datagrams went to %v, want both servers", macs)
	}
}

func TestWhatWaitsForItsFirstPieceIsBounded(t *testing.T) {
	d := newFamilyDirector(t, 1, families[0], "-m")
	const flood = 20_000
	for i := range flood {
		client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}), 1)
		frames := pieces(testpkt.UDP(client, vip).Payload(testpkt.Pattern(100)), uint32(i), 64)
		if out := d.sendFrame(0, 0, frames[1]); len(out.toServers) != 0 {
			t.Fatal("a later fragment was forwarded without its first one")
		}
	}
	c := d.counters()
	held, full := c.Reasons[reason.FragmentHeld], c.Reasons[reason.FragmentTableFull]
	if held != flood || full < flood-4096 || full >= flood {
		t.Errorf("%d waited, %d of them made room, want all and all but at most 4,096", held, full)
	}
	// A datagram that comes now passes all the same.
	var views []*testpkt.View
	frames := pieces(testpkt.UDP(cip, vip).Payload(testpkt.Pattern(9000)), 7, 1480)
	for i := range frames {
		views = append(views, d.sendFrame(0, 0, frames[len(frames)-1-i]).toServers...)
	}
	reassembled(t, views)
	// What still waits is given up when its time is over, also when nothing else comes.
	d.sleep(31)
	c = d.counters()
	if late := c.Reasons[reason.FragmentLate]; late+c.Reasons[reason.FragmentTableFull] != flood {
		t.Errorf("%d gave way and %d were late, of %d", c.Reasons[reason.FragmentTableFull], late, flood)
	}
	if out := d.sendFrame(0, 0, frames[1]); len(out.toServers) != 0 {
		t.Error("a fragment was forwarded by what its datagram's first one decided long ago")
	}
}

func TestADatagramOf65000BytesWaitsInReverse(t *testing.T) {
	d := newFamilyDirector(t, 2, families[0], "-F")
	payload := testpkt.Pattern(65_000)
	var views []*testpkt.View
	for i, frame := range slices.Backward(pieces(testpkt.UDP(cip, vip).Payload(payload), 7, 1480)) {
		views = append(views, d.sendFrame(i%2, 0, frame).toServers...)
	}
	if got := reassembled(t, views); !bytes.Equal(got.payload, payload) {
		t.Error("the payload has changed")
	}
}
