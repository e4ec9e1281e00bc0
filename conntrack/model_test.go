package conntrack

import (
	"math/rand/v2"
	"sync"
	"testing"

	"weir/lb"
)

// model is the slow, obvious table: a Go map, told the same as the real one, and compared with it.
type model struct {
	tb       testing.TB
	t        *Table
	id       lb.ServerID
	load     *lb.Load
	now      uint32
	alone    bool // nobody else uses the table: time may pass, and it may be full
	offset   int  // the first of this model's clients
	conns    map[modelKey]*modelConn
	reverses map[lb.Flow]modelKey
	results  [results]int
}

type modelKey struct {
	lb.Flow
	template bool
}

type modelConn struct {
	c   Conn
	ref Ref
}

const modelKeys = 48

func newModel(tb testing.TB, t *Table, offset int, alone bool) *model {
	id, load := newServer(tb, t)
	return &model{tb: tb, t: t, id: id, load: load, now: start, alone: alone, offset: offset,
		conns: map[modelKey]*modelConn{}, reverses: map[lb.Flow]modelKey{}}
}

// key returns the k-th forward key: few clients, of both families and protocols, so that operations meet.
func (m *model) key(k byte) modelKey {
	n := int(k) % modelKeys
	f := client(m.offset+n/4, []lb.Proto{lb.TCP, lb.UDP}[n%2])
	f.DstPort += uint16(n / 2 % 2)
	if n/4%3 == 0 {
		f.Src.Hi, f.Dst.Hi = 0x20010db8<<32, 0x20010db8<<32|9
	}
	return modelKey{f, n%8 == 7}
}

// step does one operation on both and compares what they say.
func (m *model) step(op, k, arg byte) {
	key := m.key(k)
	known := m.conns[key]
	switch op % 8 {
	case 0, 1:
		m.insert(key, arg)
	case 2, 3:
		m.look(key)
	case 4, 5:
		if known != nil && !key.template {
			m.packet(known, arg)
		}
	case 6:
		if known != nil {
			needed := key.template && m.controlled(known.ref) > 0
			if needed && !m.alone {
				return // retired ones would pile up where time stands still
			}
			if gone := m.t.Delete(known.ref); gone == needed {
				m.tb.Fatalf("delete %v: %v, a template in need: %v", key, gone, needed)
			} else if needed {
				delete(m.conns, key)
				key.Proto += 100 // a retired template is under no key
				for m.conns[key] != nil {
					key.SrcPort++
				}
				known.c.Flags |= Retired
				m.conns[key] = known
				return
			}
			m.forget(key)
		}
	case 7:
		if m.alone {
			m.now += uint32(arg)
			m.sweep()
		}
	}
}

func (m *model) insert(key modelKey, arg byte) {
	c := connOf(key.Flow, []lb.Mode{lb.DR, lb.NAT, lb.FULLNAT, lb.TUN}[arg%4], m.id)
	c.Server = lb.AddrFrom4(0x0aff0001 + uint32(m.offset) + uint32(arg/4%2))
	if key.template {
		c.Flags, c.Timeout = Template, 1+uint32(arg)
	} else {
		m.t.Open(&c, SYN)
		for k, v := range m.conns {
			if arg >= 128 && k.template {
				c.Control = v.ref
			}
		}
	}
	before := len(m.conns)
	ref, r := m.t.Insert(&c, m.now)
	m.results[r]++
	if known := m.conns[key]; known != nil {
		if r != Exists || ref != known.ref {
			m.tb.Fatalf("insert %v: %v %x, it is there as %x", key, r, ref, known.ref)
		}
		return
	}
	if full := m.alone && before == m.t.capacity; full && r == Full {
		return
	} else if full {
		m.evicted(c.Control)
	}
	reverse, both := c.ReverseFlow()
	want := OK
	if _, taken := m.reverses[reverse]; both && taken && c.Mode == lb.NAT {
		want = ReverseTaken
	}
	if c.Control != 0 {
		if template := m.byRef(c.Control); template == nil || template.c.Flags&Retired != 0 {
			want = NoTemplate
		}
	}
	if r != want {
		m.tb.Fatalf("insert %v: %v, want %v (%d of %d used)", key, r, want, before, m.t.capacity)
	}
	if r != OK {
		return
	}
	if c.Mode == lb.FULLNAT && !key.template {
		reverse, _ = c.ReverseFlow()
		if other, taken := m.reverses[reverse]; taken {
			m.tb.Fatalf("local port of %v is given to %v too", other, key)
		}
	}
	if c.Control != 0 {
		template := m.byRef(c.Control)
		template.c.LastSeen = m.now
		if c.State == Established {
			template.c.State = Assured
		}
	}
	m.conns[key] = &modelConn{c, ref}
	if both {
		m.reverses[reverse] = key
	}
}

// evicted finds out whom a full table gave up: a half-open connection, with its template if that was the last on it and none was
// ever established; or such a template. Never spare, the template that the new connection is to hang on, by itself.
func (m *model) evicted(spare Ref) {
	var conn, template *modelConn
	var templateKey modelKey
	for key, v := range m.conns {
		var c Conn
		switch {
		case m.t.Load(v.ref, &c):
		case key.template && template == nil:
			template, templateKey = v, key
		case !key.template && conn == nil && v.c.halfOpen(m.now):
			conn = v
			m.forget(key)
		default:
			m.tb.Fatalf("the full table lost %+v", v.c)
		}
	}
	switch {
	case conn == nil && template == nil:
		m.tb.Fatal("the full table took one more and gave none up")
	case template == nil:
		return
	case template.c.State == Assured || m.controlled(template.ref) > 0,
		conn != nil && conn.c.Control != template.ref,
		conn == nil && (template.c.LastSeen == m.now || template.ref == spare):
		m.tb.Fatalf("the full table lost the template %+v", template.c)
	}
	m.forget(templateKey)
}

func (m *model) look(key modelKey) {
	known := m.conns[key]
	var c Conn
	if key.template {
		ref, ok := m.t.LookupTemplate(&key.Flow, &c)
		if ok != (known != nil) || ok && ref != known.ref {
			m.tb.Fatalf("template %v: found %v, known %v", key, ok, known)
		}
		return
	}
	ref, dir := m.t.Lookup(&key.Flow, m.t.Hash(&key.Flow), &c)
	if known == nil {
		if dir != None {
			m.tb.Fatalf("lookup %v: %v, but there is none", key, dir)
		}
		return
	}
	if dir != Forward || ref != known.ref {
		m.tb.Fatalf("lookup %v: %v %x, want %x", key, dir, ref, known.ref)
	}
	m.same(key, known)
	if reverse, both := known.c.ReverseFlow(); both {
		if ref, dir := m.t.Lookup(&reverse, m.t.Hash(&reverse), &c); dir != Reverse || ref != known.ref {
			m.tb.Fatalf("lookup of %v by %v: %v %x, want %x", key, reverse, dir, ref, known.ref)
		}
	}
}

// same compares all of a connection.
func (m *model) same(key modelKey, known *modelConn) {
	var c Conn
	if !m.t.Load(known.ref, &c) {
		m.tb.Fatalf("%v was lost", key)
	}
	want := known.c
	want.Controlled = m.controlled(known.ref)
	if c != want {
		m.tb.Fatalf("%v is\n%+v, want\n%+v", key, c, want)
	}
}

func (m *model) packet(known *modelConn, arg byte) {
	dir := Forward
	if _, both := known.c.ReverseFlow(); both && arg&32 != 0 {
		dir = Reverse
	}
	var c Conn
	if !m.t.Load(known.ref, &c) || !m.t.Packet(known.ref, &c, dir, arg, m.now) {
		m.tb.Fatalf("%+v was lost", known.c)
	}
	w := &known.c
	before := *w
	if w.Proto == lb.TCP {
		w.State = plain.next(w.State, w.Mode, dir, arg)
		w.Timeout = m.t.Timeouts().TCP[w.State]
	} else if w.Flags |= Seen; dir == Reverse {
		w.Flags |= Answered
	}
	w.LastSeen = m.now
	if w.Control != 0 && (w.State == Established && before.State != Established || w.Flags&^before.Flags&Answered != 0) {
		m.byRef(w.Control).c.State = Assured
	}
}

// sweep lets the table end what is due, and finds exactly that gone.
func (m *model) sweep() {
	counted := func() int { return int(m.load.Total()) + int(m.load.Persistent.Load()) }
	used := counted()
	ended := sweep(m.t, m.now)
	if left := counted(); left != used-ended {
		m.tb.Fatalf("a sweep ended %d, and %d of %d are left", ended, left, used)
	}
	needed := map[Ref]bool{} // templates that connections hung on before
	for _, v := range m.conns {
		needed[v.c.Control] = true
	}
	for key, v := range m.conns {
		if !key.template && v.c.LastSeen+v.c.Timeout <= m.now {
			m.forget(key)
		}
	}
	for key, v := range m.conns {
		if !key.template || v.c.LastSeen+v.c.Timeout > m.now {
			continue
		}
		var c Conn
		alive := m.t.Load(v.ref, &c)
		switch {
		case m.controlled(v.ref) > 0 && !alive, !needed[v.ref] && alive:
			m.tb.Fatalf("template %v at its time: alive %v", key, alive)
		case alive: // it was looked at before the last of its connections, or after
			v.c.Timeout, v.c.LastSeen = templateAgain, m.now
		default:
			m.forget(key)
		}
	}
}

func (m *model) forget(key modelKey) {
	v := m.conns[key]
	delete(m.conns, key)
	if r, both := v.c.ReverseFlow(); both {
		delete(m.reverses, r)
	}
}

func (m *model) byRef(ref Ref) *modelConn {
	for _, v := range m.conns {
		if v.ref == ref {
			return v
		}
	}
	return nil
}

func (m *model) controlled(ref Ref) (n uint32) {
	for _, v := range m.conns {
		if v.c.Control == ref {
			n++
		}
	}
	return n
}

// check compares everything: each connection, what a listing shows, and the server's counts.
func (m *model) check() {
	var active, inactive, persistent int32
	for key, v := range m.conns {
		m.same(key, v)
		switch {
		case v.c.Flags&Template != 0:
			persistent++
		case v.c.State.Active():
			active++
		default:
			inactive++
		}
	}
	if a, i, p := m.load.Active.Load(), m.load.Inactive.Load(), m.load.Persistent.Load(); a != active || i != inactive || p != persistent {
		m.tb.Fatalf("active %d, inactive %d, persistent %d, want %d %d %d", a, i, p, active, inactive, persistent)
	}
	if n := m.t.Servers().Refs(m.id); n != len(m.conns) {
		m.tb.Fatalf("%d connections name the server, want %d", n, len(m.conns))
	}
	listed := map[Ref]bool{}
	for from := uint32(0); ; {
		from = m.t.Range(from, 7, func(ref Ref, c *Conn) bool {
			if c.ServerID == m.id {
				if listed[ref] || m.byRef(ref) == nil {
					m.tb.Fatalf("listed twice or unknown: %+v", c)
				}
				listed[ref] = true
			}
			return true
		})
		if from == 0 {
			break
		}
	}
	if len(listed) != len(m.conns) {
		m.tb.Fatalf("%d listed, want %d", len(listed), len(m.conns))
	}
}

// empty deletes all and checks that nothing is left behind.
func (m *model) empty() {
	for _, template := range []bool{false, true} {
		for key, v := range m.conns {
			if key.template == template {
				if !m.t.Delete(v.ref) {
					m.tb.Fatalf("%v cannot be deleted", key)
				}
				m.forget(key)
			}
		}
	}
	m.check()
}

func modelTable(tb testing.TB, capacity int) *Table {
	t := newTable(tb, Options{Capacity: capacity, FirstPort: 2000, LastPort: 2099})
	if err := t.SetLocals([]lb.Addr{lb.AddrFrom4(0x0afe0001), lb.AddrFrom4(0x0afe0002)}); err != nil {
		tb.Fatal(err)
	}
	return t
}

// cleanIndex checks that an empty table's index is empty to the last count.
func cleanIndex(tb testing.TB, t *Table) {
	tb.Helper()
	for i := range t.mem.buckets {
		for j := range t.mem.buckets[i] {
			if w := t.mem.buckets[i][j].Load(); w != 0 {
				tb.Fatalf("word %d of bucket %d is %x in an empty table", j, i, w)
			}
		}
	}
}

func TestModelAlone(t *testing.T) {
	var seen [results]int
	for round := range uint64(30) {
		table := modelTable(t, 1+int(round))
		m := newModel(t, table, 0, true)
		r := rand.New(rand.NewPCG(round, 1))
		for i := range 1_500 {
			if m.step(byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())); i%100 == 0 {
				m.check()
			}
		}
		m.check()
		m.empty()
		cleanIndex(t, table)
		for i, n := range m.results {
			seen[i] += n
		}
	}
	for _, r := range []Result{OK, Exists, ReverseTaken, Full, NoTemplate} {
		if seen[r] == 0 {
			t.Errorf("no insert met %q", r)
		}
	}
}

// TestModelConcurrent: several models share one nearly full table, each with its own clients and its own server, while sweepers go round and a
// further server's connections come and are expelled.
func TestModelConcurrent(t *testing.T) {
	const models, steps = 4, 6_000
	table := modelTable(t, models*modelKeys*2)
	var workers, others sync.WaitGroup
	done := make(chan struct{})
	for i := range 2 {
		others.Go(func() {
			s := table.Sweeper(i, 2)
			id, _, _ := table.Servers().Acquire(serverAddr)
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				s.Sweep(start, 1<<20)
				c := connOf(client(1_000_000*(i+1)+n%7, lb.UDP), lb.NAT, id)
				table.Open(&c, 0)
				if _, r := table.Insert(&c, start); r == NoServer {
					table.Servers().Revive(id)
				}
				if n%50 == 0 {
					table.Servers().Expel(id, 0)
				}
			}
		})
	}
	for i := range models {
		m := newModel(t, table, 1000*i, false)
		workers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 2))
			for i := range steps {
				if m.step(byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())); i%500 == 0 {
					m.check()
				}
			}
			m.check()
			m.empty()
		})
	}
	workers.Wait()
	close(done)
	others.Wait()
}

// TestOneKeyManyWorkers: whoever inserts the same keys at once, each is there once; whoever ends one, it ended once.
func TestOneKeyManyWorkers(t *testing.T) {
	table := modelTable(t, 64)
	id, load := newServer(t, table)
	var opened, ended [8]int
	var g sync.WaitGroup
	for w := range 4 {
		g.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 3))
			for range 5_000 {
				k := r.IntN(8)
				f := client(k, lb.TCP)
				c := connOf(f, []lb.Mode{lb.DR, lb.NAT, lb.FULLNAT}[r.IntN(3)], id)
				table.Open(&c, SYN)
				ref, res := table.Insert(&c, start)
				switch res {
				case OK:
					mu.Lock()
					opened[k]++
					mu.Unlock()
				case Exists:
					var got Conn
					if table.Load(ref, &got) {
						if got.Client != f.Src || got.ClientPort != f.SrcPort {
							t.Errorf("the ref of %v leads to %+v", f, got)
						}
						table.Packet(ref, &got, Forward, uint8(r.Uint32()), start)
					}
				default:
					t.Errorf("insert: %v", res)
				}
				if r.IntN(3) == 0 && table.Delete(ref) {
					mu.Lock()
					ended[k]++
					mu.Unlock()
				}
			}
		})
	}
	g.Wait()
	for k := range opened {
		_, ref, dir := lookup(table, client(k, lb.TCP))
		left := 0
		if dir != None {
			left = 1
			table.Delete(ref)
		}
		if opened[k]-ended[k] != left {
			t.Errorf("key %d: opened %d times, ended %d times, %d left", k, opened[k], ended[k], left)
		}
	}
	if load.Total() != 0 || table.Servers().Refs(id) != 0 {
		t.Errorf("active %d, inactive %d, refs %d in an empty table", load.Active.Load(), load.Inactive.Load(), table.Servers().Refs(id))
	}
	cleanIndex(t, table)
}

// mu guards the test's own account.
var mu sync.Mutex

// FuzzTable reads operations from bytes, three each, and does them on the table and on the map.
func FuzzTable(f *testing.F) {
	f.Add([]byte{0, 1, 1, 2, 1, 0, 4, 1, 16, 6, 1, 0, 2, 1, 0})
	f.Add([]byte{0, 7, 9, 0, 1, 200, 6, 7, 0, 7, 0, 255, 0, 7, 1})
	f.Add([]byte{0, 0, 2, 0, 1, 2, 0, 2, 2, 0, 3, 1, 0, 4, 1, 0, 5, 1, 7, 0, 61, 2, 0, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		table := modelTable(t, 12)
		m := newModel(t, table, 0, true)
		for ; len(ops) >= 3; ops = ops[3:] {
			m.step(ops[0], ops[1], ops[2])
		}
		m.check()
		m.empty()
		cleanIndex(t, table)
	})
}
