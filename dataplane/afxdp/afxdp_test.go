package afxdp

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weir/dataplane"
)

func TestEverySizeIsReceived(t *testing.T) {
	w := newWire(t, 1)
	q := w.open(t, 0, Options{})
	far := w.tap(t)
	for size := 60; size <= 1514; size++ {
		want := testFrame(size, uint32(size))
		far.send(want)
		f := receive(t, q)
		if !bytes.Equal(f.Packet(), want) {
			t.Fatalf("size %d: received %d bytes: %x, want %x", size, len(f.Packet()), f.Packet(), want)
		}
		if f.Off != dataplane.Headroom || len(f.Buf) != 2048 || cap(f.Buf) != 2048 {
			t.Fatalf("size %d: Off %d, len %d, cap %d; want %d, 2048, 2048", size, f.Off, len(f.Buf), cap(f.Buf), dataplane.Headroom)
		}
		q.Drop(&f)
		q.Flush()
	}
	mustAudit(t, q)
}

func TestEverySizeIsTransmitted(t *testing.T) {
	w := newWire(t, 1)
	q := w.open(t, 0, Options{})
	far := w.tap(t)
	for size := 60; size <= 1514; size++ {
		want := testFrame(size, uint32(size))
		transmit(t, q, want)
		if got := far.recv(5 * time.Second); !bytes.Equal(got, want) {
			t.Fatalf("size %d: the wire carried %d bytes: %x, want %x", size, len(got), got, want)
		}
	}
	mustAudit(t, q)
}

func TestReceivedFrameGoesOutWithAHeaderInFront(t *testing.T) {
	w := newWire(t, 1)
	q := w.open(t, 0, Options{})
	far := w.tap(t)
	for _, room := range []int{14, 20, 40, dataplane.Headroom} {
		inner := testFrame(1200, uint32(room))
		far.send(inner)
		f := receive(t, q)
		outer := testFrame(256, 7)[:room] // at least an Ethernet header, or the tap does not see it
		f.Off -= len(outer)
		copy(f.Buf[f.Off:], outer)
		if !q.Send(&f) {
			t.Fatal("no room to send")
		}
		q.Kick()
		if got, want := far.recv(5*time.Second), append(bytes.Clone(outer), inner...); !bytes.Equal(got, want) {
			t.Fatalf("prepended %d: the wire carried %x, want %x", len(outer), got, want)
		}
	}
	mustAudit(t, q)
}

func TestTwoQueuesTransmitAndReceiveEachItsOwn(t *testing.T) {
	w := newWire(t, 2)
	q := [2]*Queue{w.open(t, 0, Options{}), w.open(t, 1, Options{})}
	far := w.tap(t)
	// From near to far: both queues' frames arrive.
	for i := range 2 {
		want := testFrame(100, uint32(i))
		transmit(t, q[i], want)
		if got := far.recv(5 * time.Second); !bytes.Equal(got, want) {
			t.Fatalf("queue %d: the wire carried %x, want %x", i, got, want)
		}
	}
	// From far to near: a queue of far is the peer of near's queue of that number (drivers/net/veth.c).
	xsks := redirectAll(t, w.far.Attrs().Index, 2)
	for i := range 2 {
		peer, err := Open(w.far.Attrs().Index, i, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		if err := xsks.Put(uint32(i), uint32(peer.FD())); err != nil {
			t.Fatal(err)
		}
		want := testFrame(200, uint32(i))
		transmit(t, peer, want)
		f := receive(t, q[i])
		if !bytes.Equal(f.Packet(), want) {
			t.Fatalf("queue %d received %x, want %x", i, f.Packet(), want)
		}
		q[i].Drop(&f)
		var frames [8]dataplane.Frame
		if n := q[1-i].Recv(frames[:]); n != 0 {
			t.Fatalf("queue %d received %d frames meant for queue %d", 1-i, n, i)
		}
	}
	mustAudit(t, q[0])
	mustAudit(t, q[1])
}

func TestZeroCopyIsRefusedByVeth(t *testing.T) {
	w := newWire(t, 1)
	_, err := Open(w.near.Attrs().Index, 0, Options{ZeroCopy: On})
	if !errors.Is(err, unix.EOPNOTSUPP) || !strings.HasPrefix(err.Error(), "queue 0 of near: the driver has no zero-copy: use auto or off") {
		t.Fatalf("zero-copy on: %v", err)
	}
	// The refused socket must not keep the queue busy.
	for _, mode := range []ZeroCopy{Auto, Off} {
		q, err := Open(w.near.Attrs().Index, 0, Options{ZeroCopy: mode})
		if err != nil {
			t.Fatalf("mode %d: %v", mode, err)
		}
		zero, reason := q.ZeroCopy()
		if zero || (mode == Auto) != errors.Is(reason, unix.EOPNOTSUPP) {
			t.Errorf("mode %d: zero-copy %v, reason %v", mode, zero, reason)
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRefusals(t *testing.T) {
	w := newWire(t, 2)
	q := w.open(t, 0, Options{})
	near := w.near.Attrs().Index
	for name, c := range map[string]struct {
		ifindex, queue int
		o              Options
		want           string
	}{
		"a busy queue":              {near, 0, Options{}, "queue 0 of near is in use by another AF_XDP socket"},
		"a queue too many":          {near, 2, Options{}, "queue 2 of near: no such queue"},
		"an interface that is none": {4711, 0, Options{}, "queue 0 of interface 4711: no such interface"},
		"an odd ring":               {near, 1, Options{Ring: 100}, "queue 1 of near: ring 100: not a power of two"},
		"an odd number of frames":   {near, 1, Options{Frames: 1000}, "queue 1 of near: frames 1000: not a power of two"},
		"an odd frame size":         {near, 1, Options{FrameSize: 1500}, "queue 1 of near: frame size 1500: neither 2048 nor 4096"},
		"a negative budget":         {near, 1, Options{Budget: -1}, "queue 1 of near: kick at 64, budget -1, busy poll 0s: none may be negative"},
	} {
		other, err := Open(c.ifindex, c.queue, c.o)
		if err == nil {
			other.Close()
		}
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	mustAudit(t, q)
	w.open(t, 1, Options{}) // the refusals have left it free
}

func TestCloseFreesTheQueue(t *testing.T) {
	w := newWire(t, 1)
	far := w.tap(t)
	before, err := socketMappings()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		q := w.open(t, 0, Options{})
		want := testFrame(300, uint32(i))
		far.send(want)
		if f := receive(t, q); !bytes.Equal(f.Packet(), want) {
			t.Fatalf("round %d: received %x", i, f.Packet())
		}
		for range 2 {
			if err := q.Close(); err != nil {
				t.Fatalf("round %d: close: %v", i, err)
			}
		}
		after, err := socketMappings()
		if err != nil || len(after) != len(before) {
			t.Fatalf("round %d: %d sockets are mapped, %d were before (%v)", i, len(after), len(before), err)
		}
	}
}

// As after a restart: the process before has gone, the kernel has not quite noticed.
func TestOpenWaitsForAQueueThatIsBeingClosed(t *testing.T) {
	w := newWire(t, 1)
	old := w.open(t, 0, Options{})
	time.AfterFunc(50*time.Millisecond, func() { old.Close() })
	q := w.open(t, 0, Options{})
	transmit(t, q, testFrame(60, 1))
	mustAudit(t, q)
}

func TestClosedQueueDoesNothing(t *testing.T) {
	w := newWire(t, 1)
	q := w.open(t, 0, Options{})
	f, _ := q.Alloc()
	p := poller(t, q)
	q.Close()
	if n := q.Recv(make([]dataplane.Frame, 4)); n != 0 {
		t.Errorf("Recv: %d", n)
	}
	if _, ok := q.Alloc(); ok {
		t.Error("Alloc gave a frame of unmapped memory")
	}
	if q.Send(&f) {
		t.Error("Send took a frame")
	}
	q.Drop(&f)
	q.Flush()
	q.Kick()
	if _, err := q.Stats(); err != nil {
		t.Errorf("Stats: %v", err)
	}
	if a := q.Accounting(); a.Sum() != 0 {
		t.Errorf("Accounting: %+v", a)
	}
	if p.Wait(time.Millisecond) {
		t.Error("woken by nobody")
	}
}

func TestAFrameIsTakenBackOnce(t *testing.T) {
	w := newWire(t, 1)
	q := w.open(t, 0, Options{})
	a, _ := q.Alloc()
	a.End += copy(a.Buf[a.Off:], testFrame(100, 1))
	b, _ := q.Alloc()
	if !q.Send(&a) || q.Send(&a) {
		t.Error("Send must take the frame the first time only")
	}
	q.Drop(&a)
	q.Drop(&b)
	q.Drop(&b)
	c, _ := q.Alloc()
	c.End = len(c.Buf) + 1
	if q.Send(&c) {
		t.Error("Send took a packet that ends outside its frame")
	}
	q.Drop(&dataplane.Frame{Handle: 1 << 40})
	q.Kick()
	if a := q.Accounting(); a.Sum() != q.opt.Frames || a.Held != 0 {
		t.Errorf("%+v", a)
	}
	if s, _ := q.Stats(); s.Foreign != 5 {
		t.Errorf("%d wrong frames counted, want 5", s.Foreign)
	}
}

// Every frame in hand: nothing left to receive into once the fill ring is used up, and all is well when they come back.
func TestFramesRunOut(t *testing.T) {
	w := newWire(t, 1)
	q := w.open(t, 0, Options{Frames: 64, Ring: 32})
	far := w.tap(t)
	var held []dataplane.Frame
	for {
		f, ok := q.Alloc()
		if !ok {
			break
		}
		held = append(held, f)
	}
	for i := range 100 {
		far.send(testFrame(60, uint32(i)))
	}
	var frames [dataplane.BatchSize]dataplane.Frame
	for n := q.Recv(frames[:]); n > 0; n = q.Recv(frames[:]) {
		held = append(held, frames[:n]...)
		q.Flush()
	}
	if len(held) != 64 {
		t.Fatalf("%d frames in hand of 64", len(held))
	}
	mustAudit(t, q)
	for _, f := range held {
		q.Drop(&f)
	}
	q.Flush()
	mustAudit(t, q)
	far.send(testFrame(60, 4711))
	if f := receive(t, q); !bytes.Equal(f.Packet(), testFrame(60, 4711)) {
		t.Errorf("received %x", f.Packet())
	}
	if s, _ := q.Stats(); s.RxDropped+s.FillRingEmpty+s.RxRingFull == 0 {
		t.Errorf("68 frames without a place, and none counted: %+v", s)
	}
}

func TestLargeFrames(t *testing.T) {
	w := newWire(t, 1)
	for _, l := range []netlink.Link{w.near, w.far} {
		if err := netlink.LinkSetMTU(l, 3000); err != nil {
			t.Fatal(err)
		}
	}
	far := w.tap(t)
	// Frames of 2048 bytes have room for 1792 behind the headroom; one more is dropped and counted.
	q := w.open(t, 0, Options{})
	for i, size := range []int{1793, 1792} {
		far.send(testFrame(size, uint32(i)))
	}
	if f := receive(t, q); !bytes.Equal(f.Packet(), testFrame(1792, 1)) {
		t.Errorf("received %d bytes, want the 1792 that fit", len(f.Packet()))
	}
	if s, err := q.Stats(); err != nil || s.RxDropped != 1 {
		t.Errorf("%+v, %v: one packet was too long", s, err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}

	q = w.open(t, 0, Options{FrameSize: 4096})
	want := testFrame(3014, 4711)
	far.send(want)
	f := receive(t, q)
	if !bytes.Equal(f.Packet(), want) || len(f.Buf) != 4096 {
		t.Fatalf("received %d bytes in a frame of %d", len(f.Packet()), len(f.Buf))
	}
	q.Send(&f)
	q.Kick()
	if got := far.recv(5 * time.Second); !bytes.Equal(got, want) {
		t.Errorf("the wire carried %d bytes", len(got))
	}
	mustAudit(t, q)
}

func TestBusyPoll(t *testing.T) {
	w := newWire(t, 1)
	q := w.open(t, 0, Options{BusyPoll: 20 * time.Microsecond})
	far := w.tap(t)
	for i := range 1000 {
		want := testFrame(64, uint32(i))
		far.send(want)
		f := receive(t, q)
		if !bytes.Equal(f.Packet(), want) {
			t.Fatalf("received %x", f.Packet())
		}
		q.Send(&f)
		q.Kick()
		if got := far.recv(5 * time.Second); !bytes.Equal(got, want) {
			t.Fatalf("echo %x", got)
		}
	}
	mustAudit(t, q)
}

func TestMapsLinesOfSockets(t *testing.T) {
	found, err := parseMaps(`7f1e0a000000-7f1e0a021000 rw-p 00000000 00:00 0
7f1e38e00000-7f1e38e09000 rw-s 180000000 00:08 5555                     socket:[5555]
7f1e38e09000-7f1e38e12000 rw-s 80000000 00:08 5555                      socket:[5555]
7f1e38f00000-7f1e38f09000 rw-s 00000000 00:08 6666                      socket:[6666]
7ffd3a5e9000-7ffd3a60b000 rw-p 00000000 00:00 0                          [stack]
`)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 2 || len(found[5555]) != 2 || found[5555][1] != (mapping{0x7f1e38e09000, 0x9000, 0x80000000}) {
		t.Errorf("%+v", found)
	}
	if !ofXDP(found[5555]) || ofXDP(found[6666]) {
		t.Error("5555 has an XDP transmit ring, 6666 an AF_PACKET ring")
	}
}
