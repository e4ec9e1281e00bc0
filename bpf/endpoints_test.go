package bpf

import (
	"math/rand/v2"
	"testing"

	"weir/lb"
)

// The account of endpoints is that of two plain maps, whatever comes and goes.
func TestTheAccountOfEndpoints(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	e := newEndpoints("", "", "")
	there, uses := map[steerEndpoint]bool{}, map[steerAddress]int{}
	for range 20_000 {
		key := endpoint(lb.Endpoint{Proto: []lb.Proto{lb.TCP, lb.UDP}[r.IntN(2)], Addr: lb.AddrFrom4(0xc0000201 + r.Uint32N(5)), Port: uint16(79 + r.IntN(3))})
		was, before := there[key], uses[key.Addr]
		if r.IntN(2) == 0 {
			if fresh, first := e.enter(key); fresh == was || first != (before == 0) {
				t.Fatalf("enter %v: fresh %v, first %v; it was there: %v, of its address %d", key, fresh, first, was, before)
			}
			if there[key] = true; !was {
				uses[key.Addr]++
			}
		} else {
			if left, last := e.leave(key); left != was || last != (was && before == 1) {
				t.Fatalf("leave %v: was %v, last %v; it was there: %v, of its address %d", key, left, last, was, before)
			}
			if delete(there, key); was {
				uses[key.Addr]--
			}
		}
		if e.has(key.Addr) != (uses[key.Addr] > 0) {
			t.Fatalf("has %v: %v", key.Addr, e.has(key.Addr))
		}
	}
	if len(e.more) == 0 {
		t.Error("no address ever had two")
	}
}
