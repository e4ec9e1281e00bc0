package host

import (
	"bytes"
	"encoding/binary"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// recorder is an Injector in memory.
type recorder struct {
	mu     sync.Mutex
	frames [][]byte
	err    error
	gate   chan struct{} // when not nil, each call takes from it first
}

func (r *recorder) Inject(frames [][]byte) (int, error) {
	if r.gate != nil {
		<-r.gate
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(frames) == 0 || len(frames) > Batch {
		panic("called with too few or too many frames")
	}
	if r.err != nil {
		return 0, r.err
	}
	for _, f := range frames {
		r.frames = append(r.frames, bytes.Clone(f))
	}
	return len(frames), nil
}

// taken returns what was injected until now.
func (r *recorder) taken() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.frames
}

func (r *recorder) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func newPath(t *testing.T, workers int, o Options, injectors ...Injector) *Path {
	t.Helper()
	p, err := New(injectors, workers, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// numbered is a frame that says who sent it.
func numbered(worker, iface, n int) []byte {
	f := make([]byte, 14, 64)
	f = append(f, byte(worker), byte(iface))
	f = binary.BigEndian.AppendUint32(f, uint32(n))
	return f[:14+6+n%40]
}

func TestEveryPacketArrivesOnceAndInOrder(t *testing.T) {
	const workers, each = 3, 20_000
	ifaces := []*recorder{{}, {}}
	p := newPath(t, workers, Options{Rate: 1 << 30, Ring: 100}, ifaces[0], ifaces[1])
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			s := p.Sender(w)
			for n := range each {
				iface := n / 7 % 2
				for !s.Send(iface, numbered(w, iface, n)) {
					time.Sleep(10 * time.Microsecond)
				}
			}
		})
	}
	wg.Wait()
	p.Close()

	for i, r := range ifaces {
		next := [workers]int{}
		for _, f := range r.taken() {
			w, n := int(f[14]), int(binary.BigEndian.Uint32(f[16:]))
			for next[w]/7%2 != i {
				next[w]++
			}
			if n != next[w] || int(f[15]) != i || !bytes.Equal(f, numbered(w, i, n)) {
				t.Fatalf("interface %d: from worker %d came % x, want number %d", i, w, f, next[w])
			}
			next[w]++
		}
	}
	if got := len(ifaces[0].taken()) + len(ifaces[1].taken()); got != workers*each {
		t.Errorf("%d packets arrived of %d", got, workers*each)
	}
	if c := p.Counters(); c.Injected != workers*each || c.Failed+c.OverRate+c.Invalid != 0 {
		t.Errorf("counters are %+v", c)
	}
}

// The bubble's clock moves only when everything waits, and the test fails if a goroutine outlives it.
func TestTheRateIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		p := newPath(t, 2, Options{Rate: 1000, Ring: 64}, r)
		frame := numbered(0, 0, 0)
		for range 1000 { // a flood on worker 0, for a second
			for range 10 {
				p.Sender(0).Send(0, frame)
			}
			time.Sleep(time.Millisecond)
		}
		c := p.Counters()
		if c.Injected < 990 || c.Injected > 1011 { // a burst of ten, and what a second allows
			t.Errorf("%d packets were injected in a second, want 1,000 and a burst of 10", c.Injected)
		}
		if c.RingFull != 0 || c.OverRate+c.Injected+64 < 10_000 {
			t.Errorf("counters are %+v: what was not injected must be over the rate", c)
		}

		// The other worker has its share of what comes.
		before := len(r.taken())
		for range 100 {
			for range 10 {
				p.Sender(0).Send(0, frame)
				p.Sender(1).Send(0, numbered(1, 0, 0))
			}
			time.Sleep(time.Millisecond)
		}
		of := [2]int{}
		for _, f := range r.taken()[before:] {
			of[f[14]]++
		}
		if of[0] < 30 || of[1] < 30 {
			t.Errorf("the workers' shares are %d and %d packets of 100", of[0], of[1])
		}
	})
}

func TestASleepingPathWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		p := newPath(t, 1, Options{}, r)
		for n := 1; n <= 3; n++ {
			time.Sleep(time.Hour)
			synctest.Wait()
			if !p.asleep.Load() {
				t.Fatal("an idle path does not sleep")
			}
			p.Sender(0).Send(0, numbered(0, 0, n))
			synctest.Wait()
			if got := p.Counters().Injected; got != uint64(n) {
				t.Fatalf("%d packets injected, want %d", got, n)
			}
		}
	})
}

func TestAFullRingRefuses(t *testing.T) {
	r := &recorder{gate: make(chan struct{})}
	p := newPath(t, 1, Options{Rate: 1 << 30, Ring: 4}, r)
	sent := 0
	for s := p.Sender(0); s.Send(0, numbered(0, 0, sent)); sent++ {
	}
	if c := p.Counters(); sent != 4 || c.RingFull != 1 || c.OverRate != 0 {
		t.Errorf("%d packets fitted, counters are %+v; want 4, and one that found the ring full", sent, c)
	}
	close(r.gate)
	p.Close()
	if c := p.Counters(); c.Injected != 4 || len(r.taken()) != 4 {
		t.Errorf("after Close %d packets have been injected, want the 4 that waited", c.Injected)
	}
}

func TestWhatIsNoPacketIsRefused(t *testing.T) {
	r := &recorder{}
	p := newPath(t, 1, Options{MaxPacket: 100}, r)
	for _, row := range []struct {
		what  string
		iface int
		size  int
		takes bool
	}{
		{"the longest", 0, 100, true},
		{"one byte longer", 0, 101, false},
		{"an Ethernet header", 0, 14, true},
		{"one byte less", 0, 13, false},
		{"an interface beyond the last", 1, 60, false},
		{"a negative interface", -1, 60, false},
	} {
		if got := p.Sender(0).Send(row.iface, make([]byte, row.size)); got != row.takes {
			t.Errorf("%s: Send says %v", row.what, got)
		}
	}
	p.Close()
	if c := p.Counters(); c.Invalid != 4 || c.Injected != 2 {
		t.Errorf("counters are %+v, want 4 invalid and 2 injected", c)
	}
}

func TestFailuresAreCountedAndSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := &recorder{err: errors.New("no such device")}
		p := newPath(t, 1, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, r)
		send := func(n int) {
			for range n {
				p.Sender(0).Send(0, numbered(0, 0, 0))
				time.Sleep(time.Millisecond)
			}
			synctest.Wait()
		}
		send(5)
		if c := p.Counters(); c.Failed != 5 || c.Injected != 0 {
			t.Errorf("counters are %+v, want 5 failed", c)
		}
		r.fail(nil)
		send(5)
		if c := p.Counters(); c.Failed != 5 || c.Injected != 5 {
			t.Errorf("counters are %+v, want 5 failed and 5 injected", c)
		}
		if lines := strings.Count(log.String(), "\n"); lines != 2 || !strings.Contains(log.String(), "no such device") {
			t.Errorf("the log has %d lines, want the failure and the recovery:\n%s", lines, &log)
		}
	})
}

func TestCloseEndsTheGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPath(t, 1, Options{}, &recorder{})
		for range 2 {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestSendDoesNotAllocate(t *testing.T) {
	p := newPath(t, 1, Options{Rate: 1 << 30}, &recorder{err: errors.New("dropped")})
	s, frame := p.Sender(0), make([]byte, 1500)
	if n := testing.AllocsPerRun(1000, func() { s.Send(0, frame) }); n != 0 {
		t.Errorf("Send allocates %v times", n)
	}
}

func BenchmarkSend(b *testing.B) {
	p, err := New([]Injector{&recorder{err: errors.New("dropped")}}, 1, Options{Rate: 1 << 30})
	if err != nil {
		b.Fatal(err)
	}
	p.Close() // its part is done here, so that every frame finds room
	s, frame := p.Sender(0), make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		if !s.Send(0, frame) {
			b.Fatal("refused")
		}
		s.release(1)
	}
}
