package conntrack

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"weir/lb"
)

// benchFlow is the i-th client's flow to one VIP.
func benchFlow(i int) lb.Flow {
	return lb.Flow{Src: lb.AddrFrom4(0x0a000000 + uint32(i)>>4), Dst: lb.AddrFrom4(0xc0000201), SrcPort: uint16(1024 + i&15), DstPort: 80, Proto: lb.UDP}
}

func fill(tb testing.TB, t *Table, n int, mode lb.Mode) []lb.Flow {
	tb.Helper()
	id, _, err := t.Servers().Acquire(serverAddr)
	if err != nil {
		tb.Fatal(err)
	}
	flows := make([]lb.Flow, n)
	for i := range flows {
		flows[i] = benchFlow(i)
		c := connOf(flows[i], mode, id)
		t.Open(&c, 0)
		if _, r := t.Insert(&c, 1); r != OK {
			tb.Fatalf("insert %d: %v", i, r)
		}
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(n, func(i, j int) { flows[i], flows[j] = flows[j], flows[i] })
	return flows
}

// serverAddr is where the servers of these tests are.
var serverAddr = lb.AddrFrom4(0x0aff0001) // 10.255.0.1

// connOf returns the connection of f to a server at 10.255.0.1:8080.
func connOf(f lb.Flow, mode lb.Mode, id lb.ServerID) Conn {
	return Conn{Client: f.Src, Virtual: f.Dst, ClientPort: f.SrcPort, VirtualPort: f.DstPort, Proto: f.Proto, Mode: mode, ServerID: id,
		Server: serverAddr, ServerPort: 8080}
}

func newTable(tb testing.TB, o Options) *Table {
	tb.Helper()
	t, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(t.Close)
	return t
}

// BenchmarkLookup is one packet's way to its connection, hash included, flows in random order: by itself, and in batches
// that are warmed.
func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{1_000, 64_000, 1_000_000} {
		b.Run(fmt.Sprintf("flows=%d", n), func(b *testing.B) {
			t := newTable(b, Options{Capacity: 1 << 20})
			flows := fill(b, t, n, lb.DR)
			var c Conn
			b.Run("single", func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					f := &flows[i]
					if _, dir := t.Lookup(f, t.Hash(f), &c); dir != Forward {
						b.Fatal("lost")
					}
					if i++; i == n {
						i = 0
					}
				}
			})
			b.Run("batch=32", func(b *testing.B) {
				b.ReportAllocs()
				var hashes [32]uint64
				var places [32]Place
				i, j := 0, len(hashes)
				for b.Loop() {
					if j == len(hashes) {
						if j, i = 0, i+j; i+len(hashes) > n {
							i = 0
						}
						for k := range hashes {
							hashes[k] = t.Hash(&flows[i+k])
						}
						t.Warm(hashes[:])
						t.Peek(hashes[:], places[:])
					}
					if hit := t.Find(&flows[i+j], hashes[j], places[j], &c); hit.Dir() != Forward {
						b.Fatal("lost")
					}
					j++
				}
			})
		})
	}
}

// BenchmarkSweep is a second's pass over a table of a million: one where nothing is due, and one where all ends.
func BenchmarkSweep(b *testing.B) {
	const n = 1 << 20
	b.Run("idle", func(b *testing.B) {
		t := newTable(b, Options{Capacity: n})
		fill(b, t, n, lb.DR)
		s := t.Sweeper(0, 1)
		now := uint32(1)
		for b.Loop() {
			now = 2 + now%200 // nothing ends within 300 seconds
			s.Sweep(now, n+1)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/entry")
	})
	b.Run("all-end", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			t := newTable(b, Options{Capacity: n})
			fill(b, t, n, lb.NAT)
			s := t.Sweeper(0, 1)
			b.StartTimer()
			if ended, _ := s.Sweep(1000, (n+1)*(1+visitCost+endCost)); ended != n {
				b.Fatal(ended)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/entry")
	})
}

var sink uint64

func BenchmarkHash(b *testing.B) {
	t := newTable(b, Options{Capacity: 1})
	f := benchFlow(7)
	for b.Loop() {
		sink += t.Hash(&f)
		f.SrcPort++
	}
}

func BenchmarkInsertDelete(b *testing.B) {
	for _, mode := range []lb.Mode{lb.DR, lb.NAT, lb.FULLNAT} {
		b.Run(mode.String(), func(b *testing.B) {
			t := newTable(b, Options{Capacity: 1 << 20})
			if err := t.SetLocals([]lb.Addr{lb.AddrFrom4(0x0afe0001)}); err != nil {
				b.Fatal(err)
			}
			id, _, _ := t.Servers().Acquire(serverAddr)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				c := connOf(benchFlow(i&0xffff), mode, id)
				t.Open(&c, 0)
				ref, r := t.Insert(&c, 1)
				if r != OK || !t.Delete(ref) {
					b.Fatal(r)
				}
				i++
			}
		})
	}
}

func BenchmarkPacket(b *testing.B) {
	t := newTable(b, Options{Capacity: 1 << 10})
	id, _, _ := t.Servers().Acquire(serverAddr)
	f := benchFlow(0)
	f.Proto = lb.TCP
	c := connOf(f, lb.NAT, id)
	t.Open(&c, SYN)
	ref, _ := t.Insert(&c, 1)
	b.ReportAllocs()
	for b.Loop() {
		t.Packet(ref, &c, Forward, ACK, 2)
	}
}
