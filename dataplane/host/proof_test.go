package host_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weir/bpf"
	"weir/dataplane/host"
	"weir/internal/testnet"
	"weir/internal/testpkt"
	"weir/lb"
)

var (
	vip    = netip.MustParseAddrPort("192.0.2.10:5000")
	client = netip.MustParseAddrPort("198.51.100.7:6000")
)

// director is a host with two interfaces that steer sits on, and on each a datagram socket for the VIP that takes what came by that
// interface alone. What steer redirects goes to a socket that nobody reads.
type director struct {
	steer *bpf.Steer
	ports [2]port
	path  *host.Path
}

type port struct {
	dev, peer *testnet.Device
	attached  *bpf.Attachment
	socket    net.PacketConn
}

func newDirector(t *testing.T, mode bpf.XDPMode) *director {
	t.Helper()
	n := testnet.New(t)
	here, there := n.Namespace("director"), n.Namespace("peer")
	d := &director{}
	var err error
	if d.steer, err = bpf.Load(bpf.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.steer.Close() })
	if err := d.steer.AddService(lb.UDP, lb.AddrFrom(vip.Addr()), vip.Port()); err != nil {
		t.Fatal(err)
	}
	for i := range d.ports {
		name := fmt.Sprintf("eth%d", i)
		d.ports[i].dev, d.ports[i].peer = n.Veth(testnet.End{NS: here, Name: name}, testnet.End{NS: there, Name: name})
		// The client is nowhere: its packets come by both interfaces.
		here.Sysctl("net.ipv4.conf."+name+".rp_filter", "0")
	}
	here.Sysctl("net.ipv4.conf.all.rp_filter", "0")
	here.AddAddr("lo", vip.Addr().String()+"/32")
	here.AddAddr("eth0", "10.0.0.1/24")
	here.Route("0.0.0.0/0", "10.0.0.254")

	err = here.Do(func() (err error) {
		var injectors []host.Injector
		for i := range d.ports {
			p := &d.ports[i]
			if p.attached, err = d.steer.Attach(p.dev.Index, 1, p.dev.MAC, mode); err != nil {
				return err
			}
			if err := p.attached.SetSocket(0, xdpSocket(t)); err != nil {
				return err
			}
			if p.socket, err = listenOn(p.dev.Name); err != nil {
				return err
			}
			t.Cleanup(func() { p.socket.Close() })
			injectors = append(injectors, p.attached)
		}
		d.path, err = host.New(injectors, 2, host.Options{Rate: 1 << 30})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.path.Close() })
	return d
}

func xdpSocket(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.SetsockoptInt(fd, unix.SOL_XDP, unix.XDP_RX_RING, 64); err != nil {
		t.Fatal(err)
	}
	return fd
}

// listenOn opens a socket for the VIP that takes only what interface dev received.
func listenOn(dev string) (net.PacketConn, error) {
	var config net.ListenConfig
	config.Control = func(_, _ string, c syscall.RawConn) (err error) {
		if e := c.Control(func(fd uintptr) {
			if err = unix.BindToDevice(int(fd), dev); err == nil {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20)
			}
		}); e != nil {
			return e
		}
		return err
	}
	return config.ListenPacket(context.Background(), "udp4", vip.String())
}

func (d *director) counters(t *testing.T) map[string]uint64 {
	t.Helper()
	all, err := d.steer.Counters()
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]uint64{}
	for _, c := range all {
		m[c.Name] = c.Value
	}
	return m
}

// frameTo is a datagram for the VIP with a number in it, as interface i receives it.
func (d *director) frameTo(i int, number uint32) []byte {
	return testpkt.UDP(client, vip).To(d.ports[i].dev.MAC).Payload(binary.BigEndian.AppendUint32(nil, number)).Bytes()
}

// Two workers give back datagrams that came by two interfaces. Every one must come to the socket of its interface, and steer must not
// have redirected any, although it redirects the same datagram when it comes by the wire.
func TestAHundredThousandPacketsReachTheStack(t *testing.T) {
	const packets, workers, window = 100_000, 2, 800
	for _, mode := range []bpf.XDPMode{bpf.Native, bpf.Generic} {
		t.Run(mode.String(), func(t *testing.T) {
			d := newDirector(t, mode)
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			context.AfterFunc(ctx, func() {
				for _, p := range d.ports {
					p.socket.SetReadDeadline(time.Unix(1, 0))
				}
			})

			// A packet on its way holds a place in flight until a reader has seen it: no buffer can overflow.
			flight := make(chan struct{}, window)
			var found atomic.Int64
			var all sync.WaitGroup
			for i, p := range d.ports {
				all.Go(func() {
					seen := make([]bool, packets)
					buf := make([]byte, 100)
					for range packets / len(d.ports) {
						n, from, err := p.socket.ReadFrom(buf)
						if err != nil {
							t.Errorf("interface %d: %v", i, err)
							return
						}
						number := binary.BigEndian.Uint32(buf)
						if n != 4 || from.String() != client.String() || number >= packets || int(number)%2 != i || seen[number] {
							t.Errorf("interface %d: %d bytes from %s, number %d", i, n, from, number)
							cancel()
							return
						}
						seen[number] = true
						found.Add(1)
						<-flight
					}
				})
			}
			for w := range workers {
				all.Go(func() {
					for n := w; n < packets/2; n += workers {
						for i := range d.ports { // even numbers by one interface, odd by the other
							select {
							case flight <- struct{}{}:
							case <-ctx.Done():
								return
							}
							if !d.path.Sender(w).Send(i, d.frameTo(i, uint32(2*n+i))) {
								t.Errorf("worker %d: the path refused packet %d", w, 2*n+i)
								cancel()
								return
							}
						}
					}
				})
			}
			all.Wait()
			if n := found.Load(); n != packets {
				t.Errorf("%d packets found in the stack, %d sent", n, packets)
			}
			d.path.Close() // the reader may be ahead of the path's counting
			if c := d.path.Counters(); c != (host.Counters{Injected: packets}) {
				t.Errorf("the path counts %+v", c)
			}
			wantReentries := uint64(0)
			if mode == bpf.Generic {
				wantReentries = packets
			}
			if c := d.counters(t); c["redirect_service"] != 0 || c["pass_reentry"] != wantReentries {
				t.Errorf("steer redirected %d and let pass %d, want 0 and %d", c["redirect_service"], c["pass_reentry"], wantReentries)
			}

			// The counterproof.
			if err := d.ports[0].peer.Wire().Send(d.frameTo(0, 0)); err != nil {
				t.Fatal(err)
			}
			testnet.Eventually(t, 5*time.Second, "steer has redirected the datagram from the wire", func() bool {
				return d.counters(t)["redirect_service"] == 1
			})
		})
	}
}

// What a segment of no connection gets is what the kernel would have given it without weir.
func TestTheKernelAnswersStraysWithRST(t *testing.T) {
	for _, mode := range []bpf.XDPMode{bpf.Native, bpf.Generic} {
		t.Run(mode.String(), func(t *testing.T) {
			d := newDirector(t, mode)
			wire := d.ports[0].peer.Wire()
			here := d.ports[0].dev.NS
			if _, err := here.Run("ip", "neigh", "add", "10.0.0.254", "lladdr", d.ports[0].peer.MAC.String(), "dev", "eth0"); err != nil {
				t.Fatal(err)
			}
			stray := testpkt.TCP(client, netip.AddrPortFrom(vip.Addr(), 80), testpkt.ACK).To(d.ports[0].dev.MAC)
			if !d.path.Sender(0).Send(0, stray.Bytes()) {
				t.Fatal("the path refused a segment")
			}
			frame, ok := wire.Recv(5*time.Second, func(frame []byte) bool {
				v, err := testpkt.Parse(frame)
				return err == nil && v.Proto == uint8(lb.TCP)
			})
			if !ok {
				t.Fatal("no segment came back within 5 s")
			}
			got := testpkt.Decode(t, frame).MustHold(t)
			if got.Flags != testpkt.RST || got.Dst != client {
				t.Errorf("the answer has flags %#x and goes to %s, want RST to %s", got.Flags, got.Dst, client)
			}
		})
	}
}
