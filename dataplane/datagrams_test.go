package dataplane

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"weir/dataplane/packet"
	"weir/dataplane/reason"
	"weir/lb"
)

// Workers that get the pieces of the same datagrams in any order let each piece go exactly once, and keep nothing of what is whole. The first
// pieces of every second datagram wait for the last one.
func TestWorkersShareDatagrams(t *testing.T) {
	const total, each, workers = 3000, 12, 4
	var ds datagrams
	ds.seed = 1
	type piece struct{ id, n int }
	var todo []piece
	rng := rand.New(rand.NewPCG(3, 4))
	for from := 0; from < total; from += 100 { // a hundred at a time, mixed
		batch := make([]piece, 0, 100*each)
		for id := from; id < from+100; id++ {
			for n := range each {
				batch = append(batch, piece{id, n})
			}
		}
		rng.Shuffle(len(batch), func(i, j int) { batch[i], batch[j] = batch[j], batch[i] })
		todo = append(todo, batch...)
	}
	var gone [total][each]atomic.Int32
	var lost, next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			var took taken
			for {
				i := next.Add(1) - 1
				if i >= int64(len(todo)) {
					return
				}
				p := todo[i]
				key := datagramKey{src: lb.AddrFrom4(1), dst: lb.AddrFrom4(2), id: uint32(p.id), proto: lb.UDP}
				f := Frame{Buf: make([]byte, Headroom+1), Off: Headroom, End: Headroom + 1}
				f.Buf[f.Off] = byte(p.n)
				ds.take(key, packet.Piece{ID: key.id, Start: p.n * 8, End: p.n*8 + 8, More: p.n < each-1}, 1, 0, &f, &took)
				lost.Add(int64(took.full))
				release := func(held *heldFrame) {
					for h := held; h != nil; h = h.next {
						gone[p.id][h.buf[h.off]].Add(1)
					}
					ds.giveBack(key, held)
				}
				if took.first != nil {
					if took.size != each*8 || took.first.buf[took.first.off] != 0 || took.first.next != nil {
						t.Errorf("what has waited for the last piece is not the first; size %d", took.size)
					}
					release(took.first)
				}
				switch {
				case took.decide:
					if p.id%2 == 0 && took.size == 0 {
						held, why := ds.await(key, &decision{}, 0, &f, &took)
						lost.Add(int64(took.full))
						if why != reason.None {
							release(held)
							if why != reason.FragmentHeld {
								lost.Add(1)
							}
							continue
						}
						if took.size == 0 {
							t.Error("the first piece need not wait, but the size is not known")
						}
					}
					gone[p.id][0].Add(1)
					release(ds.decide(key, &decision{}))
				case took.why == reason.None:
					gone[p.id][p.n].Add(1)
				case took.why != reason.FragmentHeld:
					lost.Add(1)
				}
			}
		})
	}
	wg.Wait()
	missing := int64(0)
	for id := range gone {
		for n := range gone[id] {
			switch k := gone[id][n].Load(); {
			case k > 1:
				t.Fatalf("piece %d of datagram %d went %d times", n, id, k)
			case k == 0:
				missing++
			}
		}
	}
	if missing != lost.Load()+int64(ds.expire(1000)) {
		t.Errorf("%d pieces did not go, %d were given up", missing, lost.Load())
	}
	if missing > total/10 {
		t.Errorf("%d of %d pieces did not go", missing, total*each)
	}
	if n := ds.inUse.Load(); n != 0 {
		t.Errorf("%d datagrams are left", n)
	}
}

func TestTakingAPieceDoesNotAllocate(t *testing.T) {
	var ds datagrams
	var took taken
	f := Frame{Buf: make([]byte, 2048), Off: Headroom, End: 2048}
	id := uint32(0)
	take := func(start int, more bool) {
		key := datagramKey{src: lb.AddrFrom4(1), dst: lb.AddrFrom4(2), id: id, proto: lb.UDP}
		ds.take(key, packet.Piece{ID: id, Start: start, End: start + 8, More: more}, 1, 0, &f, &took)
		switch {
		case took.decide && id%2 == 0 && took.size == 0:
			held, _ := ds.await(key, &decision{}, 0, &f, &took)
			ds.giveBack(key, held)
		case took.decide:
			ds.giveBack(key, ds.decide(key, &decision{}))
		default:
			ds.giveBack(key, took.first)
		}
	}
	run := func() {
		id++
		take(8, false)
		take(0, true)
		id++
		take(0, true)
		take(8, false)
	}
	for range 10_000 { // every stripe makes its memory once
		run()
	}
	if n := testing.AllocsPerRun(1000, run); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// Newer datagrams hold every frame of the stripe: a first fragment that would have to wait is dropped, and all that comes after it.
func TestNoRoomForAFirstFragmentToWait(t *testing.T) {
	var ds datagrams
	f := Frame{Buf: make([]byte, 2048), Off: Headroom, End: 2048}
	var took taken
	key := datagramKey{src: lb.AddrFrom4(1), dst: lb.AddrFrom4(2), proto: lb.SCTP}
	if ds.take(key, packet.Piece{Start: 0, End: 8, More: true}, 1, 0, &f, &took); !took.decide {
		t.Fatal(took.why)
	}
	other, held := key, 0
	for held < heldPerShare {
		if other.id++; ds.stripe(&other) != ds.stripe(&key) {
			continue
		}
		for n := 1; n <= maxHeld; n++ {
			ds.take(other, packet.Piece{ID: other.id, Start: 8 * n, End: 8*n + 8, More: true}, 1, 0, &f, &took)
			if took.why != reason.FragmentHeld {
				t.Fatal(took.why)
			}
			held++
		}
	}
	if list, why := ds.await(key, &decision{}, 0, &f, &took); list != nil || why != reason.FragmentTableFull {
		t.Errorf("%v, want %v", why, reason.FragmentTableFull)
	}
	if ds.take(key, packet.Piece{Start: 8, End: 16}, 1, 0, &f, &took); took.why != reason.FragmentTableFull || took.first != nil {
		t.Errorf("the last one: %v, want %v", took.why, reason.FragmentTableFull)
	}
	if late := ds.expire(1 + datagramLifetime); late != held || ds.inUse.Load() != 0 {
		t.Errorf("%d were late, of %d", late, held)
	}
}
