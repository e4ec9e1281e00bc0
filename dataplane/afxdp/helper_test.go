package afxdp

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"weir/dataplane"
)

// wire is two ends of a veth in a network namespace of the test's own: near is where queues are opened, far is the world.
type wire struct {
	near, far netlink.Link
	xsks      *ebpf.Map
}

// newWire makes the wire, with an XDP program on near that gives every frame to its queue's socket. The test's thread is in the
// namespace from then on and ends with the test's goroutine, and the namespace and all in it with the thread.
func newWire(t testing.TB, queues int) *wire {
	t.Helper()
	runtime.LockOSThread()
	ns, err := netns.New()
	if err != nil {
		t.Fatalf("network namespace (this test needs root): %v", err)
	}
	t.Cleanup(func() { ns.Close() })
	// No router solicitations and the like: every frame on the wire is to be the test's.
	for _, dev := range []string{"all", "default"} {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+dev+"/disable_ipv6", []byte("1"), 0); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	w := &wire{}
	w.near, w.far = addVeth(t, "near", "far", queues)
	w.xsks = redirectAll(t, w.near.Attrs().Index, queues)
	return w
}

func addVeth(t testing.TB, name, peer string, queues int) (netlink.Link, netlink.Link) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.NumRxQueues, attrs.NumTxQueues = name, queues, queues
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: peer, PeerNumTxQueues: uint32(queues), PeerNumRxQueues: uint32(queues)}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatalf("veth: %v", err)
	}
	links := [2]netlink.Link{}
	for i, n := range []string{name, peer} {
		l, err := netlink.LinkByName(n)
		if err != nil {
			t.Fatal(err)
		}
		setUp(t, l)
		links[i] = l
	}
	t.Cleanup(func() { _ = netlink.LinkDel(links[0]) }) // at once, where the namespace takes its time
	return links[0], links[1]
}

func setUp(t testing.TB, l netlink.Link) {
	t.Helper()
	if err := netlink.LinkSetUp(l); err != nil {
		t.Fatalf("%s up: %v", l.Attrs().Name, err)
	}
}

func setDown(t testing.TB, l netlink.Link) {
	t.Helper()
	if err := netlink.LinkSetDown(l); err != nil {
		t.Fatalf("%s down: %v", l.Attrs().Name, err)
	}
}

// redirectAll attaches the program to the interface and returns its XSKMAP.
func redirectAll(t testing.TB, ifindex, queues int) *ebpf.Map {
	t.Helper()
	xsks, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: uint32(queues)})
	if err != nil {
		t.Fatalf("XSKMAP: %v", err)
	}
	t.Cleanup(func() { xsks.Close() })
	const rxQueueIndex, xdpPass = 16, 2 // struct xdp_md, enum xdp_action (linux/bpf.h)
	attach(t, ifindex, asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, rxQueueIndex, asm.Word),
		asm.LoadMapPtr(asm.R1, xsks.FD()),
		asm.Mov.Imm(asm.R3, xdpPass),
		asm.FnRedirectMap.Call(),
		asm.Return(),
	})
	return xsks
}

func attach(t testing.TB, ifindex int, program asm.Instructions) {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "GPL", Instructions: program})
	if err != nil {
		t.Fatalf("XDP program: %v", err)
	}
	t.Cleanup(func() { prog.Close() })
	l, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: ifindex, Flags: link.XDPDriverMode})
	if err != nil {
		t.Fatalf("attach: %v", err)
	}
	t.Cleanup(func() { l.Close() })
}

// open opens a queue of near and lets its frames come in.
func (w *wire) open(t testing.TB, queue int, o Options) *Queue {
	t.Helper()
	q, err := Open(w.near.Attrs().Index, queue, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	if err := w.xsks.Put(uint32(queue), uint32(q.FD())); err != nil {
		t.Fatalf("XSKMAP: %v", err)
	}
	return q
}

// etherType of the tests' frames: for local experiments (IEEE 802), so that nothing in the kernel has an opinion about it.
const etherType = 0x88b5

// testFrame returns a frame of that size whose bytes depend on all of seed.
func testFrame(size int, seed uint32) []byte {
	p := make([]byte, size)
	copy(p, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2})
	binary.BigEndian.PutUint16(p[12:], etherType)
	binary.BigEndian.PutUint32(p[14:], seed)
	x := seed*2654435761 + 1
	for i := 18; i < size; i++ {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		p[i] = byte(x)
	}
	return p
}

// tap is an AF_PACKET socket on far: the kernel's own view of the wire.
type tap struct {
	fd int
	t  testing.TB
}

func (w *wire) tap(t testing.TB) *tap {
	t.Helper()
	proto := etherType<<8&0xff00 | etherType>>8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		t.Fatalf("AF_PACKET: %v", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(proto), Ifindex: w.far.Attrs().Index}); err != nil {
		t.Fatalf("AF_PACKET: %v", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20); err != nil {
		t.Fatal(err)
	}
	return &tap{fd: fd, t: t}
}

func (s *tap) send(packet []byte) {
	s.t.Helper()
	for {
		_, err := unix.Write(s.fd, packet)
		if err == nil {
			return
		}
		if err != unix.EINTR && err != unix.ENOBUFS {
			s.t.Fatalf("send %d bytes: %v", len(packet), err)
		}
	}
}

// recv returns the next frame that came over the wire, nil if none does for that long.
func (s *tap) recv(timeout time.Duration) []byte {
	s.t.Helper()
	buf := make([]byte, 4096)
	for deadline := time.Now().Add(timeout); ; {
		n, from, err := unix.Recvfrom(s.fd, buf, unix.MSG_DONTWAIT)
		if err == nil {
			if from.(*unix.SockaddrLinklayer).Pkttype == unix.PACKET_OUTGOING {
				continue // what this side has sent itself
			}
			return buf[:n]
		}
		if err != unix.EAGAIN && err != unix.EINTR && err != unix.ENETDOWN { // ENETDOWN: once, when far goes down
			s.t.Fatalf("receive: %v", err)
		}
		left := time.Until(deadline)
		if left <= 0 {
			return nil
		}
		fds := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}
		_, _ = unix.Poll(fds, int(left.Milliseconds())+1)
	}
}

// drain forgets what has arrived so far.
func (s *tap) drain() {
	var buf [64]byte
	for {
		if _, _, err := unix.Recvfrom(s.fd, buf[:], unix.MSG_DONTWAIT); err != nil {
			return
		}
	}
}

// receive waits for a frame on the queue.
func receive(t testing.TB, q *Queue) dataplane.Frame {
	t.Helper()
	p := poller(t, q)
	var frames [1]dataplane.Frame
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); p.Wait(time.Second) {
		if q.Recv(frames[:]) == 1 {
			return frames[0]
		}
	}
	t.Fatal("nothing received")
	return dataplane.Frame{}
}

func poller(t testing.TB, queues ...*Queue) *Poller {
	t.Helper()
	p, err := NewPoller(queues)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// transmit sends a copy of the packet.
func transmit(t testing.TB, q *Queue, packet []byte) {
	t.Helper()
	f, ok := q.Alloc()
	if !ok {
		t.Fatal("no frame")
	}
	f.End += copy(f.Buf[f.Off:], packet)
	if !q.Send(&f) {
		t.Fatal("no room to send")
	}
	q.Kick()
}

// audit checks the account against all that can be known about the frames.
func audit(q *Queue) error {
	a := q.Accounting()
	if a.Sum() != q.opt.Frames {
		return fmt.Errorf("%+v: %d frames of %d", a, a.Sum(), q.opt.Frames)
	}
	// The library's own counts, kept from what passes through its rings.
	if a.Fill+a.Received != q.xsk.NumFilled() || a.Transmit != q.xsk.NumTransmitted() {
		return fmt.Errorf("%+v: the library has %d to receive into, %d to transmit", a, q.xsk.NumFilled(), q.xsk.NumTransmitted())
	}
	if a.Pending != len(q.pending) || a.Free != len(q.frames.free) {
		return fmt.Errorf("%+v: %d are pending, %d free", a, len(q.pending), len(q.frames.free))
	}
	seen := make(map[uint32]bool)
	for _, i := range q.frames.free {
		if seen[i] || q.frames.place[i] != inFree {
			return fmt.Errorf("frame %d is free twice, or free and elsewhere (%d)", i, q.frames.place[i])
		}
		seen[i] = true
	}
	for _, d := range q.pending {
		i := uint32(d.Addr) / uint32(q.opt.FrameSize)
		if seen[i] || q.frames.place[i] != inPending {
			return fmt.Errorf("frame %d is pending twice, or pending and elsewhere (%d)", i, q.frames.place[i])
		}
		seen[i] = true
	}
	s, err := q.Stats()
	if err != nil {
		return err
	}
	if s.Foreign != 0 || s.RxInvalid != 0 || s.TxInvalid != 0 {
		return fmt.Errorf("frames refused: %+v", s)
	}
	return nil
}

func mustAudit(t testing.TB, q *Queue) {
	t.Helper()
	if err := audit(q); err != nil {
		t.Fatal(err)
	}
}
