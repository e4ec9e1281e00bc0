package memqueue

import (
	"bytes"
	"fmt"
	"testing"

	"weir/dataplane"
)

func TestPacketsComeAndGo(t *testing.T) {
	q := New(8)
	var frames [dataplane.BatchSize]dataplane.Frame
	if n := q.Recv(frames[:]); n != 0 {
		t.Fatalf("Recv on an empty queue: %d frames", n)
	}
	for size := 60; size <= 1514; size++ {
		want := bytes.Repeat([]byte{byte(size)}, size)
		if !q.Inject(want) {
			t.Fatalf("Inject refused %d bytes", size)
		}
		if n := q.Recv(frames[:]); n != 1 {
			t.Fatalf("Recv: %d frames, want 1", n)
		}
		f := frames[0]
		if f.Off != dataplane.Headroom || len(f.Buf) != FrameSize || cap(f.Buf) != FrameSize {
			t.Fatalf("frame has Off %d, len %d, cap %d", f.Off, len(f.Buf), cap(f.Buf))
		}
		if q.Outstanding() != 1 {
			t.Fatalf("Outstanding %d while one frame is held", q.Outstanding())
		}
		f.Off -= 20 // as TUN prepends
		copy(f.Buf[f.Off:], "outer header, 20 by.")
		if !q.Send(&f) {
			t.Fatal("Send refused")
		}
		if got := q.Sent(); len(got) != 0 {
			t.Fatalf("%d packets transmitted before Flush", len(got))
		}
		q.Flush()
		got := q.Sent()
		if len(got) != 1 || !bytes.Equal(got[0], append([]byte("outer header, 20 by."), want...)) {
			t.Fatalf("size %d: transmitted %x", size, got)
		}
	}
	if q.Outstanding() != 0 {
		t.Errorf("Outstanding %d at the end", q.Outstanding())
	}
}

func TestOrderIsKept(t *testing.T) {
	q := New(300)
	for i := range 300 {
		q.Inject([]byte{byte(i >> 8), byte(i)})
	}
	if q.Inject([]byte{0}) {
		t.Error("Inject found room in a full queue")
	}
	var frames [dataplane.BatchSize]dataplane.Frame
	for n := q.Recv(frames[:]); n > 0; n = q.Recv(frames[:]) {
		for _, f := range frames[:n] {
			q.Send(&f)
		}
		q.Flush()
	}
	sent := q.Sent()
	if len(sent) != 300 {
		t.Fatalf("%d packets sent, want 300", len(sent))
	}
	for i, p := range sent {
		if p[0] != byte(i>>8) || p[1] != byte(i) {
			t.Fatalf("packet %d is %x", i, p)
		}
	}
}

func TestFramesRunOut(t *testing.T) {
	q := New(2)
	a, _ := q.Alloc()
	b, ok := q.Alloc()
	if !ok {
		t.Fatal("second of two frames missing")
	}
	if _, ok := q.Alloc(); ok {
		t.Error("a third frame of two")
	}
	if !q.Inject([]byte{1}) {
		t.Error("Inject needs no frame")
	}
	if n := q.Recv(make([]dataplane.Frame, 1)); n != 0 {
		t.Error("Recv without a free frame")
	}
	q.Refuse(1)
	if q.Send(&a) {
		t.Error("Send went through although it was to be refused")
	}
	if !q.Send(&b) {
		t.Error("only one Send was to be refused")
	}
	q.Flush()
	if q.Outstanding() != 0 || len(q.Sent()) != 1 {
		t.Error("a refused frame must be dropped, the other sent")
	}
	if n := q.Recv(make([]dataplane.Frame, 1)); n != 1 {
		t.Error("the injected packet is lost")
	}
	if q.Inject(make([]byte, FrameSize-dataplane.Headroom+1)) {
		t.Error("Inject took a packet that no frame holds")
	}
}

func TestMisusePanics(t *testing.T) {
	for name, misuse := range map[string]func(q *Queue, f dataplane.Frame){
		"sent twice":           func(q *Queue, f dataplane.Frame) { q.Send(&f); q.Send(&f) },
		"dropped twice":        func(q *Queue, f dataplane.Frame) { q.Drop(&f); q.Drop(&f) },
		"sent, then dropped":   func(q *Queue, f dataplane.Frame) { q.Send(&f); q.Flush(); q.Drop(&f) },
		"of another queue":     func(q *Queue, f dataplane.Frame) { other := New(4); g, _ := other.Alloc(); q.Drop(&g) },
		"end before its start": func(q *Queue, f dataplane.Frame) { f.End = f.Off - 1; q.Send(&f) },
		"end beyond its frame": func(q *Queue, f dataplane.Frame) { f.End = len(f.Buf) + 1; q.Send(&f) },
		"start before the mem": func(q *Queue, f dataplane.Frame) { f.Off = -1; q.Send(&f) },
	} {
		t.Run(name, func(t *testing.T) {
			q := New(4)
			f, _ := q.Alloc()
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			misuse(q, f)
		})
	}
}

func TestLoopServesForEver(t *testing.T) {
	q := New(64)
	q.Loop([][]byte{{1}, {2, 2}, {3, 3, 3}})
	frames := make([]dataplane.Frame, 32)
	for i := 0; i < 320; {
		n := q.Recv(frames)
		for _, f := range frames[:n] {
			if want := i%3 + 1; len(f.Packet()) != want || f.Packet()[0] != byte(want) {
				t.Fatalf("packet %d is %x", i, f.Packet())
			}
			i++
			q.Send(&f)
		}
		q.Flush()
	}
	if q.SentCount() != 320 || q.Outstanding() != 0 {
		t.Errorf("sent %d, outstanding %d", q.SentCount(), q.Outstanding())
	}
}

func TestLoopDoesNotAllocate(t *testing.T) {
	q := New(512)
	q.Loop([][]byte{make([]byte, 60)})
	var frames [dataplane.BatchSize]dataplane.Frame
	if n := testing.AllocsPerRun(100, func() { forward(q, frames[:]) }); n != 0 {
		t.Errorf("%v allocations per batch", n)
	}
}

func forward(q *Queue, frames []dataplane.Frame) int {
	n := q.Recv(frames)
	for _, f := range frames[:n] {
		q.Send(&f)
	}
	q.Flush()
	return n
}

// What the queue itself costs, to be taken off a worker's figure.
func BenchmarkLoop(b *testing.B) {
	for _, count := range []int{1000, 1 << 20} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			q := New(4096)
			packets := make([][]byte, count)
			for i := range packets {
				packets[i] = bytes.Repeat([]byte{byte(i)}, 60)
			}
			q.Loop(packets)
			var frames [dataplane.BatchSize]dataplane.Frame
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; {
				i += forward(q, frames[:])
			}
		})
	}
}
