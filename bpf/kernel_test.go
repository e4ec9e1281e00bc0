package bpf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weir/internal/testnet"
	"weir/internal/testpkt"
	"weir/lb"
)

// sit puts a steer of its own on a device, with a socket that swallows what is redirected.
func sit(t *testing.T, d *testnet.Device, mode XDPMode) (*Steer, *Attachment) {
	t.Helper()
	s := load(t, Options{})
	var a *Attachment
	must(t, d.NS.Do(func() (err error) {
		a, err = s.Attach(d.Index, 1, d.MAC, mode)
		return err
	}))
	must(t, a.SetSocket(0, xdpSocket(t)))
	return s, a
}

// With steer on its only interface a host is still reached by ARP, ping and TCP, at its own address and at the VIP, and still reaches a NAT
// server by itself. The service alone is steered.
func TestTheHostKeepsItsOwnTraffic(t *testing.T) {
	const dip, rip, vip = "10.0.0.1", "10.0.0.2", "10.0.0.10"
	for _, mode := range []XDPMode{Native, Generic} {
		t.Run(mode.String(), func(t *testing.T) {
			n := testnet.New(t)
			director, server := n.Namespace("director"), n.Namespace("server")
			dev, peer := n.Veth(testnet.End{NS: director, Addrs: []string{dip + "/24", vip + "/24"}},
				testnet.End{NS: server, Addrs: []string{rip + "/24"}})
			s, _ := sit(t, dev, mode)
			must(t, s.AddService(lb.TCP, lb.MustParseAddr(vip), 80))
			must(t, s.AddServer(lb.TCP, lb.MustParseAddr(rip), 80))
			must(t, s.SetOwn([]lb.Addr{lb.MustParseAddr(dip), lb.MustParseAddr(vip)}))

			for _, to := range []string{dip, vip} {
				talk(t, director, server, to+":22") // and so by ARP
				ping(t, peer.Wire(), testpkt.Echo(netip.MustParseAddr(rip), netip.MustParseAddr(to)).From(peer.MAC).To(dev.MAC))
			}
			talk(t, server, director, rip+":80") // as a health check does
			counts := counters(t, s)
			if counts["pass_own"] == 0 || counts["redirect_service"]+counts["redirect_nat"] != 0 {
				t.Errorf("counters are %v: want the health check's answers passed as own, nothing redirected", counts)
			}

			l, err := director.Listen("tcp4", vip+":80")
			must(t, err)
			defer l.Close()
			ctx, cancel := context.WithCancel(t.Context())
			var dialer sync.WaitGroup
			dialer.Go(func() {
				if c, err := server.DialContext(ctx, "tcp4", vip+":80"); err == nil {
					t.Error("a connection to the service reached the host's own socket")
					c.Close()
				}
			})
			testnet.Eventually(t, 5*time.Second, "the service's SYN is redirected", func() bool { return counters(t, s)["redirect_service"] > 0 })
			cancel()
			dialer.Wait()
		})
	}
}

func ping(t *testing.T, wire *testnet.Wire, request testpkt.Packet) {
	t.Helper()
	must(t, wire.Send(request.Bytes()))
	want := testpkt.Decode(t, request.Bytes())
	if _, ok := wire.Recv(5*time.Second, func(frame []byte) bool {
		v, err := testpkt.Parse(frame)
		return err == nil && v.Proto == unix.IPPROTO_ICMP && v.ICMPType == 0 && v.Src == want.Dst && v.Dst == want.Src
	}); !ok {
		t.Errorf("no answer to a ping of %s", want.Dst.Addr())
	}
}

// talk carries a few bytes over a connection from one host to a listener on another.
func talk(t *testing.T, at, from *testnet.Namespace, addr string) {
	t.Helper()
	l, err := at.Listen("tcp4", addr)
	must(t, err)
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			fmt.Fprint(c, "hello")
			c.Close()
		}
	}()
	c, err := from.Dial("tcp4", addr)
	if err != nil {
		t.Errorf("%s to %s: %v", from.Role, addr, err)
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if b, err := io.ReadAll(c); string(b) != "hello" {
		t.Errorf("%s to %s: read %q (%v)", from.Role, addr, b, err)
	}
}

// Two directors serve the same service, behind a switch that floods: each frame is taken by the one it is addressed to.
func TestTwoDirectorsOnOneBridge(t *testing.T) {
	for _, mode := range []XDPMode{Native, Generic} {
		t.Run(mode.String(), func(t *testing.T) {
			n := testnet.New(t)
			sw := n.Namespace("switch")
			sw.Bridge("br0")
			if out, err := sw.Run("ip", "link", "set", "br0", "type", "bridge", "ageing_time", "0"); err != nil { // forget at once
				t.Fatalf("%v\n%s", err, out)
			}
			plug := func(role string) *testnet.Device {
				dev, _ := n.Veth(testnet.End{NS: n.Namespace(role)}, testnet.End{NS: sw, Name: role, Bridge: "br0"})
				return dev
			}
			wire := plug("client").Wire()
			devs := []*testnet.Device{plug("director0"), plug("director1")}
			var steers []*Steer
			for _, d := range devs {
				s, _ := sit(t, d, mode)
				must(t, s.AddService(lb.UDP, lb.AddrFrom(vip), 53))
				steers = append(steers, s)
			}
			for i, d := range devs {
				frame := testpkt.UDP(at(client, 7), at(vip, 53)).To(d.MAC).Bytes()
				other := steers[1-i]
				before := counters(t, other)
				// A frame whose port is still on its way to forwarding is lost, so it is sent until it is seen.
				testnet.Eventually(t, 5*time.Second, "both directors see the frame", func() bool {
					must(t, wire.Send(frame))
					return counters(t, steers[i])["redirect_service"] > 0 &&
						counters(t, other)["pass_foreign_mac"] > before["pass_foreign_mac"]
				})
				if got := counters(t, other)["redirect_service"]; got != before["redirect_service"] {
					t.Errorf("a frame to director %d was taken by the other", i)
				}
			}
		})
	}
}

func TestAMissingPrivilegeIsNamed(t *testing.T) {
	near, _ := newVeth(t, 1)
	s := load(t, Options{})
	onThread(t, func() error {
		// No capability on this thread, which ends with the function.
		var none [2]unix.CapUserData
		if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
			return err
		}
		if _, err := Load(Options{}); !errors.Is(err, ErrPrivilege) {
			t.Errorf("Load: %v, want ErrPrivilege", err)
		}
		if _, err := s.Attach(near.Attrs().Index, 1, net.HardwareAddr{2, 0, 0, 0, 0, 1}, Auto); !errors.Is(err, ErrPrivilege) {
			t.Errorf("Attach: %v, want ErrPrivilege", err)
		}
		return nil
	})
	onThread(t, func() error {
		some := [2]unix.CapUserData{{Effective: 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW}, {Effective: 1 << (unix.CAP_BPF - 32)}}
		for i := range some {
			some[i].Permitted = some[i].Effective
		}
		if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &some[0]); err != nil {
			return err
		}
		if _, err := s.Attach(near.Attrs().Index, 1, net.HardwareAddr{2, 0, 0, 0, 0, 1}, Auto); !errors.Is(err, ErrPrivilege) {
			t.Errorf("Attach without CAP_PERFMON: %v, want ErrPrivilege", err)
		}
		return nil
	})
}
