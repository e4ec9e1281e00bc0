package afxdp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weir/dataplane"
)

// flood sends frames to near until the test ends, whatever becomes of the links.
func (w *wire) flood(t *testing.T) {
	t.Helper()
	s := w.tap(t)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := uint32(0); ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := unix.Write(s.fd, testFrame(60+int(i%1455), i)); errors.Is(err, unix.ENETDOWN) {
				time.Sleep(time.Millisecond)
			}
			s.drain()
			if i%16 == 0 {
				runtime.Gosched()
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
}

// A worker that does all it may with frames, in no order: none is ever lost or in two places, and what it sends is what it received.
func TestNoFrameIsLostUnderLoad(t *testing.T) {
	w := newWire(t, 1)
	q := w.open(t, 0, Options{Frames: 1024, Ring: 256})
	w.flood(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	var hand []dataplane.Frame
	var frames [dataplane.BatchSize]dataplane.Frame
	p := poller(t, q)
	received, rounds := 0, 0
	for deadline := time.Now().Add(20 * time.Second); received < 30000; rounds++ {
		if time.Now().After(deadline) {
			t.Fatalf("only %d frames received", received)
		}
		n := q.Recv(frames[:1+rnd.IntN(len(frames))])
		received += n
		for _, f := range frames[:n] {
			packet := f.Packet()
			if want := testFrame(len(packet), binary.BigEndian.Uint32(packet[14:])); !bytes.Equal(packet, want) {
				t.Fatalf("received %x, want %x", packet, want)
			}
			switch rnd.IntN(8) {
			case 0:
				q.Drop(&f)
			case 1:
				hand = append(hand, f)
			case 2:
				if g, ok := q.Alloc(); ok {
					g.End += copy(g.Buf[g.Off:], packet)
					q.Send(&g)
				}
				q.Send(&f)
			default:
				f.Off -= rnd.IntN(f.Off)
				q.Send(&f)
			}
		}
		for len(hand) > 300 || len(hand) > 0 && rnd.IntN(3) == 0 {
			i := rnd.IntN(len(hand))
			if f := hand[i]; rnd.IntN(2) == 0 {
				q.Send(&f)
			} else {
				q.Drop(&f)
			}
			hand[i] = hand[len(hand)-1]
			hand = hand[:len(hand)-1]
		}
		if a := q.Accounting(); a.Held != len(hand) {
			t.Fatalf("%+v: %d are in hand", a, len(hand))
		}
		switch rnd.IntN(4) {
		case 0:
			q.Kick()
		case 1:
			p.Wait(time.Millisecond)
		default:
			q.Flush()
		}
		mustAudit(t, q)
	}
	for _, f := range hand {
		q.Drop(&f)
	}
	settle(t, q)
}

// settle waits until the kernel has transmitted all it has, and checks that every frame is back where it rests.
func settle(t *testing.T, q *Queue) {
	t.Helper()
	var frames [dataplane.BatchSize]dataplane.Frame
	p := poller(t, q)
	var a Accounting
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); p.Wait(10 * time.Millisecond) {
		for n := q.Recv(frames[:]); n > 0; n = q.Recv(frames[:]) {
			for _, f := range frames[:n] {
				q.Drop(&f)
			}
			q.Flush()
		}
		if err := audit(q); err != nil {
			t.Fatal(err)
		}
		if a = q.Accounting(); a.Transmit == 0 && a.Pending == 0 && a.Held == 0 {
			return
		}
	}
	t.Fatalf("frames do not come back: %+v", a)
}

// echo is a worker of a test: it sends back all it receives, and one frame of its own per round, so that it learns about the link.
type echo struct {
	q    *Queue
	stop chan struct{}
	done chan struct{}
	once sync.Once
	err  error // of an audit; readable after end
}

func startEcho(t *testing.T, q *Queue) *echo {
	e := &echo{q: q, stop: make(chan struct{}), done: make(chan struct{})}
	p := poller(t, q)
	go e.run(p)
	t.Cleanup(e.end)
	return e
}

// end stops the worker; the queue is the caller's then.
func (e *echo) end() {
	e.once.Do(func() { close(e.stop) })
	<-e.done
}

func (e *echo) run(p *Poller) {
	defer close(e.done)
	var frames [dataplane.BatchSize]dataplane.Frame
	own := testFrame(60, 0xffffffff)
	for {
		select {
		case <-e.stop:
			return
		default:
		}
		n := e.q.Recv(frames[:])
		for _, f := range frames[:n] {
			e.q.Send(&f)
		}
		if f, ok := e.q.Alloc(); ok {
			f.End += copy(f.Buf[f.Off:], own)
			e.q.Send(&f)
		}
		e.q.Flush()
		if err := audit(e.q); err != nil {
			e.err = err
			return
		}
		if n == 0 {
			p.Wait(time.Millisecond)
		}
	}
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

func TestLinkGoesDownAndUpUnderLoad(t *testing.T) {
	for _, which := range []string{"near", "far"} {
		t.Run(which, func(t *testing.T) {
			w := newWire(t, 1)
			q := w.open(t, 0, Options{Frames: 1024})
			e := startEcho(t, q)
			w.flood(t)
			far := w.tap(t)
			dev := map[string]netlink.Link{"near": w.near, "far": w.far}[which]
			for round := range uint32(5) {
				setDown(t, dev)
				if which == "near" {
					await(t, "noticing that the link is down", func() bool { return errors.Is(q.Down(), unix.ENETDOWN) })
				}
				time.Sleep(20 * time.Millisecond) // load goes on meanwhile; nothing is awaited
				setUp(t, dev)
				await(t, "the link up again", func() bool { return q.Down() == nil })
				probe := testFrame(77, 1<<30+round)
				await(t, "an echo on the same socket", func() bool {
					_, _ = unix.Write(far.fd, probe)
					for got := far.recv(0); got != nil; got = far.recv(0) {
						if bytes.Equal(got, probe) {
							return true
						}
					}
					return false
				})
			}
			e.end()
			if e.err != nil {
				t.Fatal(e.err)
			}
			settle(t, q)
			if s, _ := q.Stats(); which == "near" && s.LinkDown == 0 {
				t.Errorf("nothing counted as dropped for the link: %+v", s)
			}
		})
	}
}

func TestInterfaceIsDeletedUnderLoad(t *testing.T) {
	w := newWire(t, 1)
	q := w.open(t, 0, Options{Frames: 1024})
	e := startEcho(t, q)
	w.flood(t)
	if err := netlink.LinkDel(w.near); err != nil {
		t.Fatal(err)
	}
	await(t, "noticing that the interface is gone", func() bool { return q.Down() != nil })
	e.end()
	if e.err != nil {
		t.Fatal(e.err)
	}
	mustAudit(t, q)
	cpu := threadCPU(t)
	p := poller(t, q)
	for deadline := time.Now().Add(300 * time.Millisecond); time.Now().Before(deadline); {
		p.Wait(100 * time.Millisecond)
	}
	if used := threadCPU(t) - cpu; used > 20*time.Millisecond {
		t.Errorf("waiting 300 ms on an interface that is gone took %v of CPU", used)
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
}

func threadCPU(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestIdleTakesNoCPU(t *testing.T) {
	w := newWire(t, 1)
	q := w.open(t, 0, Options{})
	p := poller(t, q)
	for _, state := range []string{"up", "down"} {
		cpu, start := threadCPU(t), time.Now()
		for time.Since(start) < time.Second {
			p.Wait(200 * time.Millisecond)
		}
		if used := threadCPU(t) - cpu; used > 10*time.Millisecond {
			t.Errorf("link %s: a second of waiting took %v of CPU", state, used)
		}
		if state == "up" {
			setDown(t, w.near)
			transmit(t, q, testFrame(60, 1)) // finds out
			if !errors.Is(q.Down(), unix.ENETDOWN) {
				t.Errorf("the link is down, the queue says %v", q.Down())
			}
		}
	}
}
