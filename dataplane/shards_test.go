package dataplane

import (
	"maps"
	"math/rand/v2"
	"testing"

	"weir/lb"
)

// An edited map has what was set and removed, and its origin what it had.
func TestShardsAreAMapThatSharesWhatDidNotChange(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	key := func() lb.ServiceKey {
		return lb.ServiceKey{Addr: lb.AddrFrom4(r.Uint32N(40)), Port: uint16(r.Uint32N(5)), Proto: lb.TCP}
	}
	var s shards[int]
	want := map[lb.ServiceKey]int{}
	for round := range 100 {
		old, oldWant := s, maps.Clone(want)
		next, edit := s, shardsEdit{}
		for range 20 {
			if k := key(); r.IntN(2) == 0 {
				next.remove(&edit, k)
				delete(want, k)
			} else {
				next.set(&edit, k, round)
				want[k] = round
			}
		}
		for _, v := range []struct {
			s    *shards[int]
			want map[lb.ServiceKey]int
		}{{&next, want}, {&old, oldWant}} {
			if v.s.count != len(v.want) {
				t.Fatalf("round %d: %d keys, want %d", round, v.s.count, len(v.want))
			}
			for a := range uint32(40) {
				for p := range uint16(5) {
					k := lb.ServiceKey{Addr: lb.AddrFrom4(a), Port: p, Proto: lb.TCP}
					if v.s.get(k) != v.want[k] {
						t.Fatalf("round %d: %s: %d, want %d", round, k, v.s.get(k), v.want[k])
					}
				}
			}
		}
		s = next
	}
}

// Keys that differ in one thing only, as those of a director do, spread over the shards.
func TestShardsAreEven(t *testing.T) {
	for name, key := range map[string]func(i uint32) lb.ServiceKey{
		"addresses": func(i uint32) lb.ServiceKey {
			return lb.ServiceKey{Addr: lb.AddrFrom4(0x0a000000 + i), Port: 80, Proto: lb.TCP}
		},
		"networks": func(i uint32) lb.ServiceKey {
			return lb.ServiceKey{Addr: lb.AddrFrom4(0x0a000001 + i<<8), Port: 80, Proto: lb.TCP}
		},
		"ports": func(i uint32) lb.ServiceKey {
			return lb.ServiceKey{Addr: lb.AddrFrom4(0x0a000001), Port: uint16(i), Proto: lb.UDP}
		},
		"marks": func(i uint32) lb.ServiceKey { return lb.ServiceKey{Mark: i} },
		"IPv6 hosts": func(i uint32) lb.ServiceKey {
			return lb.ServiceKey{Addr: lb.Addr{Hi: 0x20010db8 << 32, Lo: uint64(i)}, Port: 80, Proto: lb.TCP}
		},
		"IPv6 networks": func(i uint32) lb.ServiceKey {
			return lb.ServiceKey{Addr: lb.Addr{Hi: 0x20010db8<<32 | uint64(i), Lo: 1}, Port: 80, Proto: lb.TCP}
		},
		"address and port": func(i uint32) lb.ServiceKey {
			return lb.ServiceKey{Addr: lb.AddrFrom4(0x0a000000 + i%100), Port: uint16(i / 100), Proto: lb.TCP}
		},
	} {
		var counts [shardCount]int
		for i := range uint32(10_000) {
			k := key(i)
			counts[shardOf(&k)]++
		}
		for shard, n := range counts { // 39 on average
			if n > 120 {
				t.Errorf("%s: shard %d has %d of 10,000 keys", name, shard, n)
			}
		}
	}
}
