package sched

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
)

// eachScheduler runs f once for every scheduler of the registry.
func eachScheduler(t *testing.T, f func(t *testing.T, k kind)) {
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) { f(t, kinds[name]) })
	}
}

// rounds returns n, or fewer for a scheduler whose table takes milliseconds to build.
func rounds(s Scheduler, n int) int {
	if _, ok := s.(*maglev); ok {
		return n / 20
	}
	return n
}

func TestSharesFollowWeights(t *testing.T) {
	eachScheduler(t, func(t *testing.T, k kind) {
		if !k.traits.shares {
			t.Logf("%s does not promise it", k.name)
			return
		}
		for _, weights := range [][]int32{{1, 1, 1}, {5, 3, 1}, {10, 20, 30, 40}, {7, 0, 2}} {
			f := newFarm(weights...)
			s := f.start(t, k.name)
			r := rand.New(rand.NewPCG(1, 2))
			total := int32(0)
			for _, w := range weights {
				total += w
			}
			n := 20000 / int(total) * int(total)
			got := make([]int, len(weights)+1)
			for taken := 0; taken < n; {
				c := s.Pick(client(r))
				if c == nil {
					continue // a bucket of sh whose server has weight 0
				}
				taken++
				got[number(c)]++
				if k.traits.counts {
					c.Load.Active.Add(1)
				}
			}
			for i, w := range weights {
				want := float64(n) * float64(w) / float64(total)
				slack := 1.0 // a scheduler that knows what it has given out is off by a connection at most
				switch {
				case k.traits.runs: // a run of the table, and chance in which clients come
					slack = 0.05*want + float64(n)*float64(w)/float64(k.traits.slots)
				case k.traits.hashes:
					slack = 0.05 * want
				case k.traits.draws:
					slack = 4 * math.Sqrt(want)
				}
				if math.Abs(float64(got[i+1])-want) > slack {
					t.Errorf("weights %v: server %d got %d of %d, want %.0f within %.0f", weights, i+1, got[i+1], n, want, slack)
				}
			}
		}
	})
}

// TestOnlyOpenServersArePicked goes through random weights and thresholds: what is quiesced is never picked, what is full
// only where the scheduler says so, and with one server open nobody but that one.
func TestOnlyOpenServersArePicked(t *testing.T) {
	eachScheduler(t, func(t *testing.T, k kind) {
		for _, flags := range [][]string{nil, {"flag-1"}} {
			r := rand.New(rand.NewPCG(3, 4))
			f := newFarm(make([]int32, 12)...)
			s := f.start(t, k.name, flags...)
			for range rounds(s, 100) {
				for i := 1; i <= 12; i++ {
					f.edit(i, r.Int32N(3)*r.Int32N(4))
					f.get(i).Load.Overloaded.Store(r.IntN(3) == 0)
					f.get(i).Load.Active.Store(r.Int32N(6))
				}
				s.Update(f.list(s))
				for range 20 {
					c := s.Pick(client(r))
					if c == nil {
						continue
					}
					if c != f.get(number(c)) {
						t.Fatalf("picked a server of an older list")
					}
					if c.Weight == 0 || c.Load.Overloaded.Load() && !k.traits.overload {
						t.Fatalf("picked a server with weight %d, overloaded %v", c.Weight, c.Load.Overloaded.Load())
					}
				}
			}
		}
	})
}

func TestNobodyTakesTheConnectionWhenAllAreClosed(t *testing.T) {
	eachScheduler(t, func(t *testing.T, k kind) {
		for _, flags := range [][]string{nil, {"flag-1"}} {
			r := rand.New(rand.NewPCG(5, 6))
			s, _ := New(k.name, flags)
			s.Update(&List{})
			if c := s.Pick(client(r)); c != nil {
				t.Errorf("picked %v of no servers", c.Addr)
			}
			f := newFarm(1, 2, 3)
			s.Update(f.list(s))
			f.edit(2, 0)
			f.get(1).Load.Overloaded.Store(true)
			f.get(3).Load.Overloaded.Store(true)
			s.Update(f.list(s))
			for range 50 {
				if c := s.Pick(client(r)); c != nil {
					t.Fatalf("flags %v: picked %v", flags, c.Addr)
				}
			}
			f.get(1).Load.Overloaded.Store(false)
			picked := false
			for range 200 {
				picked = picked || s.Pick(client(r)) != nil
			}
			if !picked {
				t.Errorf("flags %v: nobody is picked after a server has opened", flags)
			}
		}
	})
}

func TestAHashingSchedulerAnswersTheSameForTheSameRequest(t *testing.T) {
	eachScheduler(t, func(t *testing.T, k kind) {
		if !k.traits.hashes {
			return
		}
		f := newFarm(3, 1, 4, 1, 5)
		s, again := f.start(t, k.name), f.start(t, k.name)
		r := rand.New(rand.NewPCG(7, 8))
		for range 500 {
			q := client(r)
			if a, b := s.Pick(q), again.Pick(q); a != b || s.Pick(q) != a {
				t.Fatalf("%v goes to %v and to %v", q.Flow, a.Addr, b.Addr)
			}
		}
	})
}

// TestDisruption removes one of n equal servers and counts the clients that go elsewhere than before.
func TestDisruption(t *testing.T) {
	const clients = 20000
	eachScheduler(t, func(t *testing.T, k kind) {
		if k.traits.stable == 0 {
			return
		}
		for _, n := range []int{2, 10, 100, k.traits.slots / k.traits.stable} {
			if k.traits.slots/n < k.traits.stable {
				continue
			}
			for _, gone := range []int{1, n} {
				f := newFarm(equalWeights(n)...)
				s := f.start(t, k.name)
				r := rand.New(rand.NewPCG(9, uint64(n)))
				requests, before := make([]*Request, clients), make([]int, clients)
				share := 0
				for i := range requests {
					requests[i] = client(r)
					before[i] = number(s.Pick(requests[i]))
					if before[i] == gone {
						share++
					}
				}
				f.remove(gone)
				s.Update(f.list(s))
				moved := 0
				for i, q := range requests {
					if number(s.Pick(q)) != before[i] {
						moved++
					}
				}
				if float64(moved) > 1.5*float64(share) {
					t.Errorf("without server %d of %d, %d clients moved, more than 1.5 times the %d it had", gone, n, moved, share)
				}
			}
		}
	})
}

// TestUpdateMayFold compares a scheduler that gets every list with one that gets the last list only.
func TestUpdateMayFold(t *testing.T) {
	eachScheduler(t, func(t *testing.T, k kind) {
		r := rand.New(rand.NewPCG(10, 11))
		scheduler, _ := New(k.name, nil)
		for round := range rounds(scheduler, 60) {
			weights := make([]int32, 1+r.IntN(5))
			for i := range weights {
				weights[i] = r.Int32N(3) * (1 + r.Int32N(4))
			}
			f := newFarm(weights...)
			each, folded := f.start(t, k.name), f.start(t, k.name)
			if a, ok := each.(*twos); ok {
				a.random.Seed(1, 2)
				folded.(*twos).random.Seed(1, 2)
			}
			next := len(weights)
			same := func() {
				for i := range 1 + r.IntN(12) {
					q := client(r)
					if a, b := each.Pick(q), folded.Pick(q); a != b {
						t.Fatalf("round %d, pick %d: one by one %v, folded %v", round, i, a, b)
					}
				}
			}
			for range 5 {
				same()
				for range r.IntN(len(f.servers) + 1) {
					f.remove(number(f.servers[r.IntN(len(f.servers))]))
					each.Update(f.list(each))
				}
				for range r.IntN(3) {
					next++
					f.add(next, r.Int32N(7))
					each.Update(f.list(each))
				}
				if r.IntN(2) == 0 && len(f.servers) > 0 {
					f.edit(number(f.servers[r.IntN(len(f.servers))]), r.Int32N(7))
					each.Update(f.list(each))
				}
				folded.Update(f.list(folded))
			}
			same()
		}
	})
}

// TestPickIsSafeBehindAMutex lets four workers pick and count while connections end and lists change beside them.
func TestPickIsSafeBehindAMutex(t *testing.T) {
	eachScheduler(t, func(t *testing.T, k kind) {
		const workers, picks = 4, 1000
		f := newFarm(1, 2, 3, 4, 5)
		s := f.start(t, k.name)
		lists := make([]*List, 20)
		for i := range lists {
			f.edit(1+i%5, int32(i%4))
			lists[i] = f.list(s)
		}
		var mu sync.Mutex
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(12, uint64(w)))
				for i := range picks {
					mu.Lock()
					if i%100 == 0 {
						s.Update(lists[i/100*2+w%2])
					}
					c := s.Pick(client(r))
					if c != nil {
						c.Load.Active.Add(1)
						c.Load.Opened()
					}
					mu.Unlock()
					if c != nil {
						c.Load.Active.Add(-1)
						c.Load.Overloaded.Store(i%7 == 0)
					}
				}
			})
		}
		wg.Go(func() { // control prepares the next list while workers pick
			for range 20 {
				Prepare(s, &List{Servers: f.servers})
			}
		})
		wg.Wait()
		for _, c := range f.servers {
			if n := c.Load.Active.Load(); n != 0 {
				t.Errorf("server %d has %d connections left", number(c), n)
			}
		}
	})
}

func TestPickDoesNotAllocate(t *testing.T) {
	eachScheduler(t, func(t *testing.T, k kind) {
		f := newFarm(equalWeights(100)...)
		f.get(7).Load.Overloaded.Store(true) // so that ways around a full server are gone too
		s := f.start(t, k.name, "flag-1", "flag-2")
		r := rand.New(rand.NewPCG(13, 14))
		q := client(r)
		if n := testing.AllocsPerRun(1, func() { // one run of many picks: it rounds down
			for range 2 * cacheEntries {
				q.Flow.Src.Lo += 257
				q.Flow.Dst.Lo++ // more destinations than lblc and lblcr remember
				q.Now++
				if c := s.Pick(q); c != nil {
					c.Load.Active.Add(1)
				}
			}
		}); n != 0 {
			t.Errorf("%v allocations in %d picks", n, 2*cacheEntries)
		}
	})
}

func BenchmarkPick(b *testing.B) {
	for _, name := range Names() {
		for _, n := range []int{10, 100, 1000} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				f := newFarm(equalWeights(n)...)
				r := rand.New(rand.NewPCG(15, 16))
				for _, c := range f.servers {
					c.Load.Active.Store(1 + r.Int32N(3)) // nobody idle, or nq would stop at the first
				}
				s := f.start(b, name)
				requests := make([]*Request, 1024)
				for i := range requests {
					requests[i] = client(r)
				}
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					if s.Pick(requests[i%len(requests)]) == nil {
						b.Fatal("nobody")
					}
					i++
				}
			})
		}
	}
}

// BenchmarkPrepare is what a change of 1,000 servers costs control.
func BenchmarkPrepare(b *testing.B) {
	for _, name := range []string{"mh", "maglev"} {
		b.Run(name, func(b *testing.B) {
			f := newFarm(equalWeights(1000)...)
			s := f.start(b, name)
			for b.Loop() {
				f.list(s)
			}
		})
	}
}

// BenchmarkUpdate is what a change of one of 1,000 servers costs the worker that meets it first.
func BenchmarkUpdate(b *testing.B) {
	for _, name := range Names() {
		b.Run(name, func(b *testing.B) {
			f := newFarm(equalWeights(1000)...)
			s := f.start(b, name)
			l := [2]*List{f.list(s)}
			f.edit(500, 2)
			l[1] = f.list(s)
			i := 0
			for b.Loop() {
				s.Update(l[i&1])
				i++
			}
		})
	}
}
