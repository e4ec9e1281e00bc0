package main

import (
	"context"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weir/control/admin"
	"weir/control/api"
	"weir/control/web"
	"weir/internal/testpkt"
)

// manyRules are n services of ten servers each.
func manyRules(n int) string {
	var b strings.Builder
	for i := range n {
		vip := fmt.Sprintf("10.%d.%d.%d:80", 100+i>>16, i>>8&255, i&255)
		fmt.Fprintf(&b, "-A -t %s -s wrr\n", vip)
		for s := range 10 {
			fmt.Fprintf(&b, "-a -t %s -r 10.%d.%d.%d:8080 -m -w 5\n", vip, 10+s, i>>8&255, i&255)
		}
	}
	return b.String()
}

// BenchmarkRestore loads 10,000 services of ten servers by weiradm -R.
func BenchmarkRestore(b *testing.B) {
	rules := manyRules(10_000)
	for b.Loop() {
		b.StopTimer()
		r := newRig(b)
		b.StartTimer()
		if exit, _, stderr := r.weiradm("-R", rules); exit != 0 {
			b.Fatal(stderr)
		}
	}
}

// BenchmarkOneOfMany changes servers among 10,000 services of ten, one after the other, each answered when the worker has it; also by two commands
// of which both are done or none.
func BenchmarkOneOfMany(b *testing.B) {
	r := newRig(b)
	if exit, _, stderr := r.weiradm("-R", manyRules(10_000)); exit != 0 {
		b.Fatal(stderr)
	}
	c := api.NewClient(r.socket)
	defer c.Close()
	const edit, remove, add = "-e -t 10.100.7.7:80 -r 10.12.7.7:8080 -m -w %d", "-d -t 10.100.7.7:80 -r 10.12.7.7:8080", "-a -t 10.100.7.7:80 -r 10.12.7.7:8080 -m -w %d"
	for _, bc := range []struct {
		name    string
		changes [][]string // in turn
	}{
		{"weight", [][]string{{edit}}},
		{"server", [][]string{{remove}, {add}}},
		{"atomic", [][]string{{remove, add}}},
	} {
		b.Run(bc.name, func(b *testing.B) {
			worst := time.Duration(0)
			for i := 0; b.Loop(); i++ {
				lines := bc.changes[i%len(bc.changes)]
				change := api.Change{Atomic: len(lines) > 1}
				for _, line := range lines {
					change.Commands = append(change.Commands, strings.Fields(strings.Replace(line, "%d", strconv.Itoa(1+i%9), 1)))
				}
				began := time.Now()
				if _, err := c.Change(b.Context(), change); err != nil {
					b.Fatal(err)
				}
				worst = max(worst, time.Since(began))
			}
			b.ReportMetric(float64(worst.Microseconds())/1000, "worst-ms")
		})
	}
}

// BenchmarkList prints 10,000 services of ten servers by weiradm -Ln.
func BenchmarkList(b *testing.B) {
	r := newRig(b)
	if exit, _, stderr := r.weiradm("-R", manyRules(10_000)); exit != 0 {
		b.Fatal(stderr)
	}
	for b.Loop() {
		if exit, _, stderr := r.weiradm("-Ln", ""); exit != 0 {
			b.Fatal(stderr)
		}
	}
}

// BenchmarkWebPage is what the web page of 10,000 services of ten servers takes from a worker while somebody looks: the worker's CPU time for a
// packet, and the CPU time of everything else, which is garbage collection for the packets and the page. Give it -benchtime 20s.
func BenchmarkWebPage(b *testing.B) {
	r := newRig(b)
	if exit, _, stderr := r.weiradm("-R", manyRules(10_000)); exit != 0 {
		b.Fatal(stderr)
	}
	const flows, batch = 2048, 32
	frames := make([][]byte, flows)
	for i := range frames {
		to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 100, byte(i >> 8), byte(i)}), 80)
		if r.client(testpkt.TCP(from(uint16(1024+i)), to, testpkt.SYN)) == nil {
			b.Fatalf("%s takes no connection", to)
		}
		frames[i] = testpkt.TCP(from(uint16(1024+i)), to, testpkt.ACK).Bytes()
	}
	for _, watched := range []bool{false, true} {
		b.Run(fmt.Sprintf("watched=%v", watched), func(b *testing.B) {
			ctx, cancel := context.WithCancel(context.Background())
			page := web.New(web.Options{Source: shownPage{r.admin}})
			var wg sync.WaitGroup
			wg.Go(func() { page.Run(ctx) })
			var answers []time.Duration
			bytes := 0
			if watched {
				wg.Go(func() {
					for tick := time.NewTicker(time.Second); ; {
						request, answer := httptest.NewRequest("GET", "http://127.0.0.1/data", nil), httptest.NewRecorder()
						began := time.Now()
						page.ServeHTTP(answer, request)
						answers = append(answers, time.Since(began))
						if bytes = answer.Body.Len(); answer.Code != 200 {
							b.Errorf("%d %s", answer.Code, answer.Body)
						}
						select {
						case <-ctx.Done():
							return
						case <-tick.C:
						}
					}
				})
			}
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			var turns time.Duration
			packets, began, thread, process := 0, time.Now(), cpuTime(b, unix.CLOCK_THREAD_CPUTIME_ID), cpuTime(b, unix.CLOCK_PROCESS_CPUTIME_ID)
			for b.Loop() {
				for k := range batch {
					if !r.queues[0].Inject(frames[(packets+k)%flows]) {
						b.Fatal("queue full")
					}
				}
				before := cpuTime(b, unix.CLOCK_THREAD_CPUTIME_ID)
				r.worker.Turn()
				turns += cpuTime(b, unix.CLOCK_THREAD_CPUTIME_ID) - before
				if n := len(r.queues[1].Sent()); n != batch {
					b.Fatalf("%d of %d packets went on", n, batch)
				}
				packets += batch
			}
			others := cpuTime(b, unix.CLOCK_PROCESS_CPUTIME_ID) - process - (cpuTime(b, unix.CLOCK_THREAD_CPUTIME_ID) - thread)
			elapsed := time.Since(began)
			cancel()
			wg.Wait()
			b.ReportMetric(float64(turns)/float64(packets), "cpu-ns/packet")
			b.ReportMetric(100*float64(others)/float64(elapsed), "%CPU-others")
			b.ReportMetric(0, "ns/op") // the rig's own, for the most part
			if watched {
				slices.Sort(answers)
				b.ReportMetric(float64(len(answers)), "answers")
				b.ReportMetric(float64(answers[len(answers)/2].Nanoseconds())/1e6, "median-answer-ms")
				b.ReportMetric(float64(bytes)/1e3, "kB/answer")
			}
		})
	}
}

// cpuTime is what a thread or a process has used (clock_gettime(2)).
func cpuTime(b *testing.B, clock int32) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		b.Fatal(err)
	}
	return time.Duration(t.Nano())
}

// shownPage is what the page shows of a rig.
type shownPage struct{ *admin.Director }

func (s shownPage) Totals() web.Totals { return web.Totals{} }
