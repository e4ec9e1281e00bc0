package conntrack

import (
	"errors"
	"sync"
	"sync/atomic"

	"weir/lb"
)

// ErrServers: as many servers are known as a ServerID can name.
var ErrServers = errors.New("more than 1,048,575 servers, removed ones with connections included")

// Servers gives out ServerIDs and keeps what a server carries for as long as control or a connection names it. Control
// calls Acquire, Release, Revive and Expel, one at a time or not; the table's packet path looks servers up without a lock.
type Servers struct {
	chunks [lb.MaxServers / serverChunk]atomic.Pointer[[serverChunk]atomic.Pointer[server]]
	expels atomic.Uint32 // grows with every Expel: sweepers then look at every connection's server once

	mu       sync.Mutex // control's; no worker takes it
	next     uint32     // slots from here on were never used
	released []uint32   // slots that control let go; they are free once no connection names them
}

const serverChunk = 1024

// server is padded so that two servers' counters never share a pair of cache lines.
type server struct {
	id    lb.ServerID
	addr  lb.Addr
	expel atomic.Uint32
	held  bool // by control; guarded by Servers.mu
	_     [35]byte
	load  lb.Load      // from here on it changes with every connection
	refs  atomic.Int64 // connections that name it, and one for control; never leaves 0 again
	_     [32]byte
}

// What of a server's connections is expelled: a protocol number, or one of these.
const (
	expelNone = 0
	expelAll  = 1 << 8
)

// Acquire returns the ID of a new server at addr, and its load, counted from zero. The ID is control's until Release.
func (s *Servers) Acquire(addr lb.Addr) (lb.ServerID, *lb.Load, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slot, incarnation, err := s.slot()
	if err != nil {
		return 0, nil, err
	}
	chunk := &s.chunks[slot/serverChunk]
	if chunk.Load() == nil {
		chunk.Store(new([serverChunk]atomic.Pointer[server]))
	}
	v := &server{id: lb.NewServerID(slot, incarnation), addr: addr, held: true}
	v.refs.Store(1)
	chunk.Load()[slot%serverChunk].Store(v)
	return v.id, &v.load, nil
}

// slot returns a free slot: one that was let go and has no connections left, oldest first, looking at a few only, or a fresh one.
func (s *Servers) slot() (slot, incarnation uint32, err error) {
	for range min(len(s.released), 16) {
		slot = s.released[0]
		s.released = s.released[1:]
		v := s.at(slot)
		if v.refs.Load() == 0 {
			return slot, v.id.Incarnation() + 1, nil
		}
		s.released = append(s.released, slot)
	}
	if s.next < lb.MaxServers-1 {
		s.next++
		return s.next, 0, nil
	}
	for i, slot := range s.released {
		if v := s.at(slot); v.refs.Load() == 0 {
			s.released = append(s.released[:i:i], s.released[i+1:]...)
			return slot, v.id.Incarnation() + 1, nil
		}
	}
	return 0, 0, ErrServers
}

// Release says that control has no use for id any more. The ID and its load stay until no connection names them.
func (s *Servers) Release(id lb.ServerID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.get(id); v != nil && v.held {
		v.held = false
		s.released = append(s.released, id.Slot())
		v.unref()
	}
}

// Revive takes a released ID back, with its load as it is now and whatever Expel asked for taken back. False: no connection
// names it any more, or the ID is somebody else's.
func (s *Servers) Revive(id lb.ServerID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.get(id)
	if v == nil || !v.held && !v.ref() {
		return false
	}
	if !v.held {
		v.held = true
		for i, slot := range s.released {
			if slot == id.Slot() {
				s.released = append(s.released[:i:i], s.released[i+1:]...)
				break
			}
		}
	}
	v.expel.Store(expelNone)
	return true
}

// Expel has the sweepers end all connections and templates that name id, or with proto only those of that protocol, and Insert refuse new ones: what
// IPVS's expire_nodest_conn does to a removed server. Revive ends it.
func (s *Servers) Expel(id lb.ServerID, proto lb.Proto) {
	if v := s.get(id); v != nil {
		what := uint32(proto)
		if proto == 0 {
			what = expelAll
		}
		v.expel.Store(what)
		s.expels.Add(1)
	}
}

// Load returns what id carries, nil when nothing names id any more.
func (s *Servers) Load(id lb.ServerID) *lb.Load {
	if v := s.get(id); v != nil {
		return &v.load
	}
	return nil
}

// Refs returns how many connections and templates name id.
func (s *Servers) Refs(id lb.ServerID) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.get(id)
	if v == nil {
		return 0
	}
	n := int(v.refs.Load())
	if v.held {
		n--
	}
	return n
}

// get returns the server that id names now, nil if none does.
func (s *Servers) get(id lb.ServerID) *server {
	if v := s.at(id.Slot()); v != nil && v.id == id && v.refs.Load() > 0 {
		return v
	}
	return nil
}

// addr returns the address of the server that id names or was the last to name in its slot; the zero Addr if it is another's by now. That is enough for who reads a
// connection's words and then its head, since a living connection's server keeps its slot; and it stays clear of what every new connection changes.
func (s *Servers) addr(id lb.ServerID) lb.Addr {
	if v := s.at(id.Slot()); v != nil && v.id == id {
		return v.addr
	}
	return lb.Addr{}
}

func (s *Servers) at(slot uint32) *server {
	chunk := s.chunks[slot/serverChunk].Load()
	if chunk == nil {
		return nil
	}
	return chunk[slot%serverChunk].Load()
}

// ref adds a connection's name; false: the server is gone.
func (v *server) ref() bool {
	for {
		n := v.refs.Load()
		if n == 0 {
			return false
		}
		if v.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (v *server) unref() { v.refs.Add(-1) }

func (v *server) expels(p lb.Proto) bool {
	what := v.expel.Load()
	return what == expelAll || what != expelNone && what == uint32(p)
}

// counter returns where a connection in that state is counted.
func (v *server) counter(flags Flags, s State) *atomic.Int32 {
	switch {
	case flags&Template != 0:
		return &v.load.Persistent
	case s.Active():
		return &v.load.Active
	}
	return &v.load.Inactive
}

// countIn counts a connection in; the caller has a ref (kernel ip_vs_bind_dest).
func (v *server) countIn(flags Flags, s State) {
	v.counter(flags, s).Add(1)
	v.load.Opened()
}

// countOut counts a connection out and gives its ref back (ip_vs_unbind_dest).
func (v *server) countOut(flags Flags, s State) {
	v.counter(flags, s).Add(-1)
	v.load.Closed()
	v.unref()
}
