package host

import (
	"math/bits"
	"sync/atomic"
)

// Sender is one worker's end of the path: a ring with one writer, the worker, and one reader, the path's goroutine.
type Sender struct {
	path   *Path
	ifaces int
	memory []byte // slots of max bytes
	slots  []slot
	max    int

	// Each side's words are on lines of their own, or they would wander between the CPUs with every packet.
	_    [64]byte
	head atomic.Uint32 // the next slot to read; written by the path
	_    [64]byte
	tail atomic.Uint32 // the next slot to write; written by the worker

	ringFull, overRate, invalid atomic.Uint64 // written by the worker
	_                           [64]byte
}

type slot struct{ iface, length int32 }

func newSender(p *Path, ring, maxPacket int) *Sender {
	n := 1 << bits.Len(uint(ring-1))
	return &Sender{path: p, ifaces: len(p.ifaces), memory: make([]byte, n*maxPacket), slots: make([]slot, n), max: maxPacket}
}

// Send copies a frame that interface iface received, to be given to the kernel. False: it was dropped, and counted by why. Send
// neither blocks nor allocates; it makes a system call only to wake the path from its sleep. It belongs to the worker's goroutine.
func (s *Sender) Send(iface int, frame []byte) bool {
	if uint(iface) >= uint(s.ifaces) || len(frame) < 14 || len(frame) > s.max {
		s.invalid.Add(1)
		return false
	}
	tail := s.tail.Load()
	if tail-s.head.Load() == uint32(len(s.slots)) {
		if s.path.throttled.Load() {
			s.overRate.Add(1)
		} else {
			s.ringFull.Add(1)
		}
		return false
	}
	i := int(tail) & (len(s.slots) - 1)
	copy(s.memory[i*s.max:], frame)
	s.slots[i] = slot{iface: int32(iface), length: int32(len(frame))}
	s.tail.Store(tail + 1)

	if s.path.asleep.Load() && s.path.asleep.CompareAndSwap(true, false) {
		select {
		case s.path.wake <- struct{}{}:
		default: // woken already
		}
	}
	return true
}

// waiting is called by the path only, as are at and release.
func (s *Sender) waiting() int { return int(s.tail.Load() - s.head.Load()) }

// at returns the packet i places behind the oldest. Its memory is the ring's until release.
func (s *Sender) at(i int) (iface int, frame []byte) {
	n := (int(s.head.Load()) + i) & (len(s.slots) - 1)
	return int(s.slots[n].iface), s.memory[n*s.max:][:s.slots[n].length]
}

// release gives the n oldest slots back to the worker.
func (s *Sender) release(n int) { s.head.Add(uint32(n)) }
