package bench

import (
	"encoding/binary"
	"net/netip"

	"weir/dataplane"
	"weir/internal/testpkt"
	"weir/lb"
)

// flows is a queue that makes its packets up as they are asked for, so that ten million connections need no memory but the table's: flow
// after flow in a scattered order, round and round, until the quota is used up. What is sent to it is only counted.
type flows struct {
	memory   []byte
	free     []uint32
	template [64]byte
	sum      uint32 // of the template's IP header, without its checksum and source address
	first    uint32 // its flows are first to first + count - 1
	count    uint32
	stride   uint32
	next     uint32
	quota    int // packets that may still be received
	sent     uint64
}

const flowFrame = 512 // bytes, headroom included

var firstFlow = netip.MustParseAddrPort("10.64.0.1:1024")

// newFlows returns a queue of that many flows to the VIP: UDP without a checksum, or TCP SYNs.
func newFlows(count int, proto lb.Proto) *flows {
	const frames = 2 * dataplane.BatchSize
	q := &flows{memory: make([]byte, frames*flowFrame), count: uint32(count)}
	for i := range frames {
		q.free = append(q.free, uint32(i))
	}
	for q.stride = uint32(float64(count)*0.6180339887) | 1; gcd(q.stride, q.count) != 1; q.stride += 2 {
		continue
	}
	if q.stride %= q.count; q.stride == 0 {
		q.stride = 1
	}
	p := testpkt.UDP(firstFlow, vip).NoChecksum()
	if proto == lb.TCP {
		p = testpkt.TCP(firstFlow, vip, testpkt.SYN)
	}
	copy(q.template[:], p.Size(60).Bytes())
	clear(q.template[24:30])
	for i := 14; i < 34; i += 2 {
		q.sum += uint32(binary.BigEndian.Uint16(q.template[i:]))
	}
	return q
}

func gcd(a, b uint32) uint32 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// Recv implements dataplane.Queue.
func (q *flows) Recv(frames []dataplane.Frame) int {
	n := min(len(frames), len(q.free), q.quota)
	q.quota -= n
	for i := range frames[:n] {
		last := len(q.free) - 1
		h := q.free[last]
		q.free = q.free[:last]
		f := q.frame(h)
		f.End += 60
		packet := (*[64]byte)(f.Buf[f.Off:])
		*packet = q.template
		const ports = 60_000
		flow := q.first + q.next
		addr := 10<<24 + 64<<16 + 1 + flow/ports
		binary.BigEndian.PutUint32(packet[26:], addr)
		binary.BigEndian.PutUint16(packet[34:], uint16(1024+flow%ports))
		sum := q.sum + addr>>16 + addr&0xffff
		sum = sum>>16 + sum&0xffff
		binary.BigEndian.PutUint16(packet[24:], ^uint16(sum>>16+sum))
		if q.next += q.stride; q.next >= q.count {
			q.next -= q.count
		}
		frames[i] = f
	}
	return n
}

func (q *flows) frame(h uint32) dataplane.Frame {
	return dataplane.Frame{Buf: q.memory[h*flowFrame:][:flowFrame:flowFrame], Off: dataplane.Headroom, End: dataplane.Headroom, Handle: uint64(h)}
}

// Alloc implements dataplane.Queue.
func (q *flows) Alloc() (dataplane.Frame, bool) {
	last := len(q.free) - 1
	if last < 0 {
		return dataplane.Frame{}, false
	}
	h := q.free[last]
	q.free = q.free[:last]
	return q.frame(h), true
}

// Send implements dataplane.Queue.
func (q *flows) Send(f *dataplane.Frame) bool {
	q.sent++
	q.free = append(q.free, uint32(f.Handle))
	return true
}

// Drop implements dataplane.Queue.
func (q *flows) Drop(f *dataplane.Frame) { q.free = append(q.free, uint32(f.Handle)) }

// Flush implements dataplane.Queue.
func (q *flows) Flush() {}
