package conntrack

import (
	"math/rand/v2"
	"sync"
	"testing"

	"weir/lb"
)

// TestConnectionsEndInTheirSecond: by state, not a second before, and the counts fall with them.
func TestConnectionsEndInTheirSecond(t *testing.T) {
	for _, row := range []struct {
		name  string
		proto lb.Proto
		flags []uint8 // the client's packets after the first, one a second
		lives uint32  // seconds after the latest packet
	}{
		{"a half-open connection", lb.TCP, nil, 60},
		{"an established one", lb.TCP, []uint8{ACK}, 900},
		{"one with three packets", lb.TCP, []uint8{ACK, ACK, ACK}, 900},
		{"a reset one ends sooner than it would have before", lb.TCP, []uint8{ACK, RST}, 10},
		{"a closing one", lb.TCP, []uint8{ACK, FIN | ACK}, 120},
		{"a datagram", lb.UDP, nil, 300},
		{"three datagrams", lb.UDP, []uint8{0, 0}, 300},
	} {
		t.Run(row.name, func(t *testing.T) {
			table := newTable(t, Options{Capacity: 5000})
			id, load := newServer(t, table)
			for i := range 3000 { // in more than one block, and others around it that stay
				if i != 2222 {
					c, ref := open(t, table, client(i, lb.TCP), lb.DR, id, 50_000)
					table.Packet(ref, &c, Forward, ACK, 50_000)
				}
			}
			f := client(2222, row.proto)
			_, ref := open(t, table, f, lb.DR, id, start)
			now := uint32(start)
			for _, flags := range row.flags {
				now++
				sweep(table, now)
				c, _, dir := lookup(table, f)
				table.Packet(ref, &c, dir, flags, now)
			}
			for second := now; second < now+row.lives; second += row.lives / 10 {
				if sweep(table, second) != 0 {
					t.Fatalf("ended %d seconds after the latest packet", second-now)
				}
			}
			if sweep(table, now+row.lives-1) != 0 || load.Total() != 3000 {
				t.Fatal("ended a second too soon")
			}
			if n := sweep(table, now+row.lives); n != 1 || load.Total() != 2999 {
				t.Fatalf("ended %d in its second, %d left", n, load.Total())
			}
			if _, _, dir := lookup(table, f); dir != None {
				t.Error("found after its end")
			}
			if s := table.Stats(); s.Expired != 1 || s.Used != 2999 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestManyEndInPieces: a step in which connections end is no longer than one in which none does, whatever number is due.
func TestManyEndInPieces(t *testing.T) {
	const n, limit, most = 1000, 1024, 1024/(1+visitCost+endCost) + 1
	table := newTable(t, Options{Capacity: n})
	id, load := newServer(t, table)
	for i := range n {
		open(t, table, client(i, lb.UDP), lb.DR, id, start)
	}
	s := table.Sweeper(0, 1)
	steps := 0
	for through := false; !through; steps++ {
		var ended int
		if ended, through = s.Sweep(start+300, limit); ended > most {
			t.Fatalf("a step ended %d, want at most %d", ended, most)
		}
	}
	if steps < n/most || load.Total() != 0 {
		t.Errorf("%d steps, %d left", steps, load.Total())
	}
}

// TestSweepersShareTheTable: each entry is one sweeper's, whatever their number; a step looks at no more than it may; a pass
// that is through waits for the next second.
func TestSweepersShareTheTable(t *testing.T) {
	const n = 5000
	for _, workers := range []int{1, 2, 3, 7} {
		table := newTable(t, Options{Capacity: n})
		id, load := newServer(t, table)
		for i := range n {
			open(t, table, client(i, lb.UDP), lb.DR, id, start)
		}
		total := 0
		for w := range workers {
			s := table.Sweeper(w, workers)
			for {
				ended, through := s.Sweep(start+300, 10)
				if ended > 10 {
					t.Fatalf("a step over 10 entries ended %d", ended)
				}
				if total += ended; through {
					break
				}
			}
			if ended, through := s.Sweep(start+300, 10); ended != 0 || !through {
				t.Error("a second pass in the same second")
			}
			if _, through := s.Sweep(start+301, 1); through && w == 0 {
				t.Error("no pass in the next second")
			}
		}
		if total != n || load.Total() != 0 {
			t.Errorf("%d sweepers ended %d of %d", workers, total, n)
		}
		cleanIndex(t, table)
	}
}

// template inserts a template for client i's network, living for timeout seconds.
func template(t *testing.T, table *Table, i int, id lb.ServerID, timeout uint32) (lb.Flow, Ref) {
	t.Helper()
	f := client(i, lb.TCP)
	f.Src, f.SrcPort = f.Src.Mask(24), 0
	c := connOf(f, lb.NAT, id)
	c.Flags, c.Timeout = Template, timeout
	ref, r := table.Insert(&c, start)
	if r != OK {
		t.Fatal(r)
	}
	return f, ref
}

func controlled(t *testing.T, table *Table, i int, control Ref, id lb.ServerID, now uint32) (Conn, Ref) {
	t.Helper()
	c := connOf(client(i, lb.TCP), lb.NAT, id)
	c.Control = control
	table.Open(&c, SYN)
	ref, r := table.Insert(&c, now)
	if r != OK {
		t.Fatal(r)
	}
	return c, ref
}

func templateNow(table *Table, f lb.Flow) (Conn, bool) {
	var c Conn
	_, ok := table.LookupTemplate(&f, &c)
	return c, ok
}

// TestTemplateTimes follows the recorded persistent-expiry scenario.
func TestTemplateTimes(t *testing.T) {
	table := newTable(t, Options{Capacity: 10})
	id, load := newServer(t, table)
	f, ref := template(t, table, 1, id, 20)
	if _, _, dir := lookup(table, f); dir != None {
		t.Error("a template takes packets")
	}
	if load.Persistent.Load() != 1 || load.Total() != 0 {
		t.Errorf("persistent %d, others %d", load.Persistent.Load(), load.Total())
	}
	c1, ref1 := controlled(t, table, 1, ref, id, start+15)
	if c, _ := templateNow(table, f); c.Expires(start+15) != 20 || c.Controlled != 1 || c.State.String() != "NONE" {
		t.Errorf("a new connection starts the template's time anew: %+v", c)
	}
	table.Packet(ref1, &c1, Forward, ACK, start+16)
	if c, _ := templateNow(table, f); c.State.String() != "ASSURED" {
		t.Errorf("after ESTABLISHED the template is %v", c.State)
	}
	sweep(table, start+34)
	if c, _ := templateNow(table, f); c.Expires(start+34) != 1 {
		t.Errorf("a packet of a connection moved the template's time: %d", c.Expires(start+34))
	}
	sweep(table, start+35)
	if c, ok := templateNow(table, f); !ok || c.Expires(start+35) != 60 || c.Timeout != 60 {
		t.Errorf("at its time, with a connection on it: %+v", c)
	}
	_, ref2 := controlled(t, table, 2, ref, id, start+50)
	if c, _ := templateNow(table, f); c.Expires(start+50) != 60 || c.Controlled != 2 {
		t.Errorf("60 s is its timeout from then on: %+v", c)
	}
	table.Delete(ref1)
	table.Delete(ref2)
	sweep(table, start+109)
	if c, ok := templateNow(table, f); !ok || c.Controlled != 0 {
		t.Errorf("before its time: %+v", c)
	}
	sweep(table, start+110)
	if _, ok := templateNow(table, f); ok || load.Persistent.Load() != 0 || table.Servers().Refs(id) != 0 {
		t.Error("the template outlived its time")
	}
	cleanIndex(t, table)
}

// TestRetiredTemplate: nothing finds it, a new one takes its place, nothing can hang on it, and it ends after its connections.
func TestRetiredTemplate(t *testing.T) {
	table := newTable(t, Options{Capacity: 10})
	id, load := newServer(t, table)
	f, ref := template(t, table, 1, id, 20)
	_, ref1 := controlled(t, table, 1, ref, id, start)
	if table.Delete(ref) {
		t.Error("a template with a connection was deleted")
	}
	if _, ok := templateNow(table, f); ok {
		t.Error("a retired template is found")
	}
	if table.Retire(ref) {
		t.Error("retired twice")
	}
	c := connOf(client(2, lb.TCP), lb.NAT, id)
	c.Control = ref
	if _, r := table.Insert(&c, start); r != NoTemplate {
		t.Errorf("a connection on a retired template: %v", r)
	}
	_, second := template(t, table, 1, id, 20)
	if !table.Retire(second) {
		t.Error("the new one cannot be retired")
	}
	sweep(table, start+20)
	if load.Persistent.Load() != 1 {
		t.Errorf("%d templates left, want the one with a connection", load.Persistent.Load())
	}
	table.Delete(ref1)
	sweep(table, start+79)
	if load.Persistent.Load() != 1 {
		t.Error("ended before its 60 seconds")
	}
	sweep(table, start+80)
	if load.Persistent.Load() != 0 || table.Stats().Used != 0 {
		t.Error("the retired template stays")
	}
	cleanIndex(t, table)
}

// TestUDPAnswerAssures: for UDP it is the server's answer that makes a template ASSURED.
func TestUDPAnswerAssures(t *testing.T) {
	table := newTable(t, Options{Capacity: 10})
	id, _ := newServer(t, table)
	f, ref := template(t, table, 1, id, 20)
	c := connOf(client(1, lb.UDP), lb.NAT, id)
	c.Control = ref
	table.Open(&c, 0)
	conn, _ := table.Insert(&c, start)
	for _, step := range []struct {
		dir  Dir
		want State
	}{{Forward, NoState}, {Reverse, Assured}, {Forward, Assured}} {
		table.Packet(conn, &c, step.dir, 0, start)
		if got, _ := templateNow(table, f); got.State != step.want {
			t.Errorf("after a %v packet: %v", step.dir, got.State)
		}
	}
}

// TestSetClient: the way back to the client follows its latest packets.
func TestSetClient(t *testing.T) {
	table := newTable(t, Options{Capacity: 10})
	id, _ := newServer(t, table)
	c, ref := open(t, table, client(1, lb.TCP), lb.NAT, id, start)
	c.ClientTag, c.ClientIface, c.ClientMAC = 77, 3, [6]byte{1, 2, 3, 4, 5, 6}
	if !table.SetClient(ref, &c) {
		t.Fatal("gone")
	}
	var got Conn
	if table.Load(ref, &got); got != c {
		t.Errorf("%+v, want %+v", got, c)
	}
	table.Packet(ref, &c, Forward, ACK, start)
	if got, _, _ := lookup(table, client(1, lb.TCP)); got.ClientTag != 77 || got.Timeout != 900 {
		t.Errorf("a change of state took the tag away: %+v", got)
	}
	table.Delete(ref)
	if table.SetClient(ref, &c) || table.Renew(ref, start) || table.Packet(ref, &c, Forward, RST, start) {
		t.Error("an ended connection was changed")
	}
}

// TestTimeAndPacketsAtOnce: while sweepers go round, workers send packets that lengthen and shorten timeouts. Whoever had a packet within its
// timeout is there, and once the packets stop each connection ends in its second: no due time was lost.
func TestTimeAndPacketsAtOnce(t *testing.T) {
	const workers, perWorker, seconds = 3, 100, 60
	table := newTable(t, Options{Capacity: workers * perWorker})
	id, load := newServer(t, table)
	sweepers := []*Sweeper{table.Sweeper(0, 2), table.Sweeper(1, 2)}
	for i := range workers * perWorker {
		open(t, table, client(i, lb.TCP), lb.NAT, id, start)
	}
	now := uint32(start)
	for range seconds {
		now++
		var g sync.WaitGroup
		for _, s := range sweepers {
			g.Go(func() {
				for through := false; !through; {
					_, through = s.Sweep(now, 10)
				}
			})
		}
		for w := range workers {
			g.Go(func() {
				r := rand.New(rand.NewPCG(uint64(now), uint64(w)))
				for i := range perWorker {
					f := client(w*perWorker+i, lb.TCP)
					c, ref, dir := lookup(table, f)
					if dir != Forward || !table.Packet(ref, &c, dir, uint8(r.Uint32()), now) {
						t.Errorf("second %d: connection %d was lost", now, i)
					}
				}
			})
		}
		g.Wait()
	}
	ends := map[uint32]int{} // by second
	for i := range workers * perWorker {
		c, _, _ := lookup(table, client(i, lb.TCP))
		ends[c.LastSeen+c.Timeout]++
	}
	for ; now < start+seconds+900; now++ {
		ended := 0
		for _, s := range sweepers {
			n, _ := s.Sweep(now+1, (workers*perWorker+1)*(1+visitCost+endCost))
			ended += n
		}
		if ended != ends[now+1] {
			t.Fatalf("%d seconds after the packets: %d ended, want %d", now+1-start-seconds, ended, ends[now+1])
		}
	}
	if load.Total() != 0 || len(ends) < 2 {
		t.Errorf("%d left; the ends lay in %d seconds", load.Total(), len(ends))
	}
}
