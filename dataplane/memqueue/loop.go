package memqueue

import (
	"encoding/binary"
	"fmt"

	"weir/dataplane"
)

// slot is the room of a packet of Loop: a cache line and no more for the smallest ones.
const slot = 64

// loop is what a Queue is while a benchmark runs on it. It does what a driver's rings do for a packet, and costs as little: the packet is
// copied into a frame, and its descriptor is written down when it is sent. That frames come back it only counts.
type loop struct {
	packets []byte // size bytes for each
	lens    []uint16
	size    int
	next    int

	frames                   []dataplane.Frame // as they are received, but for the end
	sent                     [dataplane.BatchSize]descriptor
	received, count, dropped uint64
}

type descriptor struct {
	frame, off, len uint32
}

// Loop turns the queue into a benchmark's: Recv serves the packets round and round for ever, copied into frames as the kernel
// copies them, and what is sent is only counted. Call it before the first Recv. Frames that are not given back by the end of a turn are used
// again: only Outstanding tells.
func (q *Queue) Loop(packets [][]byte) {
	l := &loop{size: slot, lens: make([]uint16, len(packets))}
	for _, p := range packets {
		l.size = max(l.size, (len(p)+slot-1)/slot*slot)
	}
	if l.size > FrameSize-dataplane.Headroom {
		panic(fmt.Sprintf("memqueue: a packet of %d bytes does not fit a frame", l.size))
	}
	l.packets = make([]byte, len(packets)*l.size)
	for i, p := range packets {
		l.lens[i] = uint16(copy(l.packets[i*l.size:], p))
	}
	for i := range min(len(q.held), dataplane.BatchSize) {
		buf := q.mem[i*FrameSize:][:FrameSize:FrameSize]
		l.frames = append(l.frames, dataplane.Frame{Buf: buf, Off: dataplane.Headroom, Handle: uint64(i)})
	}
	q.loop = l
}

// SentCount returns how many packets have been sent since Loop.
func (q *Queue) SentCount() uint64 { return q.loop.count }

func (l *loop) recv(frames []dataplane.Frame) int {
	n := copy(frames, l.frames)
	next := l.next
	for i := range frames[:n] {
		f := &frames[i]
		packet := l.packets[next*l.size:][:l.size]
		if len(packet) == slot {
			copySlot((*[slot]byte)(f.Buf[dataplane.Headroom:]), (*[slot]byte)(packet))
		} else {
			copy(f.Buf[dataplane.Headroom:], packet)
		}
		f.End = dataplane.Headroom + int(l.lens[next])
		if next++; next == len(l.lens) {
			next = 0
		}
	}
	l.next = next
	l.received += uint64(n)
	return n
}

func (l *loop) send(f *dataplane.Frame) bool {
	l.sent[l.count%uint64(len(l.sent))] = descriptor{uint32(f.Handle), uint32(f.Off), uint32(f.End - f.Off)}
	l.count++
	return true
}

func (l *loop) outstanding() int { return int(l.received - l.count - l.dropped) }

// copySlot copies a cache line by eight moves; copy would be a call.
func copySlot(to, from *[slot]byte) {
	for i := 0; i < slot; i += 16 {
		a, b := binary.NativeEndian.Uint64(from[i:]), binary.NativeEndian.Uint64(from[i+8:])
		binary.NativeEndian.PutUint64(to[i:], a)
		binary.NativeEndian.PutUint64(to[i+8:], b)
	}
}
