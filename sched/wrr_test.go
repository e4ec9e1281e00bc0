package sched

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// slowWRR walks every round as the kernel does, bar by bar.
type slowWRR struct {
	servers    []*Server
	cl         int // place of the server chosen last, head in front of all
	cw, mw, di int
}

func (s *slowWRR) init(servers []*Server) { s.cw = -1; s.changed(servers) }

// changed is called for every single change.
func (s *slowWRR) changed(servers []*Server) {
	s.servers, s.cl, s.di = servers, head, 0
	largest := 0
	for _, c := range servers {
		w := int(c.Weight)
		largest = max(largest, w)
		for a := w; a != 0; {
			s.di, a = a, s.di%a
		}
	}
	if s.di == 0 {
		s.di = 1
	}
	s.mw = largest - (s.di - 1)
	if s.cw > s.mw || s.cw <= 0 {
		s.cw = s.mw
	} else if s.di > 1 {
		s.cw = s.cw/s.di*s.di + 1
	}
}

func (s *slowWRR) pick() *Server {
	if s.mw == 0 {
		return nil
	}
	last, at, stop := s.cl, s.cl, head
	lastPass, restarted := false, false
	for {
		for at++; at < len(s.servers); at++ {
			if c := s.servers[at]; !c.Load.Overloaded.Load() && int(c.Weight) >= s.cw {
				s.cl = at
				return c
			}
			if at == stop {
				s.cl = at
				return nil
			}
		}
		at = head
		if s.cw -= s.di; s.cw <= 0 {
			s.cw = s.mw
			if lastPass || last == head {
				s.cl = head
				return nil
			}
			restarted = true
		}
		lastPass = s.cw <= s.di
		if lastPass && restarted && last != head {
			stop = last
		}
	}
}

// TestWRRPicksAsWithoutShortcuts compares wrr, which skips rounds that find nobody, with the walk through all of them.
func TestWRRPicksAsWithoutShortcuts(t *testing.T) {
	r := rand.New(rand.NewPCG(20, 21))
	for round := range 300 {
		f := newFarm()
		fast, slow := f.start(t, "wrr").(*wrr), new(slowWRR)
		slow.init(nil)
		change := func() {
			fast.Update(f.list(fast))
			slow.changed(f.servers)
		}
		scale := int32(1 + r.IntN(4))
		for i := range 400 {
			switch n := r.IntN(20); {
			case len(f.servers) == 0 || n == 0 && len(f.servers) < 6:
				f.add(i+1, r.Int32N(6)*scale)
				change()
			case n == 1:
				f.remove(number(f.servers[r.IntN(len(f.servers))]))
				change()
			case n == 2:
				f.edit(number(f.servers[r.IntN(len(f.servers))]), r.Int32N(6)*scale)
				change()
			case n < 8:
				f.servers[r.IntN(len(f.servers))].Load.Overloaded.Store(r.IntN(3) > 0)
			case n == 8 && r.IntN(10) == 0: // the service gets a new scheduler of the same kind
				fast, slow = &wrr{at: head}, new(slowWRR)
				fast.Update(f.list(fast))
				slow.init(f.servers)
			default:
				got, want := fast.Pick(nil), slow.pick()
				if got != want || fast.at != slow.cl || fast.bar != slow.cw {
					t.Fatalf("round %d, event %d: picks %v with cursor %d and bar %d, want %v, %d, %d",
						round, i, got, fast.at, fast.bar, want, slow.cl, slow.cw)
				}
			}
		}
	}
}

func TestWRRDoesNotWalkTheRoundsOfAFullGiant(t *testing.T) {
	f := newFarm(1, 2147483647)
	f.get(2).Load.Overloaded.Store(true)
	s := f.start(t, "wrr")
	for range 3 { // each pick would be 2^31 rounds
		if c := s.Pick(nil); c != f.get(1) {
			t.Fatalf("picked %v", c)
		}
	}
}

func TestWRRInterleaves(t *testing.T) {
	f := newFarm(1, 2, 4)
	s := &wrr{at: head}
	s.Update(f.list(s)) // as after a change of scheduler: from the top
	var got []int
	for range 14 {
		got = append(got, number(s.Pick(nil)))
	}
	if want := []int{3, 3, 3, 2, 3, 2, 1, 3, 3, 3, 2, 3, 2, 1}; !slices.Equal(got, want) {
		t.Errorf("picks %v, want %v", got, want)
	}
}
