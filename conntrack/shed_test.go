package conntrack

import (
	"testing"

	"weir/lb"
)

// TestWhatIsShed: when every part of the table has had its turn, what ties nobody is gone and all else has stayed.
func TestWhatIsShed(t *testing.T) {
	const each = 20
	for _, row := range []struct {
		name  string
		make  func(t *testing.T, table *Table, id lb.ServerID, f lb.Flow)
		sheds bool
	}{
		{"a SYN", func(t *testing.T, table *Table, id lb.ServerID, f lb.Flow) {
			open(t, table, f, lb.DR, id, start)
		}, true},
		{"an established connection", func(t *testing.T, table *Table, id lb.ServerID, f lb.Flow) {
			c, ref := open(t, table, f, lb.NAT, id, start)
			table.Packet(ref, &c, Forward, ACK, start)
		}, false},
		{"a closing connection", func(t *testing.T, table *Table, id lb.ServerID, f lb.Flow) {
			c, ref := open(t, table, f, lb.DR, id, start)
			table.Packet(ref, &c, Forward, ACK, start)
			table.Packet(ref, &c, Forward, FIN|ACK, start)
		}, false},
		{"a lone datagram", func(t *testing.T, table *Table, id lb.ServerID, f lb.Flow) {
			f.Proto = lb.UDP
			open(t, table, f, lb.DR, id, start)
		}, true},
		{"two datagrams", func(t *testing.T, table *Table, id lb.ServerID, f lb.Flow) {
			f.Proto = lb.UDP
			c, ref := open(t, table, f, lb.DR, id, start)
			table.Packet(ref, &c, Forward, 0, start)
		}, false},
		{"a template that no connection came to hang on", func(t *testing.T, table *Table, id lb.ServerID, f lb.Flow) {
			bareTemplate(t, table, f, id)
		}, true},
		{"a template with an established connection", func(t *testing.T, table *Table, id lb.ServerID, f lb.Flow) {
			c, ref := openUnder(t, table, f, id, bareTemplate(t, table, f, id))
			table.Packet(ref, &c, Forward, ACK, start)
		}, false},
		{"a template whose established connection has ended", func(t *testing.T, table *Table, id lb.ServerID, f lb.Flow) {
			c, ref := openUnder(t, table, f, id, bareTemplate(t, table, f, id))
			table.Packet(ref, &c, Forward, ACK, start)
			table.Delete(ref)
		}, false},
		{"a template that one-packet datagrams go by", func(t *testing.T, table *Table, id lb.ServerID, f lb.Flow) {
			if ref := bareTemplate(t, table, f, id); !table.Renew(ref, start) {
				t.Fatal("it has ended")
			}
		}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			table := newTable(t, Options{Capacity: 1000, Timeouts: endless()})
			id, load := newServer(t, table)
			for i := range each {
				row.make(t, table, id, client(i, lb.TCP))
			}
			made := table.Stats().Used
			pass := func(from, to uint32) {
				s := table.Sweeper(0, 1)
				for now := from; now < to; now++ {
					for through := false; !through; {
						_, through = s.Sweep(now, 100)
					}
				}
			}
			pass(start+60, start+360)
			if n := table.Stats().Used; n != made {
				t.Fatalf("%d of %d are left while nothing is shed", n, made)
			}
			table.Shed(true)
			pass(start+360, start+360+shedShare)
			want := made
			if row.sheds {
				want = 0
			}
			if s := table.Stats(); s.Used != want || int(s.Shed) != made-want {
				t.Errorf("%d of %d are left, %d were shed", s.Used, made, s.Shed)
			}
			if n := int(load.Total()) + int(load.Persistent.Load()); n != want {
				t.Errorf("the server counts %d", n)
			}
		})
	}
}

// TestShedsTheTemplateOfAFlood: a SYN's template goes with it.
func TestShedsTheTemplateOfAFlood(t *testing.T) {
	table := newTable(t, Options{Capacity: 64, Timeouts: endless()})
	id, _ := newServer(t, table)
	for i := range 30 {
		openUnder(t, table, client(i, lb.TCP), id, bareTemplate(t, table, client(i, lb.TCP), id))
	}
	table.Shed(true)
	s := table.Sweeper(0, 1)
	for now := uint32(start); table.Stats().Used > 0; now++ {
		s.Sweep(now, 100*(1+visitCost+endCost))
		if st := table.Stats(); st.Used%2 != 0 || now > start+shedShare {
			t.Fatalf("after %d s: %+v", now-start, st)
		}
	}
}

// TestADatagramIsLeftAMinuteForItsAnswer, of which IPVS says the same.
func TestADatagramIsLeftAMinuteForItsAnswer(t *testing.T) {
	table := newTable(t, Options{Capacity: 4096})
	id, _ := newServer(t, table)
	for i := range 4096 {
		open(t, table, client(i, lb.UDP), lb.DR, id, start)
	}
	table.Shed(true)
	s := table.Sweeper(0, 1)
	for now := uint32(start); now < start+60; now++ {
		s.Sweep(now, 5000)
	}
	if n := table.Stats().Shed; n != 0 {
		t.Errorf("%d were shed before", n)
	}
	if s.Sweep(start+60, 5000); table.Stats().Shed == 0 {
		t.Error("none was shed after it")
	}
}

// TestShedsAThirtySecondOfTheTableASecond, however many sweepers there are and however often they are called.
func TestShedsAThirtySecondOfTheTableASecond(t *testing.T) {
	const n = shedShare * 300
	for _, workers := range []int{1, 3} {
		table := newTable(t, Options{Capacity: n})
		id, _ := newServer(t, table)
		for i := range n {
			open(t, table, client(i, lb.TCP), lb.DR, id, start)
		}
		table.Shed(true)
		var sweepers []*Sweeper
		for w := range workers {
			sweepers = append(sweepers, table.Sweeper(w, workers))
		}
		for now := uint32(start); now < start+shedShare; now++ {
			before := table.Stats().Shed
			for _, s := range sweepers {
				for again := range 5 {
					for through := false; !through; {
						ended := 0
						if ended, through = s.Sweep(now, 64); ended > 64 {
							t.Fatalf("%d ended in a step of 64", ended)
						}
					}
					if again == 2 {
						table.Servers().Expel(id, lb.UDP) // another pass in the same second
					}
				}
			}
			if shed := table.Stats().Shed - before; shed != n/shedShare {
				t.Errorf("%d sweepers shed %d of %d in one second", workers, shed, n)
			}
		}
	}
}

// endless are timeouts that no test lives to see.
func endless() Timeouts {
	v := DefaultTimeouts()
	for i := range v.TCP {
		v.TCP[i] = 10_000
	}
	v.UDP = 10_000
	return v
}

func bareTemplate(t *testing.T, table *Table, f lb.Flow, id lb.ServerID) Ref {
	t.Helper()
	c := connOf(f, lb.DR, id)
	c.Client.Lo += uint64(c.ClientPort) << 40 // so that clients of one address are many
	c.ClientPort, c.Flags, c.Timeout = 0, Template, 10_000
	ref, r := table.Insert(&c, start)
	if r != OK {
		t.Fatal(r)
	}
	return ref
}

func openUnder(t *testing.T, table *Table, f lb.Flow, id lb.ServerID, control Ref) (Conn, Ref) {
	t.Helper()
	c := connOf(f, lb.DR, id)
	c.Control = control
	table.Open(&c, SYN)
	ref, r := table.Insert(&c, start)
	if r != OK {
		t.Fatal(r)
	}
	return c, ref
}
