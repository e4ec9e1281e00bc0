package e2e

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/internal/lab"
	"weir/internal/testnet"
	"weir/internal/testpkt"
	"weir/lb"
)

// everyMode returns one service of TCP for each mode.
func everyMode(port, serverPort uint16) (all []lab.Service) {
	for _, mode := range lab.Modes {
		all = append(all, service(lb.TCP, mode, port, serverPort, 1, 2, 3))
	}
	return all
}

// line is a connection whose server gives back every byte.
type line struct {
	net.Conn
	s lab.Service
}

func (d *director) lines(t *testing.T, services []lab.Service, each int) (all []line) {
	t.Helper()
	for _, s := range services {
		for range each {
			c, err := d.Client.Dial("tcp", s.VIP.String())
			if err != nil {
				t.Fatalf("%s: %v", s.Mode, err)
			}
			t.Cleanup(func() { c.Close() })
			all = append(all, line{c, s})
		}
	}
	return all
}

// wantEcho fails the test unless what is written comes back within the limit.
func (l line) wantEcho(t *testing.T, when string, limit time.Duration) {
	t.Helper()
	l.SetDeadline(time.Now().Add(limit))
	ask := testpkt.Pattern(3000)
	got := make([]byte, len(ask))
	_, err := l.Write(ask)
	if err == nil {
		_, err = io.ReadFull(l, got)
	}
	if err != nil || !bytes.Equal(got, ask) {
		t.Errorf("%s: %s: %v", when, l.s.Mode, err)
	}
}

func TestLinkFlapIsSurvived(t *testing.T) {
	d := newLab(t, arms["two arms"])
	serveLines(t, d)
	web, echo := everyMode(8000, lab.HTTPAltPort), everyMode(8002, linePort)
	d.start(append(web, echo...))
	lines := d.lines(t, echo, 2)
	load := startLoad(t, d, web)
	for name, device := range map[string]*testnet.Device{"the director's client side": d.Front, "the director's server side": d.Back,
		"the switch's port to the client side": d.FrontPort, "the switch's port to the server side": d.BackPort} {
		load.wantProgress("before " + name + " goes down")
		device.SetUp(false)
		// Long enough for packets to meet the closed link: the client's connections all wait for an answer.
		time.Sleep(300 * time.Millisecond)
		device.SetUp(true)
		for _, l := range lines {
			l.wantEcho(t, "after "+name+" came back", 20*time.Second)
		}
		load.wantProgress("after " + name + " came back")
	}
	load.stop()
	wantAnswers(t, d, web)
}

// wantAnswers fails the test unless every service answers, by whichever server: connections of an earlier weir that a server still holds
// can cost a client its first SYN, and with it the server whose turn it was.
func wantAnswers(t *testing.T, d *director, services []lab.Service) {
	t.Helper()
	for _, s := range services {
		if tally := d.Requests(t.Context(), s.VIP, 20); tally.Errors > 0 {
			t.Errorf("%s: %d errors, the first: %v", s.Mode, tally.Errors, tally.First)
		}
	}
}

// load is requests without end, of which some may fail.
type load struct {
	t      *testing.T
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	ok     int
}

func startLoad(t *testing.T, d *director, services []lab.Service) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{t: t, cancel: cancel}
	for _, s := range services {
		l.wg.Go(func() {
			for ctx.Err() == nil {
				short, cancel := context.WithTimeout(ctx, time.Second)
				tally := d.Requests(short, s.VIP, 4)
				cancel()
				l.mu.Lock()
				l.ok += 4 - tally.Errors
				l.mu.Unlock()
			}
		})
	}
	t.Cleanup(l.stop)
	return l
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ok
}

// wantProgress waits until some more requests have been answered.
func (l *load) wantProgress(when string) {
	l.t.Helper()
	begin := l.count()
	testnet.Eventually(l.t, 20*time.Second, "requests are answered "+when, func() bool { return l.count() >= begin+8 })
}

func (l *load) stop() {
	l.cancel()
	l.wg.Wait()
}

func TestSIGTERMUnderLoadLeavesTheHostAsItWas(t *testing.T) {
	d := newLab(t, arms["two arms"])
	web := everyMode(8000, lab.HTTPAltPort)
	d.start(web)
	load := startLoad(t, d, web)
	load.wantProgress("before SIGTERM")
	if len(d.added()) != len(lab.Modes)+1 {
		t.Errorf("weir added %s, want every VIP and the LIP", d.added())
	}
	d.stop() // looks whether all is gone
	load.stop()
	wantHostTraffic(t, d)
	// And again, over what was left of connections.
	d.start(web)
	wantAnswers(t, d, web)
}

func TestKilledWeirLeavesTheHostItsTraffic(t *testing.T) {
	d := newLab(t, arms["two arms"])
	web := everyMode(8000, lab.HTTPAltPort)
	d.start(web)
	load := startLoad(t, d, web)
	load.wantProgress("before SIGKILL")
	p := d.weir
	d.weir = nil
	p.Kill()
	load.stop()
	testnet.Eventually(t, 5*time.Second, "the XDP programs are gone", func() bool {
		out, err := d.Director.Run("ip", "-d", "link")
		return err == nil && !strings.Contains(out, "prog/xdp")
	})
	wantHostTraffic(t, d)
	// The addresses are still there; the next weir takes them as they are.
	d.began(d.StartWeir(context.Background(), weir, nil, web))
	d.weir = nil // whose addresses they are now is not this test's matter
	wantAnswers(t, d, web)
}

// wantHostTraffic fails the test unless the director is reached, reaches others, and routes, as any host does.
func wantHostTraffic(t *testing.T, d *director) {
	t.Helper()
	accept(t, &testnet.Host{Namespace: d.Director}, 22, func(c net.Conn) { io.WriteString(c, "SSH-2.0-director\r\n") })
	if got := banner(t, d.Client.Namespace, testnet.DirectorIP+":22"); got != "SSH-2.0-director\r\n" {
		t.Errorf("the director's own server says %q", got)
	}
	accept(t, d.Client, 2525, func(c net.Conn) { io.WriteString(c, c.RemoteAddr().(*net.TCPAddr).IP.String()) })
	if got := banner(t, d.Servers[0].Namespace, testnet.ClientIP+":2525"); got != d.Servers[0].IP.String() {
		t.Errorf("a server's own connection through the director was seen from %q", got)
	}
	for _, port := range []uint16{lab.HTTPPort, lab.HTTPAltPort} { // as a health check does, the second at the port of a NAT server
		c, err := dial(d.Director, netip.AddrPortFrom(d.Servers[0].IP, port).String())
		if err != nil {
			t.Errorf("from the director to a server's port %d: %v", port, err)
			continue
		}
		c.SetDeadline(time.Now().Add(3 * time.Second))
		io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
		if b, err := io.ReadAll(c); err != nil || !bytes.Contains(b, []byte("server1 saw "+testnet.DIP)) {
			t.Errorf("from the director to a server's port %d: %q, %v", port, b, err)
		}
		c.Close()
	}
}

func dial(from *testnet.Namespace, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	return from.DialContext(ctx, "tcp", address)
}

// banner returns what a server says to everyone.
func banner(t *testing.T, from *testnet.Namespace, address string) string {
	t.Helper()
	c, err := dial(from, address)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(3 * time.Second))
	b, err := io.ReadAll(c)
	if err != nil {
		t.Errorf("%s: %v", address, err)
	}
	return string(b)
}
