package bpf

import (
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weir/internal/testpkt"
	"weir/lb"
)

// A client's packets to a VIP go into a TUN device; the test puts each into an outer header to the server's address, as a director
// would. The server, in a namespace of its own, has the VIP on lo and answers directly.
func TestDecapCarriesTCP(t *testing.T) {
	const vip, rip = "192.0.2.10", "10.9.0.2"
	server := newHost(t)
	near, far := newVeth(t, 1)
	for _, l := range []netlink.Link{near, far} {
		if err := netlink.LinkSetMTU(l, 1520); err != nil {
			t.Fatal(err)
		}
	}
	addAddr(t, netlink.AddrAdd, near, "10.9.0.1/24")
	moveTo(t, server, far, rip+"/24", vip+"/32")

	var d *Decap
	server.do(t, func() (err error) {
		d, err = AttachDecap(far.Attrs().Index, lb.MustParseAddr(rip))
		return err
	})
	defer d.Close()
	encapsulate(t, vip, rip)

	var listener net.Listener
	server.do(t, func() (err error) {
		listener, err = net.Listen("tcp4", vip+":80")
		return err
	})
	defer listener.Close()
	go func() { // an echo server, for one connection
		conn, err := listener.Accept()
		if err == nil {
			io.Copy(conn, conn)
			conn.Close()
		}
	}()

	data := make([]byte, 4<<20)
	rand.NewChaCha8([32]byte{1}).Read(data)
	conn, err := net.DialTimeout("tcp4", vip+":80", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	go func() {
		conn.Write(data)
		conn.(*net.TCPConn).CloseWrite()
	}()
	back, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	if sha256.Sum256(back) != sha256.Sum256(data) {
		t.Errorf("sent %d bytes, %d came back, not the same", len(data), len(back))
	}

	count, err := d.Count()
	if err != nil {
		t.Fatal(err)
	}
	if least := uint64(len(data) / 1500); count < least {
		t.Errorf("%d packets decapsulated, want %d at least", count, least)
	}
	for range 2 {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	if after, err := d.Count(); err != nil || after < count {
		t.Errorf("count after Close: %d (%v), before it was %d", after, err, count)
	}
}

func TestDecap(t *testing.T) {
	near, _ := newVeth(t, 1)
	d, err := AttachDecap(near.Attrs().Index, lb.MustParseAddr("10.9.0.2"), lb.MustParseAddr("fd00:9::2"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()

	dip, rip := netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.2")
	dip6, rip6 := netip.MustParseAddr("fd00:9::1"), netip.MustParseAddr("fd00:9::2")
	vip := netip.MustParseAddrPort("192.0.2.10:80")
	inner4 := testpkt.UDP(netip.MustParseAddrPort("198.51.100.1:1000"), vip).Text("hello").Bytes()
	inner6 := testpkt.UDP(netip.MustParseAddrPort("[2001:db8::1]:1000"), netip.MustParseAddrPort("[2001:db8::10]:80")).Text("hello").Bytes()
	raw := func(proto uint8, inner []byte, head ...byte) testpkt.Packet {
		return testpkt.Raw(dip, rip, proto).Payload(slices.Concat(head, inner[14:]))
	}
	raw6 := func(proto uint8, inner []byte, head ...byte) testpkt.Packet {
		return testpkt.Raw(dip6, rip6, proto).Payload(slices.Concat(head, inner[14:]))
	}
	gue := func(from, to netip.Addr, port uint16, inner []byte, head ...byte) testpkt.Packet {
		return testpkt.UDP(netip.AddrPortFrom(from, 50000), netip.AddrPortFrom(to, port)).Payload(slices.Concat(head, inner[14:]))
	}
	var none []byte
	taken := uint64(0)
	for _, row := range []struct {
		what  string
		frame []byte
		want  []byte // none: it is left as it is
	}{
		{"IPv4 in IPv4", raw(4, inner4).Bytes(), inner4},
		{"IPv6 in IPv4", raw(41, inner6).Bytes(), inner6},
		{"IPv4 in IPv6", raw6(4, inner4).Bytes(), inner4},
		{"IPv6 in IPv6", raw6(41, inner6).Bytes(), inner6},
		{"IPv4 in IPv4 with options", raw(4, inner4).Options(1, 1, 1, 1).Bytes(), inner4},
		{"IPv4 in GRE", raw(47, inner4, 0, 0, 8, 0).Bytes(), inner4},
		{"IPv6 in GRE", raw(47, inner6, 0, 0, 0x86, 0xdd).Bytes(), inner6},
		{"IPv4 in GRE over IPv6", raw6(47, inner4, 0, 0, 8, 0).Bytes(), inner4},
		{"GRE with a checksum", raw(47, inner4, 0x80, 0, 8, 0, 1, 2, 0, 0).Bytes(), inner4},
		{"IPv4 in GUE", gue(dip, rip, 6080, inner4, 0, 4, 0, 0).Bytes(), inner4},
		{"IPv6 in GUE without a checksum", gue(dip, rip, 6080, inner6, 0, 41, 0, 0).NoChecksum().Bytes(), inner6},
		{"IPv6 in GUE over IPv6", gue(dip6, rip6, 6080, inner6, 0, 41, 0, 0).Bytes(), inner6},
		{"GUE with a field that no flag speaks of", gue(dip, rip, 6080, inner4, 1, 4, 0, 0, 9, 9, 9, 9).Bytes(), inner4},
		{"GUE with a flag", gue(dip, rip, 6080, inner4, 1, 4, 1, 0, 9, 9, 9, 9).Bytes(), none},
		{"GUE with remote checksum offload", gue(dip, rip, 6080, inner4, 2, 4, 0, 1, 0x80, 0, 0, 0, 0, 20, 0, 26).Bytes(), none},
		{"GUE's control message", gue(dip, rip, 6080, inner4, 0x20, 4, 0, 0).Bytes(), none},
		{"GUE, variant 1", gue(dip, rip, 6080, inner4, 0x45, 4, 0, 0).Bytes(), none},
		{"GUE with something else inside", gue(dip, rip, 6080, inner4, 0, 6, 0, 0).Bytes(), none},
		{"GUE to another port", gue(dip, rip, 6081, inner4, 0, 4, 0, 0).Bytes(), none},
		{"GUE cut off", gue(dip, rip, 6080, inner4, 0, 4, 0, 0).Bytes()[:14+20+8+3], none},
		{"GRE with a sequence number", raw(47, inner4, 0x10, 0, 8, 0, 0, 0, 0, 1).Bytes(), none},
		{"GRE with a key", raw(47, inner4, 0x20, 0, 8, 0, 1, 2, 3, 4).Bytes(), none},
		{"GRE, version 1", raw(47, inner4, 0, 1, 8, 0).Bytes(), none},
		{"GRE with something else inside", raw(47, inner4, 0, 0, 0x65, 0x58).Bytes(), none},
		{"to another address", testpkt.Raw(dip, dip, 4).Payload(inner4[14:]).Bytes(), none},
		{"to another address of IPv6", testpkt.Raw(dip6, dip6, 4).Payload(inner4[14:]).Bytes(), none},
		{"another protocol", raw(50, inner4).Bytes(), none},
		{"a first fragment", raw(4, inner4).Fragment(0, true).Bytes(), none},
		{"a later fragment", raw(4, inner4).Fragment(1480, false).Bytes(), none},
		{"a fragment of IPv6", raw6(41, inner6).Fragment(0, true).Bytes(), none},
		{"not a tunnel at all", testpkt.UDP(vip, netip.AddrPortFrom(rip, 80)).Bytes(), none},
		{"with a VLAN tag", raw(4, inner4).VLAN(7).Bytes(), none},
		{"outer header cut off", raw(4, inner4).Bytes()[:33], none},
		{"outer header of IPv6 cut off", raw6(4, inner4).Bytes()[:53], none},
		{"nothing but Ethernet", raw(4, inner4).Bytes()[:14], none},
	} {
		t.Run(row.what, func(t *testing.T) {
			action, out, err := d.objects.Decap.Test(row.frame)
			if err != nil {
				t.Fatal(err)
			}
			if action != xdpPass {
				t.Errorf("action %d, want XDP_PASS", action)
			}
			want := row.frame
			if row.want != nil {
				taken++
				want = row.want
			}
			if string(out) != string(want) {
				t.Errorf("frame is\n%x, want\n%x", out, want)
			}
		})
	}
	if n, err := d.Count(); n != taken || err != nil {
		t.Errorf("%d packets decapsulated (%v), want %d", n, err, taken)
	}
}

// moveTo gives a host its only interface, with its first address; the others are put on lo.
func moveTo(t *testing.T, h *host, l netlink.Link, addr string, onLo ...string) {
	t.Helper()
	if err := netlink.LinkSetNsFd(l, int(h.ns)); err != nil {
		t.Fatal(err)
	}
	lo, err := h.nl.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	addAddr(t, h.nl.AddrAdd, l, addr)
	for _, a := range onLo {
		addAddr(t, h.nl.AddrAdd, lo, a)
	}
	for _, l := range []netlink.Link{l, lo} {
		if err := h.nl.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.nl.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: parseCIDR(t, "10.8.0.0/24")}); err != nil {
		t.Fatal(err)
	}
}

// encapsulate routes vip into a TUN device with the address 10.8.0.1 and forwards what comes out of it inside IPIP to rip.
func encapsulate(t *testing.T, vip, rip string) {
	t.Helper()
	for _, f := range []string{"all", "default"} {
		file := filepath.Join("/proc/sys/net/ipv4/conf", f, "rp_filter")
		if err := os.WriteFile(file, []byte("0"), 0o644); err != nil { // the answers come in by another interface
			t.Fatal(err)
		}
	}
	tun := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tun"}, Mode: netlink.TUNTAP_MODE_TUN, NonPersist: true,
		Flags: netlink.TUNTAP_NO_PI, Queues: 1}
	if err := netlink.LinkAdd(tun); err != nil {
		t.Fatal(err)
	}
	file := tun.Fds[0]
	addAddr(t, netlink.AddrAdd, tun, "10.8.0.1/24")
	if err := netlink.LinkSetUp(tun); err != nil {
		t.Fatal(err)
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: tun.Attrs().Index, Dst: parseCIDR(t, vip+"/32")}); err != nil {
		t.Fatal(err)
	}
	raw, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_IPIP)
	if err != nil {
		t.Fatal(err)
	}
	to := &unix.SockaddrInet4{Addr: [4]byte(net.ParseIP(rip).To4())}
	done := make(chan struct{})
	go func() {
		defer close(done)
		packet := make([]byte, 2048)
		for {
			n, err := file.Read(packet)
			if err != nil {
				return
			}
			unix.Sendto(raw, packet[:n], 0, to) // one that is lost TCP sends again
		}
	}()
	t.Cleanup(func() {
		file.Close()
		<-done
		unix.Close(raw)
	})
}
