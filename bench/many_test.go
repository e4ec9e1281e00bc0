package bench

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"weir/dataplane"
	"weir/lb"
)

// load has the worker take n packets of its only queue.
func load(w *dataplane.Worker, q *flows, n int) {
	for q.quota = n; q.quota > 0; {
		w.Turn()
	}
}

// residentBytes is the memory that this process has (proc_pid_statm(5)).
func residentBytes(b *testing.B) int {
	b.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	var size, resident int
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		b.Fatal(err)
	}
	return resident * os.Getpagesize()
}

// BenchmarkResident is ten million connections: how much memory they take (the table's index and due times included, nothing but them), and
// what a packet of any of them costs. They are opened once for each mode, which Go runs several times.
func BenchmarkResident(all *testing.B) {
	for _, mode := range []lb.Mode{lb.DR, lb.NAT} {
		const count = 10_000_000
		var r *rig
		var q *flows
		var w *dataplane.Worker
		var before, after int
		all.Run("mode="+mode.String(), func(b *testing.B) {
			if r == nil {
				before = residentBytes(b)
				r = newShared(all, mode, lb.UDP, count, lb.AddrFrom4, nil)
				q = newFlows(count, lb.UDP)
				w = r.newWorker(0, 1, q)
				load(w, q, count)
				if c := w.Counters(); c.Connections != count || c.ToServer != count {
					b.Fatalf("%d connections, %d packets forwarded, want %d", c.Connections, c.ToServer, count)
				}
				after = residentBytes(b)
			}
			b.ReportAllocs()
			b.ResetTimer()
			load(w, q, b.N)
			b.StopTimer()
			b.ReportMetric(float64(after-before)/count, "B/connection")
			b.ReportMetric(float64(after)/(1<<20), "process-MiB")
		})
		if r != nil { // it was not left out by -bench
			r.conns.Close()
		}
	}
}

// BenchmarkOpen is a new connection: the SYN that opens it, through the scheduler to the entry in the table, which has held twice as many
// before and is empty again.
func BenchmarkOpen(b *testing.B) {
	const count = 1_000_000
	for _, mode := range []lb.Mode{lb.DR, lb.NAT, lb.FULLNAT} {
		b.Run("mode="+mode.String(), func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				b.StopTimer()
				var now atomic.Uint32
				now.Store(1)
				r := newShared(b, mode, lb.TCP, 2*count, lb.AddrFrom4, now.Load)
				q := newFlows(2*count, lb.TCP)
				w := r.newWorker(0, 1, q)
				load(w, q, 2*count)
				for now.Store(1000); w.Counters().Expired < 2*count; {
					w.Turn()
				}
				b.StartTimer()
				load(w, q, count)
				b.StopTimer()
				if opened := w.Counters().Connections; opened != 3*count {
					b.Fatalf("%d connections opened, want %d", opened, 3*count)
				}
				r.conns.Close()
			}
			perConnection := float64(b.Elapsed().Nanoseconds()) / float64(b.N) / count
			b.ReportMetric(perConnection, "ns/op")
			b.ReportMetric(1e9/perConnection, "connections/s")
		})
	}
}

// turnTimes runs the worker turn by turn, with so many packets waiting at each, and returns how long each turn took, sorted.
func turnTimes(w *dataplane.Worker, q *flows, packets int, more func(turn int) bool) []time.Duration {
	times := make([]time.Duration, 0, 1<<20)
	for turn := 0; more(turn) && len(times) < cap(times); turn++ {
		q.quota = packets
		start := time.Now()
		w.Turn()
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	return times
}

func reportTimes(b *testing.B, times []time.Duration) {
	us := func(d time.Duration) float64 { return float64(d) / 1e3 }
	b.ReportMetric(us(times[len(times)/2]), "p50-us")
	b.ReportMetric(us(times[len(times)*999/1000]), "p99.9-us")
	b.ReportMetric(us(times[len(times)-1]), "max-us")
	b.ReportMetric(0, "ns/op") // means nothing here
}

// BenchmarkExpiry is how long a turn of 32 packets takes, which is how long a packet may wait, while nothing ends and while a million
// connections end at once.
func BenchmarkExpiry(b *testing.B) {
	for _, ending := range []bool{false, true} {
		b.Run(fmt.Sprintf("ending=%v", ending), func(b *testing.B) {
			const count, live = 1_000_000, 1000
			for range b.N {
				var now atomic.Uint32
				now.Store(1)
				r := newShared(b, lb.NAT, lb.UDP, count+1024, lb.AddrFrom4, now.Load)
				dying, q := newFlows(count, lb.UDP), newFlows(live, lb.UDP) // live ones are among the others
				opener := r.newWorker(0, 1, dying)
				load(opener, dying, count)
				w := r.newWorker(0, 1, q)
				timeout := r.conns.Timeouts().UDP
				now.Store(timeout) // what hears of packets from now on stays
				load(w, q, live)
				turns := 20_000
				more := func(turn int) bool { return turn < turns }
				if ending {
					now.Store(timeout + 2)
					more = func(int) bool { return w.Counters().Expired < count-live }
				}
				times := turnTimes(w, q, 32, more)
				if expired := w.Counters().Expired; ending && expired != count-live {
					b.Fatalf("%d connections have ended, want %d", expired, count-live)
				}
				reportTimes(b, times)
				b.ReportMetric(float64(len(times)), "turns")
				r.conns.Close()
			}
		})
	}
}

// BenchmarkCollection is how long a turn of 32 packets takes while Go's garbage collector rests, while it runs once a second, as it does in a
// director at most whose services are edited and metrics read all the time, and while it runs without a pause; on a heap as a director with some ten
// thousand servers has. Each collection stops the worker twice: at once a second that is far from one turn in a thousand, always it is more.
func BenchmarkCollection(b *testing.B) {
	for _, c := range []struct {
		name  string
		every time.Duration // from the end of one collection to the next
		turns int
	}{{"never", time.Hour, 1_000_000}, {"every-second", time.Second, 1_000_000}, {"always", 0, 100_000}} {
		b.Run("collecting="+c.name, func(b *testing.B) {
			type server struct {
				name string
				next *server
			}
			var heap *server
			for i := range 200_000 {
				heap = &server{fmt.Sprint(i), heap}
			}
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(4, runtime.GOMAXPROCS(0)))) // as weir has it with two workers
			const count = 65_536
			r := newShared(b, lb.NAT, lb.UDP, count, lb.AddrFrom4, nil)
			q := newFlows(count, lb.UDP)
			w := r.newWorker(0, 1, q)
			load(w, q, count)
			var wg sync.WaitGroup
			stop := make(chan struct{})
			collections := 0
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(c.every):
						runtime.GC()
						collections++
					}
				}
			})
			var times []time.Duration
			wg.Go(func() {
				runtime.LockOSThread()
				times = turnTimes(w, q, 32, func(turn int) bool { return turn < c.turns })
				close(stop)
			})
			wg.Wait()
			reportTimes(b, times)
			b.ReportMetric(float64(collections), "collections")
			runtime.KeepAlive(heap)
		})
	}
}

// BenchmarkParallel is the time per packet of all workers together, on one table, each with flows of its own as a NIC spreads them.
func BenchmarkParallel(b *testing.B) {
	for _, mode := range []lb.Mode{lb.DR, lb.NAT} {
		for _, workers := range []int{1, 2} {
			b.Run(fmt.Sprintf("mode=%s/workers=%d", mode, workers), func(b *testing.B) {
				const count = 65_536 // of each
				r := newShared(b, mode, lb.UDP, workers*count, lb.AddrFrom4, nil)
				var wg sync.WaitGroup
				begin := make(chan struct{})
				var ready sync.WaitGroup
				for i := range workers {
					ready.Add(1)
					q := newFlows(count, lb.UDP)
					q.first = uint32(i) * count
					w := r.newWorker(i, workers, q)
					wg.Go(func() {
						runtime.LockOSThread()
						load(w, q, count)
						ready.Done()
						<-begin
						load(w, q, b.N/workers)
						if c := w.Counters(); c.ToServer != c.Received {
							b.Errorf("%d of %d packets forwarded", c.ToServer, c.Received)
						}
					})
				}
				ready.Wait()
				b.ReportAllocs()
				b.ResetTimer()
				close(begin)
				wg.Wait()
			})
		}
	}
}
