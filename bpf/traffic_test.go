package bpf

import (
	"bytes"
	"context"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/vishvananda/netlink"

	"weir/internal/testpkt"
)

// passXDP makes a veth's end take frames that are redirected to it, and give them to the kernel.
func passXDP(t *testing.T, ifindex int) {
	t.Helper()
	const xdpPass = 2
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R0, xdpPass), asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	l, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: ifindex, Flags: link.XDPDriverMode})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}

// capture returns the next n frames the interface receives after start.
func capture(t *testing.T, ifindex, n int, start func()) [][]byte {
	t.Helper()
	const proto = unix.ETH_P_ALL << 8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	// Room for all of them, and an end to waiting for one that does not come.
	for _, err := range []error{
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: ifindex}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	start()
	var frames [][]byte
	for len(frames) < n {
		buf := make([]byte, 4096)
		size, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			t.Fatalf("%d frames of %d arrived: %v", len(frames), n, err)
		}
		frames = append(frames, buf[:size])
	}
	return frames
}

// sendAll sends n packets, no more at once than a veth's ring holds (256: drivers/net/veth.c, VETH_RING_SIZE) for a receiver
// that may have to wait for its CPU.
func sendAll(t *testing.T, g *Generator, far netlink.Link, n int) {
	t.Helper()
	arrived := func() uint64 {
		l, err := netlink.LinkByIndex(far.Attrs().Index)
		if err != nil {
			t.Fatal(err)
		}
		return l.Attrs().Statistics.RxPackets
	}
	before := arrived()
	for sent := 0; sent < n; {
		some := min(128, n-sent)
		if err := g.Send(some); err != nil {
			t.Fatal(err)
		}
		sent += some
		for deadline := time.Now().Add(10 * time.Second); arrived() < before+uint64(sent); time.Sleep(50 * time.Microsecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d of %d packets arrived", arrived()-before, sent)
			}
		}
	}
}

func TestGeneratedPacketsAreTheTemplateFromEveryFlow(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	v4, v6 := netip.MustParseAddrPort("198.18.0.250:65000"), netip.MustParseAddrPort("[2001:db8::fff0]:65000")
	to4, to6 := netip.MustParseAddrPort("192.0.2.10:80"), netip.MustParseAddrPort("[2001:db8:1::10]:80")
	for name, packet := range map[string]testpkt.Packet{
		"UDP":                    testpkt.UDP(v4, to4).Size(60),
		"UDP without a checksum": testpkt.UDP(v4, to4).NoChecksum().Size(64),
		"long UDP":               testpkt.UDP(v4, to4).Size(1514),
		"TCP":                    testpkt.TCP(v4, to4, testpkt.SYN).Size(60),
		"UDP over IPv6":          testpkt.UDP(v6, to6).Size(80),
		"TCP over IPv6":          testpkt.TCP(v6, to6, testpkt.ACK).Size(120),
	} {
		near, far := newVeth(t, 1)
		passXDP(t, far.Attrs().Index)
		const flows = 5000 // 536 ports to an address: ten addresses, and a carry into the next byte with IPv4
		template := packet.Bytes()
		g, err := NewGenerator(near.Attrs().Index, flows, template)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		frames := capture(t, far.Attrs().Index, 2*flows, func() {
			sendAll(t, g, far, 2*flows)
		})
		want := testpkt.Decode(t, template)
		times := make(map[netip.AddrPort]int)
		for _, frame := range frames {
			got := testpkt.Decode(t, frame).MustHold(t)
			times[got.Src]++
			if got.Dst != want.Dst || got.Proto != want.Proto || got.Flags != want.Flags || got.ZeroUDP != want.ZeroUDP ||
				len(frame) != len(template) || !bytes.Equal(frame[:14], template[:14]) || !bytes.Equal(got.Payload, want.Payload) {
				t.Fatalf("%s: sent %x, template %x", name, frame, template)
			}
		}
		src := want.Src
		for i := range flows {
			if times[src] != 2 {
				t.Fatalf("%s: %d packets from flow %d, %v; want 2", name, times[src], i, src)
			}
			if src.Port() == 65535 {
				src = netip.AddrPortFrom(src.Addr().Next(), want.Src.Port())
			} else {
				src = netip.AddrPortFrom(src.Addr(), src.Port()+1)
			}
		}
		if n, err := g.Sent(); n != 2*flows || err != nil {
			t.Errorf("%s: %d sent, %v", name, n, err)
		}
		for range 2 {
			if err := g.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestPacketsOfAGeneratorTakeTurns(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	near, far := newVeth(t, 1)
	passXDP(t, far.Attrs().Index)
	from, to := netip.MustParseAddrPort("198.18.0.1:1024"), netip.MustParseAddrPort("192.0.2.10:80")
	of := func(size int, flags testpkt.Flags) []byte {
		return testpkt.TCP(from, to, flags).Payload(make([]byte, size-54)).Bytes()
	}
	list := [][]byte{of(60, testpkt.SYN), of(590, testpkt.ACK), of(60, testpkt.ACK), of(1514, testpkt.ACK|testpkt.PSH), of(61, testpkt.FIN|testpkt.ACK)}
	const flows, rounds = 7, 200
	g, err := NewGenerator(near.Attrs().Index, flows, list...)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	frames := capture(t, far.Attrs().Index, rounds*len(list), func() { sendAll(t, g, far, rounds*len(list)) })
	times := make(map[netip.AddrPort]int)
	for i, frame := range frames {
		got, want := testpkt.Decode(t, frame).MustHold(t), list[i%len(list)]
		times[got.Src]++
		if len(frame) != len(want) || !bytes.Equal(frame[:34], append(bytes.Clone(want[:24]), frame[24:34]...)) ||
			got.Flags != testpkt.Decode(t, want).Flags || got.Dst != to {
			t.Fatalf("packet %d is %x, want %x", i, frame, want)
		}
	}
	if len(times) != flows {
		t.Errorf("%d flows, want %d", len(times), flows)
	}
}

func TestSinkCountsByMAC(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	near, far := newVeth(t, 1)
	sink, err := NewSink(far.Attrs().Index, SinkOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	from, to := netip.MustParseAddrPort("198.18.0.1:1024"), netip.MustParseAddrPort("192.0.2.10:53")
	for i := range 3 {
		packet := testpkt.UDP(from, to).To(testpkt.MAC(uint16(i))).Size(60 + 100*i).Bytes()
		g, err := NewGenerator(near.Attrs().Index, 1000, packet)
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		sendAll(t, g, far, 1000*(i+1))
	}
	var total Count
	for deadline := time.Now().Add(5 * time.Second); total.Packets < 6000 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if total, err = sink.Total(); err != nil {
			t.Fatal(err)
		}
	}
	counts, err := sink.Counts()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		n := uint64(1000 * (i + 1))
		if got, want := counts[[6]byte(testpkt.MAC(uint16(i)))], (Count{n, n * uint64(60+100*i)}); got != want {
			t.Errorf("MAC %d: %+v, want %+v", i, got, want)
		}
	}
	for range 2 {
		if err := sink.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := sink.Counts(); err == nil {
		t.Error("a closed sink counts")
	}
}

func TestGeneratorKeepsToItsCountAndContext(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	near, far := newVeth(t, 1)
	passXDP(t, far.Attrs().Index)
	packet := testpkt.UDP(netip.MustParseAddrPort("198.18.0.1:1024"), netip.MustParseAddrPort("192.0.2.10:53")).Size(60).Bytes()
	g, err := NewGenerator(near.Attrs().Index, 7, packet)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	start := time.Now()
	if err := g.Run(context.Background(), 2000, 10000); err != nil {
		t.Fatal(err)
	}
	// 200 ms at this rate. A busy machine may take longer, none may take less.
	if took := time.Since(start); took < 180*time.Millisecond {
		t.Errorf("2,000 packets at 10,000/s took %v", took)
	}
	if n, err := g.Sent(); n != 2000 || err != nil {
		t.Errorf("%d sent, want 2000 (%v)", n, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := g.Run(ctx, 0, 0); err != nil {
		t.Error(err)
	}
	if n, _ := g.Sent(); n != 2000 {
		t.Errorf("%d sent after the end", n)
	}
	g.Close()
	if err := g.Send(1); err == nil {
		t.Error("a closed generator sends")
	}
}

func TestGeneratorRefusals(t *testing.T) {
	near, _ := newVeth(t, 1)
	from, to := netip.MustParseAddrPort("198.18.0.1:1024"), netip.MustParseAddrPort("192.0.2.10:53")
	good := testpkt.UDP(from, to).Size(60).Bytes()
	for name, c := range map[string]struct {
		ifindex int
		packet  []byte
		flows   int
		want    string
	}{
		"no flow":             {near.Attrs().Index, good, 0, "0 flows: allowed are 1 to 16777216"},
		"too many flows":      {near.Attrs().Index, good, 1<<24 + 1, "16777217 flows: allowed are 1 to 16777216"},
		"no interface":        {4711, good, 1, "interface 4711: no such interface"},
		"a short packet":      {near.Attrs().Index, good[:59], 1, "a packet of 59 bytes: allowed are 60 to 3500"},
		"ICMP":                {near.Attrs().Index, testpkt.Echo(from.Addr(), to.Addr()).Size(60).Bytes(), 1, "protocol 1 is neither TCP nor UDP"},
		"ARP":                 {near.Attrs().Index, testpkt.ARP(from.Addr(), to.Addr()).Size(60).Bytes(), 1, "the packet is neither IPv4 without options nor IPv6"},
		"three tags and IPv6": {near.Attrs().Index, testpkt.UDP(netip.MustParseAddrPort("[::1]:1"), netip.MustParseAddrPort("[::2]:2")).VLAN(1, 2, 3).Size(90).Bytes(), 1, "the packet is neither"},
	} {
		g, err := NewGenerator(c.ifindex, c.flows, c.packet)
		if err == nil {
			g.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	for name, c := range map[string]struct {
		packets [][]byte
		want    string
	}{
		"no packet":              {nil, "0 packets: allowed are 1 to 16"},
		"too many packets":       {slices.Repeat([][]byte{good}, 17), "17 packets: allowed are 1 to 16"},
		"TCP beside UDP":         {[][]byte{good, testpkt.TCP(from, to, testpkt.SYN).Size(60).Bytes()}, "packet 1 has not the first one's headers"},
		"UDP without a checksum": {[][]byte{good, testpkt.UDP(from, to).NoChecksum().Size(60).Bytes()}, "packet 1 has not the first one's headers"},
		"another payload": {[][]byte{testpkt.UDP(from, to).Payload(make([]byte, 100)).Bytes(), testpkt.UDP(from, to).Size(142).Bytes()},
			"differs behind its first 80 bytes"},
	} {
		g, err := NewGenerator(near.Attrs().Index, 1, c.packets...)
		if err == nil {
			g.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

func TestStrideComesByEveryFlow(t *testing.T) {
	for _, flows := range []uint32{1, 2, 3, 4, 6, 7, 10, 1000, 1009, 65536, 1_000_000} {
		s := stride(flows)
		seen := make([]bool, flows)
		at := uint32(0)
		for range flows {
			if seen[at] {
				t.Fatalf("%d flows, stride %d: flow %d comes a second time", flows, s, at)
			}
			seen[at] = true
			if at += s; at >= flows { // as the program does
				at -= flows
			}
		}
	}
}
