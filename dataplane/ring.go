package dataplane

import (
	"encoding/binary"
	"sync/atomic"

	"weir/dataplane/reason"
)

// ring carries captured frames from one worker to one reader. Neither waits for the other: a record that does not fit is not put.
// Records lie one behind the other in buf, the header first, over its end to its front; a position counts bytes since the beginning.
type ring struct {
	buf  []byte        // a power of two long
	tail atomic.Uint64 // the reader's: what is in front of it has been read
	_    [64]byte      // each side's line is its own
	head atomic.Uint64 // the worker's: what is in front of it may be read
	next uint64        // the worker's alone: where the next record goes. What is between head and next is not decided yet
}

// A record's header: when, how long the frame was, how much of it follows, where, and its verdict.
//
//	| time (8) | length (4) | kept (4) | interface (2) | out (1) | why (1) |
const (
	recordHeader = 20
	recordWhy    = 19 // the verdict's place
)

func newRing(size int) *ring { return &ring{buf: make([]byte, size)} }

func (r *ring) at(position uint64) uint64 { return position & uint64(len(r.buf)-1) }

func (r *ring) write(position uint64, b []byte) {
	n := copy(r.buf[r.at(position):], b)
	copy(r.buf, b[n:])
}

func (r *ring) read(position uint64, b []byte) {
	n := copy(b, r.buf[r.at(position):])
	copy(b[n:], r.buf)
}

// put adds a record that is not to be read yet, and returns its position; false: there is no room.
func (r *ring) put(f *CapturedFrame) (position uint64, ok bool) {
	size := uint64(recordHeader + len(f.Data))
	if r.next+size-r.tail.Load() > uint64(len(r.buf)) {
		return 0, false
	}
	var h [recordHeader]byte
	binary.LittleEndian.PutUint64(h[0:], uint64(f.Time))
	binary.LittleEndian.PutUint32(h[8:], uint32(f.Length))
	binary.LittleEndian.PutUint32(h[12:], uint32(len(f.Data)))
	binary.LittleEndian.PutUint16(h[16:], uint16(f.Iface))
	if f.Out {
		h[18] = 1
	}
	h[recordWhy] = byte(f.Why)
	position = r.next
	r.write(position, h[:])
	r.write(position+recordHeader, f.Data)
	r.next += size
	return position, true
}

// setWhy changes the verdict of a record that has been put and not published.
func (r *ring) setWhy(position uint64, why reason.Reason) {
	r.buf[r.at(position+recordWhy)] = byte(why)
}

// publish lets the reader have what was put; forget takes it back.
func (r *ring) publish() { r.head.Store(r.next) }
func (r *ring) forget()  { r.next = r.head.Load() }

// peek returns the time of the oldest record; false: there is none.
func (r *ring) peek() (time int64, ok bool) {
	tail := r.tail.Load()
	if tail == r.head.Load() {
		return 0, false
	}
	var b [8]byte
	r.read(tail, b[:])
	return int64(binary.LittleEndian.Uint64(b[:])), true
}

// take moves the oldest record, which peek has found, into f. It uses the room behind f.Data.
func (r *ring) take(f *CapturedFrame) {
	tail := r.tail.Load()
	var h [recordHeader]byte
	r.read(tail, h[:])
	f.Time = int64(binary.LittleEndian.Uint64(h[0:]))
	f.Length = int(binary.LittleEndian.Uint32(h[8:]))
	kept := int(binary.LittleEndian.Uint32(h[12:]))
	f.Iface, f.Out, f.Why = int(binary.LittleEndian.Uint16(h[16:])), h[18] == 1, reason.Reason(h[recordWhy])
	if cap(f.Data) < kept {
		f.Data = make([]byte, kept)
	}
	f.Data = f.Data[:kept]
	r.read(tail+recordHeader, f.Data)
	r.tail.Store(tail + recordHeader + uint64(kept))
}
