package dataplane

// BatchSize is the most frames one Recv hands over.
const BatchSize = 256

// Headroom is how many bytes in front of a received packet a mode may prepend into. AF_XDP leaves XDP_PACKET_HEADROOM,
// 256, there (include/uapi/linux/bpf.h).
const Headroom = 256

// Frame is one piece of a queue's memory with a packet in it. The packet is Buf[Off:End]; what is in front of it is room to
// prepend into. A frame belongs to whoever got it from Recv or Alloc until it goes back by Send or Drop, and never to two.
type Frame struct {
	Buf      []byte // the whole frame, capacity cut to it
	Off, End int
	Handle   uint64 // the queue's own name for the frame
}

// Packet returns the packet's bytes.
func (f *Frame) Packet() []byte { return f.Buf[f.Off:f.End:f.End] }

// Queue is one receive and transmit queue of an interface. It belongs to one goroutine.
type Queue interface {
	// Recv fills frames with what has arrived, at most len(frames), and returns how many; it never blocks.
	Recv(frames []Frame) int
	// Alloc returns an empty frame (Off = End = Headroom) to build a packet in, false when there is none left.
	Alloc() (Frame, bool)
	// Send takes the frame back and transmits its packet, at the latest with the next Flush. False: no room, the frame was dropped.
	Send(f *Frame) bool
	// Drop takes the frame back.
	Drop(f *Frame)
	// Flush is called once per batch, after the last Send: hand over to the kernel what waits, take back what was sent, refill.
	Flush()
}
