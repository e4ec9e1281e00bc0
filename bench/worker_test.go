// Package bench measures weir: the worker in memory here, the whole director on AF_XDP in bench/run.sh. RESULTS.md has what
// was measured, with machine and date.
package bench

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"weir/conntrack"
	"weir/dataplane"
	"weir/dataplane/forward"
	"weir/dataplane/memqueue"
	"weir/internal/testpkt"
	"weir/lb"
	"weir/sched"
)

var vip = netip.MustParseAddrPort("192.0.2.10:80")

// rig is workers over queues in memory, with a service of eight servers. worker and queue are the first.
type rig struct {
	worker  *dataplane.Worker
	queue   *memqueue.Queue
	workers []*dataplane.Worker
	queues  []*memqueue.Queue
	shared  *dataplane.Shared
	conns   *conntrack.Table
	servers []lb.ServerID
}

func newRig(tb testing.TB, mode lb.Mode, flows, workers int) *rig {
	tb.Helper()
	return newRigOf(tb, mode, flows, workers, lb.AddrFrom4)
}

// newRigOf returns a rig with addresses of the caller's making, each from an IPv4 one.
func newRigOf(tb testing.TB, mode lb.Mode, flows, workers int, address func(uint32) lb.Addr) *rig {
	tb.Helper()
	r := newShared(tb, mode, lb.UDP, 2*flows+1024, address, nil)
	for w := range workers {
		queue := memqueue.New(2 * dataplane.BatchSize)
		r.queues = append(r.queues, queue)
		r.workers = append(r.workers, r.newWorker(w, workers, queue))
	}
	r.worker, r.queue = r.workers[0], r.queues[0]
	return r
}

func (r *rig) newWorker(w, workers int, queue dataplane.Queue) *dataplane.Worker {
	return dataplane.NewWorker(r.shared, w, workers, []dataplane.IfaceQueue{{Iface: 0, Queue: queue}}, nil)
}

// newShared returns a rig without workers, with room for that many connections; a nil clock is the real one.
func newShared(tb testing.TB, mode lb.Mode, proto lb.Proto, capacity int, address func(uint32) lb.Addr, clock func() uint32) *rig {
	tb.Helper()
	conns, err := conntrack.New(conntrack.Options{Capacity: capacity, HugePages: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(conns.Close)
	var locals []lb.Addr
	for i := range 16 {
		locals = append(locals, address(0x0a010000|uint32(i+1)))
	}
	if err := conns.SetLocals(locals); err != nil {
		tb.Fatal(err)
	}
	scheduler, err := sched.New("rr", nil)
	if err != nil {
		tb.Fatal(err)
	}
	shared := dataplane.NewShared(conns, clock)
	edit := shared.Table().Edit()
	edit.SetIfaces([]dataplane.Iface{{Name: "mem0", MTU: 1500}})
	r := &rig{shared: shared, conns: conns}
	list := &sched.List{}
	for i := range 8 {
		rip := address(0x0a000002 + uint32(i))
		id, load, err := conns.Servers().Acquire(rip)
		if err != nil {
			tb.Fatal(err)
		}
		shared.Meter(id)
		r.servers = append(r.servers, id)
		list.Servers = append(list.Servers, &sched.Server{ID: id, Serial: uint64(i), Addr: rip, Port: 80, Weight: 1, Load: load})
		edit.SetServer(&dataplane.Server{ID: id, Mode: mode, Addr: rip, Port: 80, Load: load, Path: &forward.Path{
			DstMAC: [6]byte(testpkt.MAC(uint16(i))), SrcMAC: [6]byte(testpkt.DirectorMAC), Source: address(0x0a000001), MTU: 1500}})
	}
	versions := dataplane.AppendVersion(dataplane.AppendVersion(nil, &sched.List{}), list)
	edit.SetService(&dataplane.Service{
		Key:    lb.ServiceKey{Addr: address(lb.AddrFrom(vip.Addr()).V4()), Port: 80, Proto: proto},
		Picker: dataplane.NewPicker(scheduler), Versions: versions,
	})
	shared.Publish(edit.Table())
	return r
}

// packets returns a 60-byte frame (64 with its FCS) for each of n flows, in random order.
func packets(n int) [][]byte {
	frame := testpkt.UDP(netip.MustParseAddrPort("198.18.0.1:1024"), vip).NoChecksum().Size(60).Bytes()
	memory := make([]byte, n*len(frame))
	list := make([][]byte, n)
	for i := range list {
		f := memory[i*len(frame):][:len(frame):len(frame)]
		copy(f, frame)
		binary.BigEndian.PutUint32(f[26:], 198<<24|18<<16+uint32(i>>14)) // the client's address; 2^14 ports each
		binary.BigEndian.PutUint16(f[34:], uint16(1024+i&0x3fff))
		// The IP header's checksum: parsing does not look at it, but what leaves shall be right.
		clear(f[24:26])
		binary.BigEndian.PutUint16(f[24:], onesComplement(f[14:34]))
		list[i] = f
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(n, func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

func onesComplement(b []byte) uint16 {
	var s uint32
	for i := 0; i < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}

// turns runs the worker until it has taken n packets.
func (r *rig) turns(n int) {
	for n > 0 {
		taken, _ := r.worker.Turn()
		n -= taken
	}
}

// BenchmarkWorker is the worker's whole work for a 64-byte UDP packet of an established connection: receive from a queue in
// memory (which copies the packet in, as the kernel would), look up, rewrite, send.
func BenchmarkWorker(b *testing.B) {
	for _, mode := range []lb.Mode{lb.DR, lb.NAT, lb.FULLNAT, lb.TUN} {
		for _, flows := range []int{1_024, 65_536, 1_000_000} {
			r := established{make: func() *rig { return newRig(b, mode, flows, 1) }, packets: func() [][]byte { return packets(flows) }}
			b.Run(fmt.Sprintf("mode=%s/flows=%d", mode, flows), r.benchmark)
			r.close()
		}
	}
}

// established is a rig that has a connection for each of its packets. It is made once for a benchmark, which Go runs several times.
type established struct {
	make    func() *rig
	packets func() [][]byte
	rig     *rig
}

func (e *established) benchmark(b *testing.B) {
	if e.rig == nil {
		e.rig = e.make()
		list := e.packets()
		e.rig.queue.Loop(list)
		e.rig.turns(len(list))
		if used := e.rig.worker.Counters().Connections; used != uint64(len(list)) {
			b.Fatalf("%d connections, want %d", used, len(list))
		}
	}
	if *calibrated {
		calibrate(b, int(e.rig.worker.Counters().Connections), e.rig.turns)
	} else {
		timed(b, func() { e.rig.turns(b.N) })
	}
	if c := e.rig.worker.Counters(); c.ToServer != c.Received {
		b.Fatalf("%d of %d packets forwarded", c.ToServer, c.Received)
	}
}

func (e *established) close() {
	if e.rig != nil { // it was not left out by -bench
		e.rig.conns.Close()
	}
}

// timed measures f, by the clock and by the CPU time of this process, which other processes lengthen less.
func timed(b *testing.B, f func()) {
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime(b)
	f()
	b.StopTimer()
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
}

// cpuTime returns the CPU time that this process has used, in nanoseconds.
func cpuTime(b *testing.B) int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return t.Nano()
}

// TestForwardingDoesNotAllocate holds the whole loop to the rule, opening a connection included.
func TestForwardingDoesNotAllocate(t *testing.T) {
	for _, mode := range []lb.Mode{lb.DR, lb.NAT, lb.FULLNAT, lb.TUN} {
		r := newRig(t, mode, 4096, 1)
		r.queue.Loop(packets(4096))
		if n := testing.AllocsPerRun(10, func() { r.turns(256) }); n != 0 {
			t.Errorf("%s, new connections: %v allocations in 256 packets", mode, n)
		}
		r.turns(4096)
		if n := testing.AllocsPerRun(100, func() { r.turns(256) }); n != 0 {
			t.Errorf("%s: %v allocations in 256 packets", mode, n)
		}
	}
}
