package conntrack

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"weir/lb"
)

var (
	lip1 = lb.MustParseAddr("10.254.0.1")
	lip2 = lb.MustParseAddr("10.254.0.2")
	lip6 = lb.MustParseAddr("2001:db8:fe::1")
)

func portsTo(rport uint16, proto lb.Proto) *Conn {
	return &Conn{Server: lb.AddrFrom4(0x0aff0001), ServerPort: rport, Proto: proto, Mode: lb.FULLNAT}
}

// TestEveryPortOnce: all (address, port) pairs towards a server are given out once, then none; another port, protocol or server has its own.
func TestEveryPortOnce(t *testing.T) {
	for _, row := range []struct{ first, last uint16 }{{1024, 65535}, {1, 65535}, {2000, 2000}, {4095, 4161}, {65535, 65535}} {
		p := newPorts(row.first, row.last)
		if p.take(portsTo(80, lb.TCP)) {
			t.Error("a port without a local address")
		}
		if err := p.set([]lb.Addr{lip1, lip6, lip2, lip1}); err != nil {
			t.Fatal(err)
		}
		seen := map[lb.Flow]bool{}
		n := 2 * (int(row.last) - int(row.first) + 1)
		for range n {
			c := portsTo(80, lb.TCP)
			if !p.take(c) {
				t.Fatalf("%v: %d of %d", row, len(seen), n)
			}
			f, _ := c.ReverseFlow()
			if seen[f] || c.LocalPort < row.first || c.LocalPort > row.last || c.Local != p.addr(c.LocalIndex) || !c.Local.Is4() {
				t.Fatalf("%v: %v", row, f)
			}
			seen[f] = true
		}
		for range 2 {
			if c := portsTo(80, lb.TCP); p.take(c) {
				t.Fatalf("%v: one more than %d: %v:%d", row, n, c.Local, c.LocalPort)
			}
		}
		if !p.take(portsTo(81, lb.TCP)) || !p.take(portsTo(80, lb.UDP)) {
			t.Errorf("%v: exhausted for others too", row)
		}
		for f := range seen { // any one that comes back is the next one
			c := portsTo(80, lb.TCP)
			c.Local, c.LocalPort, c.LocalIndex = f.Dst, f.DstPort, uint16(slices.Index(p.locals.Load().addrs, f.Dst))
			p.give(c)
			again := portsTo(80, lb.TCP)
			if !p.take(again) || again.Local != c.Local || again.LocalPort != c.LocalPort {
				t.Fatalf("%v: %v:%d came back, given was %v:%d", row, c.Local, c.LocalPort, again.Local, again.LocalPort)
			}
			break
		}
	}
}

// TestPortComesBackLate: a port that was given back comes after all the others.
func TestPortComesBackLate(t *testing.T) {
	p := newPorts(1024, 65535)
	if err := p.set([]lb.Addr{lip1}); err != nil {
		t.Fatal(err)
	}
	c := portsTo(80, lb.TCP)
	p.take(c)
	first := c.LocalPort
	for i := range 65535 - 1024 {
		p.give(c)
		if p.take(c); c.LocalPort == first {
			t.Fatalf("port %d came back after %d others", first, i)
		}
	}
}

// TestLocalAddressesChange: an index keeps its address, a removed one is not used, one that comes back has its index.
func TestLocalAddressesChange(t *testing.T) {
	p := newPorts(1024, 65535)
	for _, row := range []struct {
		set   []lb.Addr
		given lb.Addr
		index uint16
	}{{[]lb.Addr{lip1}, lip1, 0}, {[]lb.Addr{lip2}, lip2, 1}, {[]lb.Addr{lip1}, lip1, 0}} {
		if err := p.set(row.set); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			c := portsTo(80, lb.TCP)
			if !p.take(c) || c.Local != row.given || c.LocalIndex != row.index {
				t.Errorf("with %v: %v, index %d", row.set, c.Local, c.LocalIndex)
			}
		}
		if p.addr(0) != lip1 || p.addr(9).IsValid() {
			t.Error("an index changed its address")
		}
	}
}

// TestPortsConcurrent: no two workers hold the same port, while they come and go in a small range.
func TestPortsConcurrent(t *testing.T) {
	p := newPorts(5000, 5099)
	if err := p.set([]lb.Addr{lip1, lip2}); err != nil {
		t.Fatal(err)
	}
	var lock sync.Mutex
	held := map[lb.Flow]bool{}
	var g sync.WaitGroup
	for w := range 4 {
		g.Go(func() {
			var mine []*Conn
			for i := range 3000 {
				if c := portsTo(80, lb.TCP); (i*7+w)%5 < 3 && p.take(c) {
					f, _ := c.ReverseFlow()
					lock.Lock()
					if held[f] {
						t.Errorf("%v is held twice", f)
					}
					held[f] = true
					lock.Unlock()
					mine = append(mine, c)
				} else if len(mine) > 0 {
					f, _ := mine[0].ReverseFlow()
					lock.Lock()
					delete(held, f)
					lock.Unlock()
					p.give(mine[0])
					mine = mine[1:]
				}
			}
		})
	}
	g.Wait()
}

// TestPortsOfTheTable: exhaustion is a result of its own, and an end gives the port back.
func TestPortsOfTheTable(t *testing.T) {
	table := newTable(t, Options{Capacity: 100, FirstPort: 3000, LastPort: 3009})
	id, load := newServer(t, table)
	c := connOf(client(0, lb.TCP), lb.FULLNAT, id)
	if _, r := table.Insert(&c, start); r != NoPort {
		t.Errorf("without local addresses: %v", r)
	}
	if err := table.SetLocals([]lb.Addr{lip1}); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		open(t, table, client(i, lb.TCP), lb.FULLNAT, id, start)
	}
	c = connOf(client(10, lb.TCP), lb.FULLNAT, id)
	if _, r := table.Insert(&c, start); r != NoPort || load.Total() != 10 || table.Servers().Refs(id) != 10 {
		t.Errorf("the eleventh of ten: %v, %d counted", r, load.Total())
	}
	if s := table.Stats(); s.Refused[NoPort] != 2 || s.Used != 10 {
		t.Errorf("%+v", s)
	}
	again := connOf(client(3, lb.TCP), lb.FULLNAT, id)
	if _, r := table.Insert(&again, start); r != Exists {
		t.Errorf("one that is there: %v", r)
	}
	sweep(table, start+900)
	open(t, table, client(11, lb.TCP), lb.FULLNAT, id, start+900)
}

func BenchmarkPorts(b *testing.B) {
	for _, free := range []int{64512, 64} { // of 64,512: empty, and 99.9 % full
		b.Run(fmt.Sprintf("free=%d", free), func(b *testing.B) {
			p := newPorts(1024, 65535)
			if err := p.set([]lb.Addr{lip1}); err != nil {
				b.Fatal(err)
			}
			c := portsTo(80, lb.TCP)
			for p.take(c) {
				continue
			}
			for i := range free { // scattered over the range
				c.LocalPort = 1024 + uint16(i*(64512/free))
				p.give(c)
			}
			b.ReportAllocs()
			for b.Loop() {
				if !p.take(c) {
					b.Fatal("exhausted")
				}
				p.give(c)
			}
		})
	}
}
