package sched

import (
	"math/rand/v2"
	"slices"
	"testing"

	"weir/lb"
)

// farm is a service's servers for tests: it makes the lists that control would.
type farm struct {
	servers []*Server // newest first
	serial  uint64
}

// newFarm has servers 10.20.0.1:80, 10.20.0.2:80 and so on with these weights, added in this order.
func newFarm(weights ...int32) *farm {
	f := new(farm)
	for i, w := range weights {
		f.add(i+1, w)
	}
	return f
}

// equalWeights returns n weights of 1.
func equalWeights(n int) []int32 {
	w := make([]int32, n)
	for i := range w {
		w[i] = 1
	}
	return w
}

// number is what a server of a farm is called by: the i of add.
func number(c *Server) int { return int(c.Addr.V4() - lb.MustParseAddr("10.20.0.0").V4()) }

func (f *farm) add(i int, weight int32) {
	f.serial++
	addr := lb.AddrFrom4(lb.MustParseAddr("10.20.0.0").V4() + uint32(i))
	c := &Server{ID: lb.NewServerID(uint32(i), 0), Serial: f.serial, Addr: addr, Port: 80, Weight: weight, Load: new(lb.Load)}
	f.servers = append([]*Server{c}, f.servers...)
}

func (f *farm) place(i int) int {
	return slices.IndexFunc(f.servers, func(c *Server) bool { return number(c) == i })
}

func (f *farm) get(i int) *Server { return f.servers[f.place(i)] }

func (f *farm) remove(i int) {
	at := f.place(i)
	f.servers = slices.Delete(slices.Clone(f.servers), at, at+1)
}

func (f *farm) edit(i int, weight int32) {
	at := f.place(i)
	c := *f.servers[at]
	if c.Weight != 0 {
		c.Kept = c.Weight
	}
	c.Weight = weight
	f.servers = slices.Clone(f.servers)
	f.servers[at] = &c
}

// list is a new List for s, prepared.
func (f *farm) list(s Scheduler) *List {
	l := &List{Servers: f.servers}
	Prepare(s, l)
	return l
}

// start returns a scheduler that has the farm's servers.
func (f *farm) start(t testing.TB, name string, flags ...string) Scheduler {
	t.Helper()
	s, err := New(name, flags)
	if err != nil {
		t.Fatal(err)
	}
	s.Update(&List{})
	s.Update(f.list(s))
	return s
}

// client returns a request of a client that differs in all it can: address, port and destination.
func client(r *rand.Rand) *Request {
	return &Request{Flow: lb.Flow{
		Src: lb.AddrFrom4(r.Uint32()), SrcPort: uint16(r.Uint32()),
		Dst: lb.AddrFrom4(0x0a090000 | r.Uint32()&0xffff), DstPort: 80,
		Proto: lb.TCP,
	}}
}
