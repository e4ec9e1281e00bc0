package e2e

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weir/internal/lab"
	"weir/internal/testpkt"
	"weir/lb"
)

// What a client's kernel writes between the IP header and the datagram reaches a server, whose kernel reads it, in every mode, or is left out
// on the way to the other family: IPv4's options, IPv6's for every hop and for the destination, in a whole packet and in pieces.
func TestDatagramsWithOptionsArrive(t *testing.T) {
	plan := arms["two arms"]
	var extra []netip.Addr
	for _, way := range ways {
		extra = append(extra, netip.MustParseAddr(way.vip))
		plan.VIPs = append(plan.VIPs, way.vip)
	}
	d := newLab(t, plan)
	serveEchoes(t, d, extra...)
	services := map[string]lab.Service{}
	for _, mode := range lab.Modes {
		services[mode.String()+" of IPv4"] = service(lb.UDP, mode, 8008, echoPort, 1)
	}
	for what, way := range ways {
		services[what] = lab.Service{Proto: lb.UDP, VIP: netip.AddrPortFrom(netip.MustParseAddr(way.vip), echoPort), Mode: way.mode, Weights: []int{1},
			Tunnel: way.tunnel, Cross: way.cross}
	}
	var all []lab.Service
	for _, s := range services {
		all = append(all, s)
	}
	d.start(all)
	padding := []byte{0, 0, 1, 4, 0, 0, 0, 0} // eight bytes: the next header, which the kernel writes, no more words, and PadN
	for what, s := range services {
		options := []func(fd int) error{
			func(fd int) error {
				return unix.SetsockoptString(fd, unix.IPPROTO_IPV6, unix.IPV6_DSTOPTS, string(padding))
			},
			func(fd int) error {
				return unix.SetsockoptString(fd, unix.IPPROTO_IPV6, unix.IPV6_HOPOPTS, string(padding))
			},
		}
		if s.VIP.Addr().Is4() { // to record the route, for two hops
			options = []func(fd int) error{func(fd int) error {
				return unix.SetsockoptString(fd, unix.IPPROTO_IP, unix.IP_OPTIONS, "\x07\x0b\x04"+string(make([]byte, 9)))
			}}
		}
		t.Run(what, func(t *testing.T) { wantEchoWith(t, d, s.VIP, options) })
	}
}

// wantEchoWith sends datagrams from a socket that one option after the other is set on.
func wantEchoWith(t *testing.T, d *director, to netip.AddrPort, options []func(fd int) error) {
	t.Helper()
	c, err := d.Client.Dial("udp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for n, set := range options {
		if err := errors.Join(raw.Control(func(fd uintptr) { err = set(int(fd)) }), err); err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{10, 1200, 5000} {
			want, b := testpkt.Pattern(size), make([]byte, 1<<13)
			var got int
			for range 3 { // a tunnel's narrower way has to be learnt
				c.SetDeadline(time.Now().Add(2 * time.Second))
				if _, err = c.Write(want); err == nil || errors.Is(err, syscall.EMSGSIZE) {
					got, err = c.Read(b)
				}
				if err == nil {
					break
				}
			}
			if err != nil || !bytes.Equal(b[:got], want) {
				t.Fatalf("with %d kinds of options, %d bytes came back as %d: %v", n+1, size, got, err)
			}
		}
	}
}
