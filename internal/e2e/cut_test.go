package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weir/bpf"
	"weir/internal/lab"
	"weir/internal/testnet"
	"weir/internal/testpkt"
	"weir/lb"
)

// Where nothing has room for an outer header, a tunnel still carries packets of every size: of senders that forbid to cut them by
// telling those, of all others in pieces, which the servers' kernel puts together. Over IPv4 the datagrams are without DF; over
// IPv6 the client's kernel cuts what it was told is too long, and up to 1,280 bytes, with an MTU of 1,300, weir has to.
func TestTunnelsWithoutRoom(t *testing.T) {
	for _, mtu := range []int{1500, 1300} {
		t.Run(fmt.Sprint("MTU ", mtu), func(t *testing.T) {
			plan := testnet.Plan{MTU: mtu}
			var extra []netip.Addr
			tunnels := map[string]lab.Service{}
			for what, way := range ways {
				if way.mode != lb.TUN {
					continue
				}
				extra = append(extra, netip.MustParseAddr(way.vip))
				plan.VIPs = append(plan.VIPs, way.vip)
				tunnels[what] = lab.Service{Proto: lb.UDP, VIP: netip.AddrPortFrom(extra[len(extra)-1], echoPort), Mode: way.mode, Weights: []int{1, 1, 1},
					Tunnel: way.tunnel, Cross: way.cross}
			}
			d := newLab(t, plan)
			tunnels["IPv4 in IPv4"] = service(lb.UDP, lb.TUN, echoPort, echoPort, 1, 1, 1)
			serveEchoes(t, d, extra...)
			bulk := serveBulk(t, d, bulkBytes)
			for _, host := range d.Servers {
				unwrapWhole(t, d, host)
			}
			all := slices.Collect(maps.Values(tunnels))
			for _, s := range slices.Clone(all) {
				s.Proto, s.VIP = lb.TCP, netip.AddrPortFrom(s.VIP.Addr(), bulkPort)
				all = append(all, s)
			}
			d.start(all)
			for what, s := range tunnels {
				t.Run(what, func(t *testing.T) {
					wantSizesNear(t, d, s.VIP, mtu)
					wantExchange(t, d.Client.Namespace, "", netip.AddrPortFrom(s.VIP.Addr(), bulkPort), bulk)
				})
			}
		})
	}
}

// wantSizesNear sends datagrams that just fit an MTU, or would without a tunnel, without DF, and wants them back as they are. One may be
// lost while the client's kernel learns what IPv6 carries.
func wantSizesNear(t *testing.T, d *director, to netip.AddrPort, mtu int) {
	t.Helper()
	c, err := d.Client.Dial("udp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	headers := 40 + 8
	if to.Addr().Is4() {
		headers = 20 + 8
		raw, err := c.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var failed error
		err = raw.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
		})
		if err != nil || failed != nil {
			t.Fatal(err, failed)
		}
	}
	b := make([]byte, 2048)
	for length := mtu - 100; length <= mtu; length++ {
		want := testpkt.Pattern(length - headers)
		for attempt := 1; ; attempt++ {
			c.SetDeadline(time.Now().Add(time.Second))
			_, err := c.Write(want)
			var n int
			if err == nil {
				n, err = c.Read(b)
			}
			if err == nil && bytes.Equal(b[:n], want) {
				break
			}
			if attempt == 3 || to.Addr().Is4() {
				t.Fatalf("a packet of %d bytes came back as %d: %v", length, n, err)
			}
		}
	}
}

// unwrapWhole makes a server unwrap what came in pieces: by sockets, which the kernel gives whole packets, since the BPF program that
// unwraps all others sees one frame at a time. What was inside arrives by a cable between two interfaces of the server's own.
func unwrapWhole(t *testing.T, d *director, host *testnet.Host) {
	t.Helper()
	in, out := d.Veth(testnet.End{NS: host.Namespace, Name: "inside"}, testnet.End{NS: host.Namespace, Name: "unwrapped"})
	wire := in.Wire()
	for _, a := range []netip.Addr{host.IP, host.IP6} {
		network := "ip4"
		if a.Is6() {
			network = "ip6"
		}
		for _, from := range []struct {
			network, address string
			skip             func(b []byte) int // bytes in front of the inner packet
		}{
			{network + ":4", a.String(), func([]byte) int { return 0 }},
			{network + ":41", a.String(), func([]byte) int { return 0 }},
			{network + ":47", a.String(), func(b []byte) int { return 4 + int(b[0]>>7)*4 }}, // RFC 2784: a checksum makes it longer
			{"udp", netip.AddrPortFrom(a, bpf.GUEPort).String(), func([]byte) int { return 4 }},
		} {
			c, err := host.ListenPacket(from.network, from.address)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			go unwrap(c, from.skip, wire, slices.Concat(out.MAC, in.MAC))
		}
	}
}

func unwrap(c net.PacketConn, skip func([]byte) int, wire *testnet.Wire, macs []byte) {
	b := make([]byte, 4096)
	for {
		n, _, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		if n < 28 {
			continue
		}
		inner := b[skip(b):n]
		etherType := []byte{0x08, 0x00}
		if inner[0]>>4 == 6 {
			etherType = []byte{0x86, 0xdd}
		}
		wire.Send(slices.Concat(macs, etherType, inner))
	}
}
