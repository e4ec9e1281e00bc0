package conntrack

import (
	"testing"

	"weir/lb"
)

const start = 100 // the tests' first second

func newServer(tb testing.TB, t *Table) (lb.ServerID, *lb.Load) {
	tb.Helper()
	id, load, err := t.Servers().Acquire(serverAddr)
	if err != nil {
		tb.Fatal(err)
	}
	return id, load
}

// client returns the i-th client's flow to one VIP.
func client(i int, p lb.Proto) lb.Flow {
	f := benchFlow(i)
	f.Proto = p
	return f
}

// open inserts the connection that a first packet of f makes.
func open(tb testing.TB, t *Table, f lb.Flow, mode lb.Mode, id lb.ServerID, now uint32) (Conn, Ref) {
	tb.Helper()
	c := connOf(f, mode, id)
	t.Open(&c, SYN)
	ref, r := t.Insert(&c, now)
	if r != OK {
		tb.Fatalf("insert %v: %v", f, r)
	}
	return c, ref
}

func lookup(t *Table, f lb.Flow) (Conn, Ref, Dir) {
	var c Conn
	ref, dir := t.Lookup(&f, t.Hash(&f), &c)
	return c, ref, dir
}

// sweep runs whole passes of one sweeper until it is through.
func sweep(t *Table, now uint32) (ended int) {
	s := t.Sweeper(0, 1)
	for {
		n, through := s.Sweep(now, 100)
		if ended += n; through {
			return ended
		}
	}
}

func TestEveryModeIsFoundByThePacketsThatPass(t *testing.T) {
	for _, mode := range []lb.Mode{lb.DR, lb.NAT, lb.FULLNAT, lb.TUN, lb.Local} {
		t.Run(mode.String(), func(t *testing.T) {
			table := newTable(t, Options{Capacity: 10})
			lip := lb.MustParseAddr("10.254.0.1")
			if err := table.SetLocals([]lb.Addr{lip}); err != nil {
				t.Fatal(err)
			}
			id, _ := newServer(t, table)
			f := client(1, lb.TCP)
			c := connOf(f, mode, id)
			c.ClientMAC, c.ClientIface, c.ClientTag = [6]byte{2, 3, 4, 5, 6, 7}, 9, 0xbeef
			table.Open(&c, SYN)
			ref, r := table.Insert(&c, start)
			if r != OK {
				t.Fatal(r)
			}
			got, gotRef, dir := lookup(table, f)
			if dir != Forward || gotRef != ref {
				t.Fatalf("the client's packet: %v %v, want %v", dir, gotRef, ref)
			}
			if got.ServerID != id || got.Mode != mode || got.State != SynRecv || got.Timeout != 60 || got.LastSeen != start || got.ClientTag != 0xbeef {
				t.Errorf("forward: %+v", got)
			}
			answer, passes := c.ReverseFlow()
			if passes != (mode == lb.NAT || mode == lb.FULLNAT) {
				t.Errorf("answers pass: %v", passes)
			}
			if mode == lb.FULLNAT && (got.Local != lip || got.LocalPort == 0 || got.LocalPort != c.LocalPort || answer.Dst != lip) {
				t.Errorf("local address: %v:%d, answer %v", got.Local, got.LocalPort, answer)
			}
			if passes {
				got, gotRef, dir = lookup(table, answer)
				if dir != Reverse || gotRef != ref {
					t.Fatalf("the server's packet: %v %v, want %v", dir, gotRef, ref)
				}
				want := c
				if got != want {
					t.Errorf("reverse:\n%+v, want\n%+v", got, want)
				}
			}
			for _, miss := range []lb.Flow{
				{Src: f.Src, Dst: f.Dst, SrcPort: f.SrcPort + 1, DstPort: f.DstPort, Proto: f.Proto},
				{Src: f.Src, Dst: f.Dst, SrcPort: f.SrcPort, DstPort: f.DstPort + 1, Proto: f.Proto},
				{Src: f.Src, Dst: f.Dst, SrcPort: f.SrcPort, DstPort: f.DstPort, Proto: lb.UDP},
				{Src: f.Src, Dst: lb.AddrFrom4(1), SrcPort: f.SrcPort, DstPort: f.DstPort, Proto: f.Proto},
				{Src: lb.AddrFrom4(1), Dst: f.Dst, SrcPort: f.SrcPort, DstPort: f.DstPort, Proto: f.Proto},
				{Src: lb.Addr{Hi: 1, Lo: f.Src.Lo}, Dst: f.Dst, SrcPort: f.SrcPort, DstPort: f.DstPort, Proto: f.Proto},
				f.Reverse(),
			} {
				if _, _, dir := lookup(table, miss); dir != None {
					t.Errorf("%v is found as %v", miss, dir)
				}
			}
			if !table.Delete(ref) || table.Delete(ref) {
				t.Error("a connection is deleted once")
			}
			if _, _, dir := lookup(table, f); dir != None {
				t.Error("found after its end")
			}
		})
	}
}

// TestTablesHashDifferently: flows that meet in one table need not in another (hash flooding).
func TestTablesHashDifferently(t *testing.T) {
	a, b := newTable(t, Options{Capacity: 1}), newTable(t, Options{Capacity: 1})
	same := 0
	for i := range 1000 {
		f := client(i, lb.TCP)
		if a.Hash(&f)>>54 == b.Hash(&f)>>54 {
			same++
		}
	}
	if same > 20 {
		t.Errorf("%d of 1000 flows have the same ten bits", same)
	}
}

// TestHashSpreads: neighbouring clients, ports and services fill buckets as chance would (chi-square over 1,024 buckets, and over tags).
func TestHashSpreads(t *testing.T) {
	table := newTable(t, Options{Capacity: 1})
	for name, flow := range map[string]func(i int) lb.Flow{
		"client addresses": func(i int) lb.Flow { f := client(0, lb.TCP); f.Src.Lo += uint64(i); return f },
		"client ports":     func(i int) lb.Flow { f := client(0, lb.TCP); f.SrcPort, f.DstPort = uint16(i), uint16(i>>16); return f },
		"subnets":          func(i int) lb.Flow { f := client(0, lb.TCP); f.Src = lb.AddrFrom4(uint32(i) << 8); return f },
		"IPv6 networks":    func(i int) lb.Flow { f := client(0, lb.TCP); f.Src.Hi = uint64(i) << 16; return f },
		"services":         func(i int) lb.Flow { f := client(0, lb.TCP); f.Dst.Lo += uint64(i); return f },
	} {
		for part, shift := range map[string]int{"bucket": 32, "tag": 0} {
			var hits [1024]float64
			const n = 1 << 17
			for i := range n {
				f := flow(i)
				hits[table.Hash(&f)>>shift&1023]++
			}
			chi := 0.0
			for _, h := range hits {
				d := h - n/1024
				chi += d * d / (n / 1024)
			}
			// 1,023 degrees of freedom: mean 1,023, standard deviation 45; 1,400 is eight of them
			if chi > 1400 {
				t.Errorf("%s, %s: chi-square %.0f", name, part, chi)
			}
		}
	}
}

// TestLoadOfAnother: who asks for a connection that has ended gets nothing of the one that has its entry now.
func TestLoadOfAnother(t *testing.T) {
	table := newTable(t, Options{Capacity: 1})
	id, _ := newServer(t, table)
	c, ref := open(t, table, client(1, lb.UDP), lb.NAT, id, start)
	table.Delete(ref)
	_, other := open(t, table, client(2, lb.UDP), lb.DR, id, start)
	if other.number() != ref.number() {
		t.Fatalf("%v and %v have an entry each", ref, other)
	}
	if before := c; table.Load(ref, &c) || c != before {
		t.Errorf("loaded %+v", c)
	}
}
