package afxdp

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weir/dataplane"
)

func send(t *testing.T, q *Queue, packet []byte) {
	t.Helper()
	f, ok := q.Alloc()
	if !ok {
		t.Fatal("no frame")
	}
	f.End += copy(f.Buf[f.Off:], packet)
	if !q.Send(&f) {
		t.Fatal("no room to send")
	}
}

// calls returns how many sendto a kick of so many frames takes: each takes the budget, where the kernel has that option, and 32 elsewhere.
func calls(t *testing.T, q *Queue, frames, budget int) uint64 {
	t.Helper()
	switch err := unix.SetsockoptInt(q.FD(), unix.SOL_XDP, unix.XDP_MAX_TX_SKB_BUDGET, budget); err {
	case nil:
	case unix.ENOPROTOOPT:
		budget = 32
	default:
		t.Fatal(err)
	}
	return uint64((frames + budget - 1) / budget)
}

func TestFewFramesLingerManyGo(t *testing.T) {
	w := newWire(t, 1)
	q := w.open(t, 0, Options{KickAt: 64, Linger: time.Hour})
	far := w.tap(t)
	for i := range uint32(63) {
		send(t, q, testFrame(60, i))
		q.Flush()
	}
	if a := q.Accounting(); a.Pending != 63 {
		t.Fatalf("63 frames of 64 are to wait: %+v", a)
	}
	send(t, q, testFrame(60, 63))
	q.Flush()
	for i := range uint32(64) {
		if got := far.recv(5 * time.Second); !bytes.Equal(got, testFrame(60, i)) {
			t.Fatalf("frame %d on the wire: %x", i, got)
		}
	}
	if s, _ := q.Stats(); s.Kicks != calls(t, q, 64, 64) {
		t.Errorf("%d system calls for 64 frames, want %d", s.Kicks, calls(t, q, 64, 64))
	}
	mustAudit(t, q)
}

func TestLingerEnds(t *testing.T) {
	for name, round := range map[string]func(q *Queue){
		"by Flush":         func(q *Queue) { q.Flush() },
		"by an empty Recv": func(q *Queue) { q.Recv(make([]dataplane.Frame, 1)) },
	} {
		w := newWire(t, 1)
		q := w.open(t, 0, Options{})
		far := w.tap(t)
		send(t, q, testFrame(60, 1))
		await(t, "the kick "+name, func() bool { round(q); return len(q.pending) == 0 })
		if got := far.recv(5 * time.Second); !bytes.Equal(got, testFrame(60, 1)) {
			t.Errorf("%s: the wire carried %x", name, got)
		}
	}
}

func TestNoLinger(t *testing.T) {
	w := newWire(t, 1)
	q := w.open(t, 0, Options{Linger: -1})
	far := w.tap(t)
	send(t, q, testFrame(60, 1))
	q.Flush()
	if got := far.recv(5 * time.Second); !bytes.Equal(got, testFrame(60, 1)) {
		t.Errorf("the wire carried %x", got)
	}
}

func TestNothingPendsWhileWaiting(t *testing.T) {
	w := newWire(t, 1)
	q := w.open(t, 0, Options{Linger: time.Hour})
	far := w.tap(t)
	p := poller(t, q)
	send(t, q, testFrame(60, 1))
	p.Wait(time.Millisecond)
	if got := far.recv(5 * time.Second); !bytes.Equal(got, testFrame(60, 1)) {
		t.Errorf("the wire carried %x", got)
	}
}

// More frames than one sendto takes without XDP_MAX_TX_SKB_BUDGET, and than the ring holds.
func TestAKickDrainsTheRing(t *testing.T) {
	for _, budget := range []int{32, 512} {
		w := newWire(t, 1)
		q := w.open(t, 0, Options{Frames: 1024, Ring: 512, KickAt: 512, Budget: budget})
		far := w.tap(t)
		for i := range uint32(500) {
			send(t, q, testFrame(60, i))
		}
		q.Kick()
		if a := q.Accounting(); a.Pending != 0 {
			t.Errorf("budget %d: %+v", budget, a)
		}
		if s, _ := q.Stats(); s.Kicks != calls(t, q, 500, budget) {
			t.Errorf("budget %d: %d system calls, want %d", budget, s.Kicks, calls(t, q, 500, budget))
		}
		for i := range uint32(500) {
			if got := far.recv(5 * time.Second); !bytes.Equal(got, testFrame(60, i)) {
				t.Fatalf("budget %d: frame %d on the wire: %x", budget, i, got)
			}
		}
		settle(t, q)
	}
}

func TestWakeEndsAWait(t *testing.T) {
	w := newWire(t, 1)
	q := w.open(t, 0, Options{})
	p := poller(t, q)
	p.Wake()
	if !p.Wait(-1) {
		t.Error("a wake-up before Wait is lost")
	}
	if p.Wait(time.Millisecond) {
		t.Error("one wake-up ended two waits")
	}
	go p.Wake()
	start := time.Now()
	for !p.Wait(10 * time.Second) {
		if time.Since(start) > 9*time.Second {
			t.Fatal("Wake does not end Wait")
		}
	}
	for range 2 {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	p.Wake() // harmless
}

func TestAPacketEndsAWait(t *testing.T) {
	w := newWire(t, 2)
	q := []*Queue{w.open(t, 0, Options{}), w.open(t, 1, Options{})}
	far := w.tap(t)
	p := poller(t, q...)
	far.send(testFrame(60, 1))
	var frames [1]dataplane.Frame
	await(t, "the packet", func() bool {
		if p.Wait(-1) {
			t.Error("woken by nobody")
		}
		return q[0].Recv(frames[:])+q[1].Recv(frames[:]) == 1
	})
}

func TestErrnoIsFoundInThePanic(t *testing.T) {
	for _, errno := range []unix.Errno{unix.ENETDOWN, unix.ENXIO, unix.ENOBUFS} {
		minusOne := ^uintptr(0)
		if got := sendtoError(fmt.Errorf("sendto failed with rc=%d and errno=%d", minusOne, errno)); got != errno {
			t.Errorf("%v, want %v", got, errno)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("another panic is swallowed")
		}
	}()
	_ = sendtoError(errors.New("index out of range"))
}

// Lack of memory passes: the frames stay where they are, and the queue is not down.
func TestNoMemoryIsNotDown(t *testing.T) {
	w := newWire(t, 1)
	q := w.open(t, 0, Options{Linger: time.Hour})
	send(t, q, testFrame(60, 1))
	q.fail(unix.ENOBUFS)
	if a := q.Accounting(); q.Down() != nil || a.Pending != 1 {
		t.Errorf("down %v, %+v", q.Down(), a)
	}
	q.fail(unix.EPERM)
	if a := q.Accounting(); q.Down() != unix.EPERM || a.Pending != 0 {
		t.Errorf("down %v, %+v", q.Down(), a)
	}
	mustAudit(t, q)
}

func TestForwardingDoesNotAllocate(t *testing.T) {
	w := newWire(t, 1)
	q := w.open(t, 0, Options{})
	far := w.tap(t)
	p := poller(t, q)
	var frames [dataplane.BatchSize]dataplane.Frame
	packet := testFrame(60, 1)
	if n := testing.AllocsPerRun(200, func() {
		_, _ = unix.Write(far.fd, packet)
		p.Wait(time.Millisecond)
		n := q.Recv(frames[:])
		for _, f := range frames[:n] {
			q.Send(&f)
		}
		if f, ok := q.Alloc(); ok {
			q.Drop(&f)
		}
		q.Flush()
		q.Kick()
	}); n != 0 {
		t.Errorf("%v allocations per round", n)
	}
}
