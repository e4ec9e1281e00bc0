package bpf

import (
	"bytes"
	"context"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"weir/internal/testpkt"
)

func TestSamplesAreWholePacketsAndStampsKeepTheirChecksum(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	from, to := netip.MustParseAddrPort("198.18.0.1:1024"), netip.MustParseAddrPort("192.0.2.10:53")
	for name, c := range map[string]struct {
		packet  testpkt.Packet
		measure bool // the sink looks for a stamp there
	}{
		"UDP":           {testpkt.UDP(from, to).Payload(make([]byte, 18)), true},
		"TCP":           {testpkt.TCP(from, to, testpkt.ACK).Payload(make([]byte, 6)), true},
		"long UDP":      {testpkt.UDP(from, to).Payload(make([]byte, 1472)), true},
		"UDP over IPv6": {testpkt.UDP(netip.MustParseAddrPort("[2001:db8::1]:1024"), netip.MustParseAddrPort("[2001:db8::2]:53")).Payload(make([]byte, 40)), false},
	} {
		near, far := newVeth(t, 1)
		sink, err := NewSink(far.Attrs().Index, SinkOptions{SampleOneIn: 4, Latency: true})
		if err != nil {
			t.Fatal(err)
		}
		template := c.packet.To(testpkt.MAC(1)).Bytes()
		g, err := NewGenerator(near.Attrs().Index, 10, template)
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Stamp(2); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := g.Send(400); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool { c, err := sink.Total(); return err == nil && c.Packets == 400 })
		frames, err := sink.Samples()
		if err != nil || len(frames) != 100 {
			t.Fatalf("%s: %d samples of 400 packets, %v; want 100", name, len(frames), err)
		}
		stamped := 0
		for _, f := range frames {
			if len(f) != len(template) {
				t.Fatalf("%s: a sample of %d bytes, sent %d", name, len(f), len(template))
			}
			v := testpkt.Decode(t, f).MustHold(t)
			if !bytes.Equal(v.Payload[:4], make([]byte, 4)) {
				stamped++
			}
		}
		if stamped != 100 { // of every second packet, of which every fourth is kept
			t.Errorf("%s: %d of 100 samples carry a stamp", name, stamped)
		}
		h, err := sink.Latency()
		if err != nil {
			t.Fatal(err)
		}
		want := uint64(0)
		if c.measure {
			want = 200
		}
		if h.Count() != want {
			t.Errorf("%s: %d latencies, want %d", name, h.Count(), want)
		}
		if p50, max := h.Quantile(0.5), h.Quantile(1); c.measure && (p50 <= 0 || max < p50 || max > 2*time.Second) {
			t.Errorf("%s: p50 %v, max %v", name, p50, max)
		}
		g.Close()
		sink.Close()
	}
}

func TestAStampNeedsRoom(t *testing.T) {
	near, _ := newVeth(t, 1)
	from, to := netip.MustParseAddrPort("198.18.0.1:1024"), netip.MustParseAddrPort("192.0.2.10:53")
	for name, c := range map[string]struct {
		packet testpkt.Packet
		n      uint32
		ok     bool
	}{
		"UDP":                 {testpkt.UDP(from, to).Size(60), 8, true},
		"not a power of two":  {testpkt.UDP(from, to).Size(60), 3, false},
		"TCP with two tags":   {testpkt.TCP(from, to).VLAN(1, 2).Size(66), 1, false},
		"TCP, tags, and long": {testpkt.TCP(from, to).VLAN(1, 2).Size(100), 1, true},
	} {
		g, err := NewGenerator(near.Attrs().Index, 1, c.packet.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Stamp(c.n); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		g.Close()
	}
}

func TestAStreamKeepsItsRate(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	near, far := newVeth(t, 1)
	passXDP(t, far.Attrs().Index)
	packet := testpkt.UDP(netip.MustParseAddrPort("198.18.0.1:1024"), netip.MustParseAddrPort("192.0.2.10:53")).Size(60).Bytes()
	g, err := NewGenerator(near.Attrs().Index, 7, packet)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := g.Stream(ctx, 100_000); err != nil {
		t.Fatal(err)
	}
	// Never more than the rate; less on a busy machine, where the CPU is taken away.
	most := uint64(100_000*time.Since(start).Seconds()) + 50
	if n, err := g.Sent(); n == 0 || n > most || err != nil {
		t.Errorf("%d sent, want 1 to %d, %v", n, most, err)
	}
	// What comes after is not held back.
	before, _ := g.Sent()
	if err := g.Send(1000); err != nil {
		t.Fatal(err)
	}
	if n, _ := g.Sent(); n != before+1000 {
		t.Errorf("%d sent after the stream, want 1000", n-before)
	}
	for _, rate := range []float64{0, -1, 2e9} {
		if err := g.Stream(ctx, rate); err == nil {
			t.Errorf("a rate of %v is taken", rate)
		}
	}
}

func TestRedirectSendsOutOfTheOtherInterface(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	near, in := newVeth(t, 1)
	out, far := newVeth(t, 1)
	sink, err := NewSink(far.Attrs().Index, SinkOptions{SampleOneIn: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	r, err := NewRedirect(in.Attrs().Index, out.Attrs().Index, testpkt.MAC(5), testpkt.MAC(6))
	if err != nil {
		t.Fatal(err)
	}
	template := testpkt.UDP(netip.MustParseAddrPort("198.18.0.1:1024"), netip.MustParseAddrPort("192.0.2.10:53")).Size(60).Bytes()
	g, err := NewGenerator(near.Attrs().Index, 1, template)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if err := g.Send(100); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { c, err := sink.Total(); return err == nil && c.Packets == 100 })
	frames, err := sink.Samples()
	if err != nil || len(frames) != 100 {
		t.Fatalf("%d samples, %v", len(frames), err)
	}
	for _, f := range frames {
		if !bytes.Equal(f[:6], testpkt.MAC(5)) || !bytes.Equal(f[6:12], testpkt.MAC(6)) || !bytes.Equal(f[12:], template[12:]) {
			t.Fatalf("%x arrived, sent %x", f, template)
		}
	}
	for range 2 {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// eventually waits for f, five seconds at most.
func eventually(t *testing.T, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not within five seconds")
		}
	}
}

func TestHistogramKnowsEveryDurationToASixteenth(t *testing.T) {
	for ns := uint32(1); ns < 1<<31; ns += ns/7 + 1 {
		h := &Histogram{}
		h[bucketOf(ns)] = 1
		got := h.Quantile(0.5)
		if got < time.Duration(ns) || got > time.Duration(uint64(ns)+uint64(ns)/16) {
			t.Fatalf("%d ns are read as %d", ns, got)
		}
	}
	h := &Histogram{}
	h[bucketOf(100)], h[bucketOf(1000)], h[bucketOf(10000)] = 98, 1, 1
	for q, want := range map[float64]time.Duration{0: 103, 0.5: 103, 0.98: 103, 0.99: 1023, 0.999: 10239, 1: 10239} {
		if got := h.Quantile(q); got != want {
			t.Errorf("quantile %v is %d ns, want %d", q, got, want)
		}
	}
	if rest := h.Sub(h); rest.Count() != 0 || rest.Quantile(0.5) != 0 {
		t.Error("something is left of nothing")
	}
}
