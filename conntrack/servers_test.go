package conntrack

import (
	"sync"
	"testing"

	"weir/lb"
)

// TestServerIDLives: an ID stays its server's until control and the last connection have let go, then the slot goes on under the next incarnation.
func TestServerIDLives(t *testing.T) {
	table := newTable(t, Options{Capacity: 10})
	s := table.Servers()
	id, load := newServer(t, table)
	_, ref := open(t, table, client(1, lb.TCP), lb.DR, id, start)
	s.Release(id)
	s.Release(id) // twice is once
	if other, _ := newServer(t, table); other.Slot() == id.Slot() {
		t.Fatal("the slot of a server with a connection was given away")
	}
	if s.Refs(id) != 1 || s.Load(id) != load || load.Active.Load() != 1 {
		t.Errorf("a removed server with a connection: %d refs", s.Refs(id))
	}
	if !s.Revive(id) {
		t.Fatal("a removed server with a connection does not come back")
	}
	table.Delete(ref)
	if s.Refs(id) != 0 || s.Load(id) != load {
		t.Error("a server that is held is gone with its last connection")
	}
	s.Release(id)
	if s.Revive(id) || s.Load(id) != nil || s.Refs(id) != 0 {
		t.Error("a server without control and connections is still there")
	}
	c := connOf(client(1, lb.TCP), lb.DR, id)
	if _, r := table.Insert(&c, start); r != NoServer {
		t.Errorf("a connection to it: %v", r)
	}
	next, nextLoad := newServer(t, table)
	if next.Slot() != id.Slot() || next.Incarnation() != id.Incarnation()+1 || nextLoad == load {
		t.Errorf("the free slot of %v went to %v", id, next)
	}
	if _, r := table.Insert(&c, start); r != NoServer {
		t.Errorf("a connection to the slot's former owner: %v", r)
	}
}

// TestExpel: a removed server's connections end with the next sweep, all of them or UDP's only; a template
// after its connections.
func TestExpel(t *testing.T) {
	for _, row := range []struct {
		only lb.Proto
		left int
	}{{0, 0}, {lb.UDP, 3}, {lb.TCP, 1}} {
		table := newTable(t, Options{Capacity: 10})
		id, load := newServer(t, table)
		other, _ := newServer(t, table)
		open(t, table, client(9, lb.UDP), lb.DR, other, start)
		sweeper := table.Sweeper(0, 1)
		sweeper.Sweep(start, 1000)

		_, control := template(t, table, 1, id, 1000)
		open(t, table, client(1, lb.UDP), lb.DR, id, start)
		controlled(t, table, 2, control, id, start)
		controlled(t, table, 3, control, id, start)
		table.Servers().Expel(id, row.only)
		table.Servers().Release(id)
		sweeper.Sweep(start, 1000) // in the same second
		if got := table.Servers().Refs(id); got != row.left || table.Stats().Used != row.left+1 {
			t.Errorf("only %d: %d left, want %d; %+v", row.only, got, row.left, table.Stats())
		}
		if row.left > 0 {
			for proto, want := range map[lb.Proto]Result{row.only: NoServer, lb.TCP + lb.UDP - row.only: OK} {
				c := connOf(client(5, proto), lb.DR, id)
				table.Open(&c, SYN)
				if _, r := table.Insert(&c, start); r != want {
					t.Errorf("only %d: a new %v connection: %v", row.only, proto, r)
				}
			}
			if !table.Servers().Revive(id) {
				t.Fatal("does not come back")
			}
			c := connOf(client(6, row.only), lb.DR, id)
			if _, r := table.Insert(&c, start); r != OK {
				t.Errorf("only %d: after it came back: %v", row.only, r)
			}
		} else if load.Total() != 0 || load.Persistent.Load() != 0 {
			t.Errorf("%d connections, %d templates counted", load.Total(), load.Persistent.Load())
		}
	}
}

// TestThresholds: the table tells the load of each connection that comes or goes.
func TestThresholds(t *testing.T) {
	table := newTable(t, Options{Capacity: 10})
	id, load := newServer(t, table)
	load.Upper.Store(2)
	_, first := open(t, table, client(1, lb.TCP), lb.DR, id, start)
	if load.Overloaded.Load() {
		t.Error("overloaded at one of two")
	}
	_, second := open(t, table, client(2, lb.TCP), lb.DR, id, start)
	if !load.Overloaded.Load() {
		t.Error("not overloaded at two of two")
	}
	table.Delete(first)
	if load.Overloaded.Load() {
		t.Error("overloaded at one of two")
	}
	table.Delete(second)
}

// TestServersComeAndGo: control's and the workers' races end with every count at zero.
func TestServersComeAndGo(t *testing.T) {
	table := newTable(t, Options{Capacity: 100})
	var ids [4]lb.ServerID
	var lock sync.RWMutex
	for i := range ids {
		ids[i], _ = newServer(t, table)
	}
	var g sync.WaitGroup
	done := make(chan struct{})
	g.Go(func() {
		s := table.Sweeper(0, 1)
		for now := uint32(start); ; {
			select {
			case <-done:
				return
			default:
				s.Sweep(now, 1000)
			}
		}
	})
	var workers sync.WaitGroup
	for w := range 2 {
		workers.Go(func() {
			for i := range 3000 {
				lock.RLock()
				id := ids[i%len(ids)]
				lock.RUnlock()
				c := connOf(client(50*w+i%50, lb.TCP), lb.NAT, id)
				table.Open(&c, SYN)
				if ref, r := table.Insert(&c, start); r == Exists {
					table.Delete(ref)
				}
			}
		})
	}
	for i := range 300 {
		lock.Lock()
		k := i % len(ids)
		table.Servers().Release(ids[k])
		if i%3 == 0 {
			table.Servers().Expel(ids[k], 0)
		}
		if i%2 == 0 || !table.Servers().Revive(ids[k]) {
			ids[k], _, _ = table.Servers().Acquire(serverAddr)
		}
		lock.Unlock()
	}
	workers.Wait()
	close(done)
	g.Wait()
	sweep(table, start+60)
	if s := table.Stats(); s.Used != 0 {
		t.Errorf("%+v", s)
	}
	for _, id := range ids {
		if l := table.Servers().Load(id); l == nil || l.Total() != 0 || table.Servers().Refs(id) != 0 {
			t.Errorf("%v: load %+v, refs %d", id, l, table.Servers().Refs(id))
		}
	}
	cleanIndex(t, table)
}
