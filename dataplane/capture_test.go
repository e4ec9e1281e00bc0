package dataplane_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"weir/conntrack"
	"weir/dataplane"
	"weir/dataplane/forward"
	"weir/dataplane/memqueue"
	"weir/dataplane/reason"
	"weir/internal/testpkt"
	"weir/lb"
	"weir/sched"
)

var (
	captureClient = netip.MustParseAddrPort("198.51.100.7:40000")
	captureVIP    = netip.MustParseAddrPort("192.0.2.10:80")
	captureServer = netip.MustParseAddrPort("10.0.0.2:8080")
)

// byPort takes what a client's port says, once the connection is known. Zero takes everything.
type byPort uint16

func (p byPort) Flow(f *lb.Flow) bool { return p == 0 || f.Src.IsValid() }
func (p byPort) Conn(c *conntrack.Conn) bool {
	return p == 0 || c.ClientPort == uint16(p)
}
func (p byPort) Alone(f *lb.Flow) bool { return p == 0 || f.SrcPort == uint16(p) }

// tapped is a worker with a NAT service of one server, clients on interface 0 and servers on interface 1.
type tapped struct {
	shared *dataplane.Shared
	worker *dataplane.Worker
	queues [2]*memqueue.Queue
}

func newTapped(t testing.TB) *tapped {
	t.Helper()
	conns, err := conntrack.New(conntrack.Options{Capacity: 64})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conns.Close)
	d := &tapped{shared: dataplane.NewShared(conns, func() uint32 { return 1 }), queues: [2]*memqueue.Queue{memqueue.New(512), memqueue.New(512)}}
	server := lb.AddrFrom(captureServer.Addr())
	id, load, err := conns.Servers().Acquire(server)
	if err != nil {
		t.Fatal(err)
	}
	d.shared.Meter(id)
	edit := d.shared.Table().Edit()
	edit.SetIfaces([]dataplane.Iface{{Name: "client0", MTU: 1500}, {Name: "server0", MTU: 1500}})
	edit.SetServer(&dataplane.Server{ID: id, Mode: lb.NAT, Addr: server, Port: captureServer.Port(), Load: load,
		Path: &forward.Path{Iface: 1, DstMAC: [6]byte(testpkt.MAC(7)), MTU: 1500}})
	edit.SetService(&dataplane.Service{
		Key: lb.ServiceKey{Addr: lb.AddrFrom(captureVIP.Addr()), Port: captureVIP.Port(), Proto: lb.UDP},
		Picker: dataplane.NewPicker(schedulerFunc(func() *sched.Server {
			return &sched.Server{ID: id, Addr: server, Port: captureServer.Port(), Load: load}
		})),
		Versions: dataplane.AppendVersion(nil, &sched.List{}),
	})
	d.shared.Publish(edit.Table())
	d.worker = dataplane.NewWorker(d.shared, 0, 1, []dataplane.IfaceQueue{{Iface: 0, Queue: d.queues[0]}, {Iface: 1, Queue: d.queues[1]}}, nil)
	return d
}

// send brings packets by an interface through the worker, and returns what the worker sent.
func (d *tapped) send(t testing.TB, iface int, packets ...testpkt.Packet) (sent [][]byte) {
	t.Helper()
	for _, p := range packets {
		if !d.queues[iface].Inject(p.Bytes()) {
			t.Fatal("queue full")
		}
	}
	d.worker.Turn()
	for _, q := range d.queues {
		if n := q.Outstanding(); n != 0 {
			t.Errorf("%d frames are lost", n)
		}
		sent = append(sent, q.Sent()...)
	}
	return sent
}

func (d *tapped) capture(t testing.TB, f dataplane.CaptureFilter, snap int) *dataplane.Capture {
	t.Helper()
	c, err := d.shared.Capture(f, snap)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, c) })
	return c
}

func stop(t testing.TB, c *dataplane.Capture) {
	if err := c.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}

func frames(c *dataplane.Capture) (all []dataplane.CapturedFrame) {
	for {
		var f dataplane.CapturedFrame
		if !c.Next(&f) {
			return all
		}
		all = append(all, f)
	}
}

func request(port uint16) testpkt.Packet {
	return testpkt.UDP(netip.AddrPortFrom(captureClient.Addr(), port), captureVIP).Text("question")
}

func answer(port uint16) testpkt.Packet {
	return testpkt.UDP(captureServer, netip.AddrPortFrom(captureClient.Addr(), port)).Text("answer")
}

func TestACaptureHasFramesAsTheyCameAndAsTheyWent(t *testing.T) {
	d := newTapped(t)
	began := time.Now().UnixNano()
	c := d.capture(t, byPort(0), 2048)
	out := d.send(t, 0, request(40000))
	out = append(out, d.send(t, 1, answer(40000))...)
	d.send(t, 0, testpkt.UDP(captureClient, netip.MustParseAddrPort("192.0.2.10:81")))
	d.send(t, 0, request(40000).TTL(1))
	got := frames(c)
	want := []struct {
		iface int
		out   bool
		why   reason.Reason
		data  []byte
	}{
		{0, false, reason.None, request(40000).Bytes()}, {1, true, reason.None, out[0]},
		{1, false, reason.None, answer(40000).Bytes()}, {0, true, reason.None, out[1]},
		{0, false, reason.NoService, testpkt.UDP(captureClient, netip.MustParseAddrPort("192.0.2.10:81")).Bytes()},
		{0, false, reason.TTLExceeded, request(40000).TTL(1).Bytes()}, {0, true, reason.None, nil}, // the ICMP error
	}
	if len(got) != len(want) {
		t.Fatalf("%d frames, want %d: %+v", len(got), len(want), got)
	}
	last := began
	for i, w := range want {
		g := got[i]
		if g.Iface != w.iface || g.Out != w.out || g.Why != w.why || w.data != nil && string(g.Data) != string(w.data) || g.Length != len(g.Data) {
			t.Errorf("frame %d: %+v\nwant %+v", i, g, w)
		}
		if g.Time < last || g.Time > time.Now().UnixNano() {
			t.Errorf("frame %d has time %d, after %d", i, g.Time, last)
		}
		last = g.Time
	}
	stop(t, c)
	if d.send(t, 0, request(40001)); len(frames(c)) != 0 {
		t.Error("it went on after Stop")
	}
}

func TestACaptureTakesWholeConnections(t *testing.T) {
	d := newTapped(t)
	d.send(t, 0, request(40000), request(40001)) // before it begins
	c := d.capture(t, byPort(40001), 60)
	d.send(t, 0, request(40000), request(40001), request(40002))
	d.send(t, 1, answer(40000), answer(40001), answer(40003))
	got := frames(c)
	if len(got) != 4 {
		t.Fatalf("%d frames, want 4: in and out, twice: %+v", len(got), got)
	}
	for i, f := range got {
		if f.Why != reason.None || f.Out != (i%2 == 1) || len(f.Data) > 60 {
			t.Errorf("frame %d: %+v", i, f)
		}
	}
	if got[0].Length != len(request(40001).Bytes()) {
		t.Errorf("length %d", got[0].Length)
	}
}

func TestThereIsOneCaptureAtATime(t *testing.T) {
	d := newTapped(t)
	first := d.capture(t, byPort(0), 100)
	if _, err := d.shared.Capture(byPort(0), 100); err != dataplane.ErrCapturing {
		t.Errorf("a second one: %v", err)
	}
	stop(t, first)
	second := d.capture(t, byPort(0), 100)
	stop(t, first) // again, which is not the second one's end
	if d.send(t, 0, request(1)); len(frames(second)) != 2 || len(frames(first)) != 0 {
		t.Error("the second one has not what came")
	}
}

func TestAFrameThatFindsNoRoomToBeSentSaysSo(t *testing.T) {
	d := newTapped(t)
	c := d.capture(t, byPort(0), 100)
	d.queues[1].Refuse(1)
	d.send(t, 0, request(1))
	if got := frames(c); len(got) != 2 || got[0].Why != reason.None || got[1].Why != reason.NoTxRoom {
		t.Errorf("%+v", got)
	}
}

// A reader that is behind loses frames, is told how many, and holds up nobody. What it then finds is whole.
func TestWhatDoesNotFitIsCounted(t *testing.T) {
	d := newTapped(t)
	c, err := dataplane.SmallCapture(d.shared, byPort(0), 2048, 4096)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, c) })
	got, sent, wanted := 0, 0, 0
	for round := range 50 { // over the ring's end many times
		for n := range 1 + round%40 {
			sent += len(d.send(t, 0, request(uint16(1+n%7)).Size(64+20*n)))
			wanted += 2
		}
		for _, f := range frames(c) {
			if view := testpkt.Decode(t, f.Data); f.Length != len(f.Data) || f.Out && view.Dst != captureServer || !f.Out && view.Dst != captureVIP {
				t.Fatalf("%+v", f)
			}
			got++
		}
	}
	lost := c.Lost(0, false) + c.Lost(1, true)
	if got == 0 || lost == 0 || uint64(got)+lost != uint64(wanted) || sent != wanted/2 || c.Lost(0, true)+c.Lost(1, false) != 0 {
		t.Errorf("%d captured, %d lost, of %d; %d sent", got, lost, wanted, sent)
	}
}

func TestCapturingDoesNotAllocate(t *testing.T) {
	d := newTapped(t)
	q := d.queues[0]
	q.Loop([][]byte{request(1).Bytes(), request(2).Bytes()})
	d.queues[1].Loop([][]byte{answer(1).Bytes(), answer(2).Bytes()})
	c := d.capture(t, byPort(1), 2048)
	var f dataplane.CapturedFrame
	d.worker.Turn()
	for c.Next(&f) {
	}
	if n := testing.AllocsPerRun(100, func() {
		d.worker.Turn()
		for c.Next(&f) {
		}
	}); n != 0 {
		t.Errorf("%v allocations a turn", n)
	}
	if c.Lost(0, false) != 0 {
		t.Errorf("%d lost", c.Lost(0, false))
	}
}
