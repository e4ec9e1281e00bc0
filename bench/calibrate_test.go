package bench

import (
	"encoding/binary"
	"flag"
	"fmt"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// calibrated is what bench/check.sh gives: machines can be compared by it, and a busy machine with itself.
var calibrated = flag.Bool("calibrate", false, "report the worker's CPU time as a multiple of a calibration loop's, the two taking turns")

// loop is work of the same kind as a worker's for a packet, which no change of weir's touches: it hashes and copies within the nearest
// cache, and reads three lines at random, none of which waits for another, from as much memory as a table of so many flows has.
type loop struct {
	memory   []byte
	from, to [256][64]byte
	sum      uint64
}

// lines is how many lines of 64 bytes are to each flow: an entry's two, and half a line of the index and of the packet each.
const lines = 3

// newLoop maps the memory as conntrack does its table: on huge pages where there are any.
func newLoop(b *testing.B, flows int) *loop {
	memory, err := unix.Mmap(-1, 0, lines*flows*64, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = unix.Munmap(memory) })
	_ = unix.Madvise(memory, unix.MADV_HUGEPAGE)
	for i := 0; i < len(memory); i += 64 {
		memory[i] = byte(i >> 6)
	}
	return &loop{sum: 1, memory: memory}
}

func (l *loop) run(n int) {
	sum, count := l.sum, uint64(len(l.memory)/64)
	for i := range n {
		f := &l.from[i&255]
		for range 2 {
			for j := range 8 {
				sum = (sum ^ uint64(f[j*8])) * 0x9e3779b97f4a7c15
				sum ^= sum >> 29
			}
			copy(l.to[sum&255][:], f[:])
			f[i&63] = byte(sum)
		}
		at := uint64(i) * 0x9e3779b97f4a7c15
		for range lines {
			at = at*6364136223846793005 + 1442695040888963407
			sum += binary.NativeEndian.Uint64(l.memory[at>>32*count>>32<<6:])
		}
	}
	l.sum = sum
}

// BenchmarkCalibrate is the loop by itself.
func BenchmarkCalibrate(b *testing.B) {
	for _, flows := range []int{1_024, 65_536, 1_000_000} {
		b.Run(fmt.Sprintf("flows=%d", flows), func(b *testing.B) {
			l := newLoop(b, flows)
			timed(b, func() { l.run(b.N) })
		})
	}
}

const (
	calibrationTurns  = 200
	calibrationPieces = 8_192 // packets, and rounds of the loop, in a turn: about half a millisecond of each
)

// calibrate reports how many rounds of the loop a packet takes as long as: the median of many short turns, each held against the loop's turns before
// and after it. Whatever slows the machine for longer than that slows both, and what hits one turn alone is not the median.
func calibrate(b *testing.B, flows int, work func(packets int)) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	l := newLoop(b, flows)
	ns := func(f func(int)) float64 {
		before := threadTime(b)
		f(calibrationPieces)
		return float64(threadTime(b) - before)
	}
	ns(l.run)
	ns(work)
	b.ReportAllocs()
	var allocated, now runtime.MemStats
	runtime.ReadMemStats(&allocated)
	var ratios [calibrationTurns]float64
	before := ns(l.run)
	for i := range ratios {
		worked := ns(work)
		after := ns(l.run)
		ratios[i] = 2 * worked / (before + after)
		before = after
	}
	runtime.ReadMemStats(&now)
	b.ReportMetric(float64((now.Mallocs-allocated.Mallocs)/(calibrationTurns*calibrationPieces)), "allocs/op") // whole ones, as ReportAllocs
	slices.Sort(ratios[:])
	b.ReportMetric(ratios[calibrationTurns/2], "loops/op")
}

// threadTime returns the CPU time that this thread has used, in nanoseconds.
func threadTime(b *testing.B) int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return t.Nano()
}
