package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weir/internal/testpkt"
	"weir/lb"
)

// enum xdp_action, include/uapi/linux/bpf.h.
const (
	xdpPass     = 2
	xdpRedirect = 4
)

var (
	client  = netip.MustParseAddr("198.51.100.7")
	client6 = netip.MustParseAddr("2001:db8:7::7")
	vip     = netip.MustParseAddr("192.0.2.10")
	vip6    = netip.MustParseAddr("2001:db8::10")
	anyVIP  = netip.MustParseAddr("192.0.2.11")
	lip     = netip.MustParseAddr("10.0.0.100")
	lip6    = netip.MustParseAddr("2001:db8:1::100")
	rip     = netip.MustParseAddr("10.0.0.2")
	rip6    = netip.MustParseAddr("2001:db8:1::2")
	anyRIP  = netip.MustParseAddr("10.0.0.3")
	tunRIP  = netip.MustParseAddr("10.0.0.4")
	tunRIP6 = netip.MustParseAddr("2001:db8:1::4")
	router  = netip.MustParseAddr("203.0.113.77")
	own     = netip.MustParseAddr("10.0.0.1")
	own6    = netip.MustParseAddr("2001:db8:1::1")
	extra   = testpkt.MAC(0x99)
)

func at(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// configured returns steer on a veth, with one of everything and a socket on queue 0.
func configured(t *testing.T) (*Steer, *Attachment) {
	t.Helper()
	s := load(t, Options{})
	near, _ := newVeth(t, 1)
	a, err := s.Attach(near.Attrs().Index, 1, testpkt.DirectorMAC, Auto)
	must(t, err)
	must(t, a.SetSocket(0, xdpSocket(t)))
	must(t, a.AcceptMAC(extra))
	must(t, s.AddService(lb.TCP, lb.AddrFrom(vip), 80))
	must(t, s.AddService(lb.TCP, lb.AddrFrom(vip6), 80))
	must(t, s.AddService(lb.UDP, lb.AddrFrom(anyVIP), 0))
	must(t, s.AddLocal(lb.AddrFrom(lip), 5000, 6000))
	must(t, s.AddLocal(lb.AddrFrom(lip6), 0, 65535))
	must(t, s.AddServer(lb.TCP, lb.AddrFrom(rip), 8080))
	must(t, s.AddServer(lb.TCP, lb.AddrFrom(rip6), 8080))
	must(t, s.AddServer(lb.UDP, lb.AddrFrom(anyRIP), 0))
	must(t, s.SetOwn([]lb.Addr{lb.AddrFrom(own), lb.AddrFrom(own6)}))
	return s, a
}

func load(t *testing.T, o Options) *Steer {
	t.Helper()
	s, err := Load(o)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// xdpSocket returns an AF_XDP socket with a receive ring, all that an XSKMAP asks for.
func xdpSocket(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	must(t, unix.SetsockoptInt(fd, unix.SOL_XDP, unix.XDP_RX_RING, 64))
	return fd
}

func TestVerdicts(t *testing.T) {
	s, a := configured(t)
	syn := testpkt.TCP(at(client, 1000), at(vip, 80), testpkt.SYN)
	syn6 := testpkt.TCP(at(client6, 1000), at(vip6, 80), testpkt.SYN)
	reply := testpkt.TCP(at(rip, 8080), at(client, 1000), testpkt.SYN, testpkt.ACK)
	datagram := testpkt.UDP(at(client, 1000), at(anyVIP, 53)).Text("hello")
	answer := testpkt.TCP(at(vip, 80), at(client, 1000), testpkt.ACK)
	answer6 := testpkt.TCP(at(vip6, 80), at(client6, 1000), testpkt.ACK)
	must(t, s.AddTunnel(lb.AddrFrom(tunRIP)))
	must(t, s.AddTunnel(lb.AddrFrom(tunRIP6)))

	rows := []verdictRow{
		{"SYN to the service", syn.Bytes(), steerVerdictREDIRECT_SERVICE},
		{"any segment to the service", testpkt.TCP(at(client, 1000), at(vip, 80), testpkt.RST).Bytes(), steerVerdictREDIRECT_SERVICE},
		{"padded to 60 bytes", syn.Pad(60).Bytes(), steerVerdictREDIRECT_SERVICE},
		{"with IPv4 options", syn.Options(7, 3, 4, 0).Bytes(), steerVerdictREDIRECT_SERVICE},
		{"with DF", syn.DF().Bytes(), steerVerdictREDIRECT_SERVICE},
		{"to the IPv6 service", syn6.Bytes(), steerVerdictREDIRECT_SERVICE},
		{"another port", testpkt.TCP(at(client, 1000), at(vip, 81), testpkt.SYN).Bytes(), steerVerdictPASS_OTHER},
		{"the port in the other byte order", testpkt.TCP(at(client, 1000), at(vip, 80<<8), testpkt.SYN).Bytes(), steerVerdictPASS_OTHER},
		{"the service's port as source", testpkt.TCP(at(client, 80), at(vip, 1000), testpkt.SYN).Bytes(), steerVerdictPASS_OTHER},
		{"another protocol", testpkt.UDP(at(client, 1000), at(vip, 80)).Bytes(), steerVerdictPASS_OTHER},
		{"a protocol without ports", testpkt.Raw(client, vip, 47).Payload(make([]byte, 40)).Bytes(), steerVerdictPASS_OTHER},
		{"another address", testpkt.TCP(at(client, 1000), at(vip.Next().Next(), 80), testpkt.SYN).Bytes(), steerVerdictPASS_OTHER},
		{"the VIP as source", testpkt.TCP(at(vip, 80), at(client, 1000), testpkt.SYN).Bytes(), steerVerdictPASS_OTHER},
		{"an IPv6 address that ends like the VIP", testpkt.TCP(at(client6, 1000), at(lastFour(vip), 80), testpkt.SYN).Bytes(),
			steerVerdictPASS_OTHER},
		{"the VIP as an IPv4-mapped IPv6 address is the same key", mapped(syn), steerVerdictREDIRECT_SERVICE},

		{"any-port service", datagram.Bytes(), steerVerdictREDIRECT_SERVICE},
		{"any-port service, port 0", testpkt.UDP(at(client, 1000), at(anyVIP, 0)).Bytes(), steerVerdictREDIRECT_SERVICE},
		{"any-port service, no payload", testpkt.UDP(at(client, 1000), at(anyVIP, 65535)).Bytes(), steerVerdictREDIRECT_SERVICE},
		{"any-port service, another protocol", testpkt.TCP(at(client, 1000), at(anyVIP, 53), testpkt.SYN).Bytes(), steerVerdictPASS_OTHER},

		{"local address, first port", testpkt.TCP(at(rip, 9), at(lip, 5000), testpkt.ACK).Bytes(), steerVerdictREDIRECT_LOCAL},
		{"local address, last port", testpkt.UDP(at(rip, 9), at(lip, 6000)).Bytes(), steerVerdictREDIRECT_LOCAL},
		{"local address, below its ports", testpkt.TCP(at(rip, 9), at(lip, 4999), testpkt.ACK).Bytes(), steerVerdictPASS_OTHER},
		{"local address, above its ports", testpkt.UDP(at(rip, 9), at(lip, 6001)).Bytes(), steerVerdictPASS_OTHER},
		{"local address, port in the other byte order", testpkt.UDP(at(rip, 9), at(lip, 0x8813)).Bytes(), steerVerdictPASS_OTHER},
		{"local IPv6 address", testpkt.UDP(at(rip6, 9), at(lip6, 1)).Bytes(), steerVerdictREDIRECT_LOCAL},
		{"local address as source", testpkt.TCP(at(lip, 5000), at(client, 9), testpkt.ACK).Bytes(), steerVerdictPASS_OTHER},

		{"NAT server's reply", reply.Bytes(), steerVerdictREDIRECT_NAT},
		{"NAT server's reply, IPv6", testpkt.TCP(at(rip6, 8080), at(client6, 1000), testpkt.ACK).Bytes(), steerVerdictREDIRECT_NAT},
		{"NAT server, another port", testpkt.TCP(at(rip, 8081), at(client, 1000), testpkt.SYN).Bytes(), steerVerdictPASS_OTHER},
		{"NAT server, another protocol", testpkt.UDP(at(rip, 8080), at(client, 1000)).Bytes(), steerVerdictPASS_OTHER},
		{"NAT server as destination", testpkt.TCP(at(client, 1000), at(rip, 8080), testpkt.SYN).Bytes(), steerVerdictPASS_OTHER},
		{"any-port NAT server", testpkt.UDP(at(anyRIP, 1234), at(client, 1000)).Bytes(), steerVerdictREDIRECT_NAT},
		{"any-port NAT server, another protocol", testpkt.TCP(at(anyRIP, 1234), at(client, 1000), testpkt.ACK).Bytes(), steerVerdictPASS_OTHER},
		{"NAT server to the host itself", testpkt.TCP(at(rip, 8080), at(own, 1000), testpkt.ACK).Bytes(), steerVerdictPASS_OWN},
		{"NAT server to the host itself, IPv6", testpkt.TCP(at(rip6, 8080), at(own6, 1000), testpkt.ACK).Bytes(), steerVerdictPASS_OWN},
		{"NAT server, any port, to the host itself", testpkt.UDP(at(anyRIP, 9), at(own, 1000)).Bytes(), steerVerdictPASS_OWN},
		{"NAT server to a service", testpkt.TCP(at(rip, 8080), at(vip, 80), testpkt.SYN).Bytes(), steerVerdictREDIRECT_SERVICE},
		{"NAT server to a local address", testpkt.TCP(at(rip, 8080), at(lip, 5500), testpkt.ACK).Bytes(), steerVerdictREDIRECT_LOCAL},
		{"another host to the host itself", testpkt.TCP(at(client, 1000), at(own, 22), testpkt.SYN).Bytes(), steerVerdictPASS_OTHER},

		{"accepted MAC", syn.To(extra).Bytes(), steerVerdictREDIRECT_SERVICE},
		{"another MAC", syn.To(testpkt.MAC(0x98)).Bytes(), steerVerdictPASS_FOREIGN_MAC},
		{"broadcast MAC", syn.To(net.HardwareAddr{255, 255, 255, 255, 255, 255}).Bytes(), steerVerdictPASS_FOREIGN_MAC},
		{"own MAC as source only", syn.To(testpkt.ClientMAC).From(testpkt.DirectorMAC).Bytes(), steerVerdictPASS_FOREIGN_MAC},

		{"one VLAN tag", syn.VLAN(7).Bytes(), steerVerdictREDIRECT_SERVICE},
		{"one 802.1ad tag", syn.VLAN(7).ServiceTag().Bytes(), steerVerdictREDIRECT_SERVICE},
		{"two VLAN tags", syn.VLAN(7, 8).Bytes(), steerVerdictREDIRECT_SERVICE},
		{"two VLAN tags, the outer 802.1ad, IPv6", syn6.VLAN(7, 8).ServiceTag().Bytes(), steerVerdictREDIRECT_SERVICE},
		{"three VLAN tags", syn.VLAN(7, 8, 9).Bytes(), steerVerdictPASS_OTHER},
		{"a VLAN tag and another port", testpkt.TCP(at(client, 1), at(vip, 81), testpkt.SYN).VLAN(7).Bytes(), steerVerdictPASS_OTHER},
		{"a VLAN tag cut off", syn.VLAN(7).Bytes()[:17], steerVerdictPASS_MALFORMED},
		{"a second VLAN tag cut off", syn.VLAN(7, 8).Bytes()[:21], steerVerdictPASS_MALFORMED},

		{"first fragment to a service", datagram.Fragment(0, true).Bytes(), steerVerdictREDIRECT_FRAGMENT},
		{"last fragment to a service", datagram.Payload(make([]byte, 64)).Fragment(64, false).Bytes(), steerVerdictREDIRECT_FRAGMENT},
		{"fragment to a service, whatever its port", testpkt.UDP(at(client, 1), at(vip, 9)).Fragment(0, true).Bytes(), steerVerdictREDIRECT_FRAGMENT},
		{"fragment to a service, IPv6", syn6.Fragment(0, true).Bytes(), steerVerdictREDIRECT_FRAGMENT},
		{"later fragment to a service, IPv6", syn6.Fragment(1480, false).Bytes(), steerVerdictREDIRECT_FRAGMENT},
		{"atomic fragment, IPv6", atomic(syn6), steerVerdictREDIRECT_SERVICE},
		{"atomic fragment, IPv6, another port", atomic(testpkt.TCP(at(client6, 1), at(vip6, 81))), steerVerdictPASS_OTHER},
		{"fragment to a local address", testpkt.UDP(at(rip, 9), at(lip, 1)).Fragment(1480, true).Bytes(), steerVerdictREDIRECT_FRAGMENT},
		{"fragment from a NAT server", testpkt.UDP(at(rip, 9), at(client, 1)).Fragment(1480, true).Bytes(), steerVerdictREDIRECT_FRAGMENT},
		{"fragment from a NAT server to the host itself", testpkt.UDP(at(rip, 9), at(own, 1)).Fragment(1480, true).Bytes(), steerVerdictPASS_FRAGMENT},
		{"fragment to a NAT server", testpkt.UDP(at(client, 9), at(rip, 1)).Fragment(1480, true).Bytes(), steerVerdictPASS_FRAGMENT},
		{"fragment from a service", testpkt.UDP(at(vip, 80), at(client, 1)).Fragment(1480, true).Bytes(), steerVerdictPASS_FRAGMENT},
		{"fragment of a ping to a service", testpkt.Echo(client, vip).Fragment(0, true).Bytes(), steerVerdictPASS_FRAGMENT},
		{"fragment to another address", testpkt.UDP(at(client, 9), at(own, 1)).Fragment(1480, true).Bytes(), steerVerdictPASS_FRAGMENT},
		{"echo request to the VIP", testpkt.Echo(client, vip).Bytes(), steerVerdictPASS_OTHER},
		{"echo request to the IPv6 VIP", testpkt.Echo(client6, vip6).Bytes(), steerVerdictPASS_OTHER},
		{"ICMP error about an answer", testpkt.ICMPError(router, vip, 3, 4, 1400, answer).Bytes(), steerVerdictREDIRECT_ICMP_ERROR},
		{"ICMP error about an answer, time exceeded", testpkt.ICMPError(router, vip, 11, 0, 0, answer).Bytes(), steerVerdictREDIRECT_ICMP_ERROR},
		{"ICMP error about an answer, parameter problem", testpkt.ICMPError(router, vip, 12, 0, 0, answer).Bytes(), steerVerdictREDIRECT_ICMP_ERROR},
		{"ICMP error about an answer, of which 8 bytes are quoted", cut(testpkt.ICMPError(router, vip, 3, 4, 1400, answer), 34+8+20+8), steerVerdictREDIRECT_ICMP_ERROR},
		{"ICMP error about an answer, of which 7 bytes are quoted", cut(testpkt.ICMPError(router, vip, 3, 4, 1400, answer), 34+8+20+7), steerVerdictPASS_ICMP_ERROR},
		{"ICMP error about an answer with options", testpkt.ICMPError(router, vip, 3, 4, 1400, answer.Options(7, 7, 4, 0, 0, 0, 0)).Bytes(), steerVerdictREDIRECT_ICMP_ERROR},
		{"ICMP error about an answer from another port", testpkt.ICMPError(router, vip, 3, 4, 1400, testpkt.TCP(at(vip, 81), at(client, 1))).Bytes(), steerVerdictPASS_ICMP_ERROR},
		{"ICMP error about an answer of another protocol", testpkt.ICMPError(router, vip, 3, 4, 1400, testpkt.UDP(at(vip, 80), at(client, 1))).Bytes(), steerVerdictPASS_ICMP_ERROR},
		{"ICMP error about the first fragment of an answer", testpkt.ICMPError(router, vip, 11, 1, 0, answer.Fragment(0, true)).Bytes(), steerVerdictREDIRECT_ICMP_ERROR},
		{"ICMP error about a later fragment of an answer", testpkt.ICMPError(router, vip, 11, 1, 0, answer.Payload(make([]byte, 64)).Fragment(64, true)).Bytes(), steerVerdictPASS_ICMP_ERROR},
		{"ICMP error about what came from a service's client", testpkt.ICMPError(vip, client, 3, 3, 0, syn).Bytes(), steerVerdictPASS_ICMP_ERROR},
		{"ICMP error about a packet to a NAT server", testpkt.ICMPError(rip, client, 3, 3, 0, testpkt.TCP(at(client, 1), at(rip, 8080))).Bytes(), steerVerdictREDIRECT_ICMP_ERROR},
		{"ICMP error about the host's own packet to a NAT server", testpkt.ICMPError(rip, own, 3, 3, 0, testpkt.TCP(at(own, 1), at(rip, 8080))).Bytes(), steerVerdictPASS_ICMP_ERROR},
		{"ICMP error about a packet to a NAT server, another port", testpkt.ICMPError(rip, client, 3, 3, 0, testpkt.TCP(at(client, 1), at(rip, 8081))).Bytes(), steerVerdictPASS_ICMP_ERROR},
		{"ICMP error about a packet from a local address", testpkt.ICMPError(rip, lip, 3, 3, 0, testpkt.UDP(at(lip, 5500), at(rip, 9))).Bytes(), steerVerdictREDIRECT_ICMP_ERROR},
		{"ICMP error about a packet from a local address below its ports", testpkt.ICMPError(rip, lip, 3, 3, 0, testpkt.UDP(at(lip, 4999), at(rip, 9))).Bytes(), steerVerdictPASS_ICMP_ERROR},
		{"ICMP error about IP in IP to a TUN server", testpkt.ICMPError(router, own, 3, 4, 1400, syn.Via(own, tunRIP)).Bytes(), steerVerdictREDIRECT_ICMP_ERROR},
		{"ICMP error about UDP to a TUN server", testpkt.ICMPError(router, own, 3, 3, 0, testpkt.UDP(at(own, 1), at(tunRIP, 6080))).Bytes(), steerVerdictREDIRECT_ICMP_ERROR},
		{"ICMP error about GRE to a TUN server", testpkt.ICMPError(router, own, 3, 3, 0, testpkt.Raw(own, tunRIP, 47).Payload(make([]byte, 40))).Bytes(), steerVerdictREDIRECT_ICMP_ERROR},
		{"ICMP error about TCP to a TUN server", testpkt.ICMPError(router, own, 3, 3, 0, testpkt.TCP(at(own, 1), at(tunRIP, 22))).Bytes(), steerVerdictPASS_ICMP_ERROR},
		{"ICMP error about a ping to a TUN server", testpkt.ICMPError(router, own, 3, 1, 0, testpkt.Echo(own, tunRIP)).Bytes(), steerVerdictPASS_ICMP_ERROR},
		{"ICMP error about IP in IP to another server", testpkt.ICMPError(router, own, 3, 4, 1400, syn.Via(own, rip)).Bytes(), steerVerdictPASS_ICMP_ERROR},
		{"ICMP source quench is dead", testpkt.ICMPError(router, vip, 4, 0, 0, answer).Bytes(), steerVerdictPASS_OTHER},
		{"ICMP redirect is no error", testpkt.ICMPError(client, vip, 5, 0, 0, reply).Bytes(), steerVerdictPASS_OTHER},
		{"ICMPv6 packet too big about an answer", testpkt.ICMPError(client6, vip6, 2, 0, 1400, answer6).Bytes(), steerVerdictREDIRECT_ICMP_ERROR},
		{"ICMPv6 error about the first fragment of an answer", testpkt.ICMPError(client6, vip6, 2, 0, 1400, answer6.Fragment(0, true)).Bytes(), steerVerdictREDIRECT_ICMP_ERROR},
		{"ICMPv6 error about a later fragment of an answer", testpkt.ICMPError(client6, vip6, 2, 0, 1400, answer6.Payload(make([]byte, 64)).Fragment(64, true)).Bytes(), steerVerdictPASS_ICMP_ERROR},
		{"ICMPv6 error about an answer with extension headers", testpkt.ICMPError(client6, vip6, 1, 3, 0, answer6.Extension(0, 5, 2, 0, 0).Extension(60).Extension(43)).Bytes(), steerVerdictREDIRECT_ICMP_ERROR},
		{"ICMPv6 error about the first fragment of an answer with options", testpkt.ICMPError(client6, vip6, 2, 0, 1400, answer6.Extension(60).Fragment(0, true)).Bytes(), steerVerdictREDIRECT_ICMP_ERROR},
		{"ICMPv6 error about a later fragment with options", testpkt.ICMPError(client6, vip6, 2, 0, 1400, answer6.Payload(make([]byte, 64)).Extension(60).Fragment(64, true)).Bytes(), steerVerdictPASS_ICMP_ERROR},
		{"ICMPv6 error about an answer with five extension headers", testpkt.ICMPError(client6, vip6, 1, 3, 0, answer6.Extension(0).Extension(60).Extension(60).Extension(60).Extension(60)).Bytes(), steerVerdictREDIRECT_ICMP_ERROR},
		{"ICMPv6 error about an answer with six extension headers", testpkt.ICMPError(client6, vip6, 1, 3, 0, answer6.Extension(0).Extension(60).Extension(60).Extension(60).Extension(60).Extension(60)).Bytes(), steerVerdictPASS_ICMP_ERROR},
		{"ICMPv6 error about an answer whose options are cut off", length(testpkt.ICMPError(client6, vip6, 1, 3, 0, answer6.Extension(60, make([]byte, 40)...)).Bytes()[:54+8+40+8], 18, 8+40+8), steerVerdictPASS_ICMP_ERROR},
		{"ICMPv6 packet too big about something else", testpkt.ICMPError(client6, vip6, 2, 0, 1400, syn6).Bytes(), steerVerdictPASS_ICMP_ERROR},
		{"ICMPv6 error about IP in IP to a TUN server", testpkt.ICMPError(client6, own6, 2, 0, 1400, syn6.Via(own6, tunRIP6)).Bytes(), steerVerdictREDIRECT_ICMP_ERROR},
		{"ICMPv6 unknown error", testpkt.ICMPError(client6, vip6, 5, 0, 0, answer6).Bytes(), steerVerdictPASS_OTHER},
		{"ICMPv6 neighbour solicitation", testpkt.ICMPError(client6, vip6, 135, 0, 0, syn6).Bytes(), steerVerdictPASS_OTHER},
		{"ARP", testpkt.ARP(client, own).To(testpkt.DirectorMAC).Bytes(), steerVerdictPASS_OTHER},
		{"IPv6 hop-by-hop options", syn6.Extension(0, 5, 2, 0, 0).Bytes(), steerVerdictREDIRECT_SERVICE},
		{"IPv6 options of every kind", syn6.Extension(0).Extension(60, make([]byte, 30)...).Extension(43, 2).Extension(60).Bytes(), steerVerdictREDIRECT_SERVICE},
		{"IPv6 options, another port", testpkt.TCP(at(client6, 1), at(vip6, 81)).Extension(60).Bytes(), steerVerdictPASS_OTHER},
		{"IPv6 options in front of an echo request", testpkt.Echo(client6, vip6).Extension(60).Bytes(), steerVerdictPASS_OTHER},
		{"IPv6 options in front of an error", testpkt.ICMPError(client6, vip6, 2, 0, 1400, answer6).Extension(60).Bytes(), steerVerdictREDIRECT_ICMP_ERROR},
		{"IPv6 options in front of a fragment", syn6.Fragment(1480, false).Extension(60).Bytes(), steerVerdictREDIRECT_FRAGMENT},
		{"five IPv6 extension headers", syn6.Extension(0).Extension(60).Extension(60).Extension(60).Extension(60).Bytes(), steerVerdictREDIRECT_SERVICE},
		{"six IPv6 extension headers", syn6.Extension(0).Extension(60).Extension(60).Extension(60).Extension(60).Extension(60).Bytes(), steerVerdictPASS_EXTENSION},
		{"IPv6 hop-by-hop options, not first", syn6.Extension(60).Extension(0).Bytes(), steerVerdictPASS_EXTENSION},
		{"IPv6 routing header with segments left", syn6.Extension(43, 2, 1).Bytes(), steerVerdictPASS_EXTENSION},
		{"IPv6 authentication header", changed(syn6.Bytes(), 20, 51), steerVerdictPASS_OTHER},
		{"IPv6 mobility header", changed(syn6.Bytes(), 20, 135), steerVerdictPASS_EXTENSION},
		{"an IPv6 extension header that ends behind the packet", changed(syn6.Extension(60).Bytes(), 55, 3), steerVerdictPASS_MALFORMED},
		{"an IPv6 extension header that ends far behind the packet", changed(syn6.Extension(60).Bytes(), 55, 255), steerVerdictPASS_MALFORMED},
		{"IPv6 without a next header", changed(syn6.Bytes(), 20, 59), steerVerdictPASS_OTHER},

		{"IHL 4", changed(syn.Bytes(), 14, 0x44), steerVerdictPASS_MALFORMED},
		{"IHL beyond the packet", changed(datagram.Bytes(), 14, 0x4f), steerVerdictPASS_MALFORMED},
		{"version 6 in an IPv4 frame", changed(syn.Bytes(), 14, 0x65), steerVerdictPASS_MALFORMED},
		{"version 4 in an IPv6 frame", changed(syn6.Bytes(), 14, 0x45), steerVerdictPASS_MALFORMED},
		{"total length of 0", length(syn.Bytes(), 16, 0), steerVerdictPASS_MALFORMED},
		{"total length less than the header", length(syn.Bytes(), 16, 19), steerVerdictPASS_MALFORMED},
		{"total length one beyond the frame", length(syn.Bytes(), 16, 41), steerVerdictPASS_MALFORMED},
		{"total length far beyond the frame", length(syn.Bytes(), 16, 65535), steerVerdictPASS_MALFORMED},
		{"total length one less than TCP's header", length(syn.Bytes(), 16, 39), steerVerdictPASS_MALFORMED},
		{"total length without layer 4, the ports in the padding", length(syn.Bytes(), 16, 20), steerVerdictPASS_MALFORMED},
		{"a datagram one byte short of UDP's header", length(datagram.Bytes(), 16, 27), steerVerdictPASS_MALFORMED},
		{"IPv6 payload length one beyond the frame", length(syn6.Bytes(), 18, 21), steerVerdictPASS_MALFORMED},
		{"IPv6 payload length one less than TCP's header", length(syn6.Bytes(), 18, 19), steerVerdictPASS_MALFORMED},
		{"IPv6 payload length of 0", length(syn6.Bytes(), 18, 0), steerVerdictPASS_MALFORMED},
		{"Ethernet alone", syn.Bytes()[:14], steerVerdictPASS_MALFORMED},
		{"a reentry header that nobody of ours made", append(reentryMark(12345), syn.Bytes()...), steerVerdictPASS_OTHER},
		{"a reentry header with one bit wrong", append(reentryMark(s.secret^1), syn.Bytes()...), steerVerdictPASS_OTHER},
		{"a reentry header cut off", reentryMark(s.secret)[:21], steerVerdictPASS_OTHER},
		{"a frame given back", append(reentryMark(s.secret), syn.Bytes()...), steerVerdictPASS_REENTRY},
	}
	// A frame cut off anywhere is never redirected.
	for _, whole := range []testpkt.Packet{syn, syn6, datagram, reply, syn6.Extension(0).Extension(60)} {
		frame := whole.VLAN(5).Bytes()
		for n := 18; n < len(frame); n++ {
			rows = append(rows, verdictRow{fmt.Sprintf("%d bytes of a frame of %d", n, len(frame)), frame[:n], steerVerdictPASS_MALFORMED})
		}
	}
	wantVerdicts(t, s, a, rows)
}

type verdictRow struct {
	what    string
	frame   []byte
	verdict steerVerdict
}

// wantVerdicts shows steer each frame, which must get its verdict and leave as it came.
func wantVerdicts(t *testing.T, s *Steer, a *Attachment, rows []verdictRow) {
	for _, row := range rows {
		t.Run(row.what, func(t *testing.T) {
			before := counters(t, s)
			action, out, err := a.objects.Steer.Test(row.frame)
			must(t, err)
			if got := difference(before, counters(t, s)); got != s.names[row.verdict] {
				t.Errorf("counted %s, want %s", got, s.names[row.verdict])
			}
			want := uint32(xdpPass)
			if row.verdict >= steerVerdictREDIRECT_SERVICE {
				want = xdpRedirect
			}
			if action != want {
				t.Errorf("action %d, want %d", action, want)
			}
			frame := row.frame
			if row.verdict == steerVerdictPASS_REENTRY {
				frame = frame[22:]
			}
			if !slices.Equal(out, frame) {
				t.Errorf("the frame left as\n%x, want\n%x", out, frame)
			}
		})
	}
}

// lastFour returns an IPv6 address whose last four bytes are a's, under another prefix.
func lastFour(a netip.Addr) netip.Addr {
	b := a.As16()
	b[0], b[10], b[11] = 0x20, 0, 0
	return netip.AddrFrom16(b)
}

// mapped turns an IPv4 packet without options into an IPv6 one between the IPv4-mapped addresses.
func mapped(p testpkt.Packet) []byte {
	four := p.Bytes()
	six := slices.Clone(four[:12])
	six = append(six, 0x86, 0xdd, 0x60, 0, 0, 0)
	six = binary.BigEndian.AppendUint16(six, uint16(len(four)-34))
	six = append(six, four[23], 64)
	for _, at := range []int{26, 30} {
		six = append(six, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff)
		six = append(six, four[at:at+4]...)
	}
	return append(six, four[34:]...)
}

// atomic returns the frame as an "atomic fragment": with a fragment header that says it is whole.
func atomic(p testpkt.Packet) []byte {
	b := p.Fragment(0, true).Bytes()
	b[14+40+3] &^= 1
	return b
}

// cut returns a frame of which only the first n bytes were sent: an ICMP error that quotes less.
func cut(p testpkt.Packet, n int) []byte {
	return length(p.Bytes()[:n], 16, uint16(n-14))
}

func changed(frame []byte, at int, to byte) []byte {
	frame[at] = to
	return frame
}

func length(frame []byte, at int, to uint16) []byte {
	binary.BigEndian.PutUint16(frame[at:], to)
	return frame
}

func counters(t *testing.T, s *Steer) map[string]uint64 {
	t.Helper()
	all, err := s.Counters()
	must(t, err)
	m := map[string]uint64{}
	for _, c := range all {
		m[c.Name] = c.Value
	}
	return m
}

// difference names the counters that have changed, and by how much unless by one.
func difference(before, after map[string]uint64) string {
	var names []string
	for name, n := range after {
		if d := n - before[name]; d == 1 {
			names = append(names, name)
		} else if d != 0 {
			names = append(names, fmt.Sprintf("%s by %d", name, d))
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func TestNamesOfCounters(t *testing.T) {
	s := load(t, Options{})
	want := []string{"pass_malformed", "pass_foreign_mac", "pass_other", "pass_fragment", "pass_icmp_error", "pass_extension",
		"pass_own", "pass_no_socket", "pass_reentry", "redirect_service", "redirect_local", "redirect_nat", "redirect_mark",
		"redirect_fragment", "redirect_icmp_error"}
	if !slices.Equal(s.names, want) {
		t.Errorf("counters are %q, want %q", s.names, want)
	}
}

func TestWithoutSocketTheKernelGetsTheFrame(t *testing.T) {
	s := load(t, Options{})
	near, _ := newVeth(t, 1)
	a, err := s.Attach(near.Attrs().Index, 1, testpkt.DirectorMAC, Auto)
	must(t, err)
	must(t, s.AddService(lb.TCP, lb.AddrFrom(vip), 80))
	frame := testpkt.TCP(at(client, 1000), at(vip, 80), testpkt.SYN).Bytes()
	judge := func(action uint32, counter string) {
		t.Helper()
		before := counters(t, s)
		got, _, err := a.objects.Steer.Test(frame)
		must(t, err)
		if counted := difference(before, counters(t, s)); got != action || counted != counter {
			t.Errorf("action %d, counted %s; want %d, %s", got, counted, action, counter)
		}
	}

	judge(xdpPass, "pass_no_socket")
	fd := xdpSocket(t)
	must(t, a.SetSocket(0, fd))
	judge(xdpRedirect, "redirect_service")
	if err := a.SetSocket(1, fd); err == nil {
		t.Error("a socket for queue 1 of an interface with one queue was taken")
	}
	if err := a.SetSocket(0, int(os.Stdout.Fd())); err == nil {
		t.Error("a file that is no AF_XDP socket was taken")
	}
}

func TestChangesAreIdempotentAndShared(t *testing.T) {
	s, first := configured(t)
	near, _ := newVeth(t, 1)
	second, err := s.Attach(near.Attrs().Index, 1, testpkt.MAC(0x21), Auto)
	must(t, err)
	must(t, second.SetSocket(0, xdpSocket(t)))

	addr := lb.MustParseAddr("192.0.2.77")
	toService := testpkt.UDP(at(client, 1), at(addr.Netip(), 99))
	toLocal := toService
	fromServer := testpkt.UDP(at(addr.Netip(), 99), at(client, 1))
	for _, row := range []struct {
		what        string
		add, remove func() error
		packet      testpkt.Packet
	}{
		{"service", func() error { return s.AddService(lb.UDP, addr, 99) }, func() error { return s.RemoveService(lb.UDP, addr, 99) }, toService},
		{"service, a fragment", func() error { return s.AddService(lb.UDP, addr, 99) }, func() error { return s.RemoveService(lb.UDP, addr, 99) }, toService.Fragment(8, true)},
		{"NAT server, a fragment", func() error { return s.AddServer(lb.UDP, addr, 99) }, func() error { return s.RemoveServer(lb.UDP, addr, 99) }, fromServer.Fragment(8, true)},
		{"TUN server", func() error { return s.AddTunnel(addr) }, func() error { return s.RemoveTunnel(addr) }, testpkt.ICMPError(router, own, 3, 4, 1400, toService)},
		{"any-port service", func() error { return s.AddService(lb.UDP, addr, 0) }, func() error { return s.RemoveService(lb.UDP, addr, 0) }, toService},
		{"local address", func() error { return s.AddLocal(addr, 99, 99) }, func() error { return s.RemoveLocal(addr) }, toLocal},
		{"NAT server", func() error { return s.AddServer(lb.UDP, addr, 99) }, func() error { return s.RemoveServer(lb.UDP, addr, 99) }, fromServer},
	} {
		t.Run(row.what, func(t *testing.T) {
			judge := func(want uint32) {
				t.Helper()
				for a, mac := range map[*Attachment]net.HardwareAddr{first: testpkt.DirectorMAC, second: testpkt.MAC(0x21)} {
					if action, _, err := a.objects.Steer.Test(row.packet.To(mac).Bytes()); action != want || err != nil {
						t.Errorf("%s: action %d (%v), want %d", a.iface.Name, action, err, want)
					}
				}
			}
			judge(xdpPass)
			for range 2 {
				must(t, row.add())
				judge(xdpRedirect)
			}
			for range 2 {
				must(t, row.remove())
				judge(xdpPass)
			}
		})
	}
	if err := s.AddLocal(addr, 10, 9); err == nil {
		t.Error("a range of ports that ends before it starts was taken")
	}
	action, _, err := second.objects.Steer.Test(testpkt.TCP(at(client, 1), at(vip, 80), testpkt.SYN).To(extra).Bytes())
	if action != xdpPass || err != nil {
		t.Errorf("a MAC that one interface accepts was taken on another: action %d (%v)", action, err)
	}
}

func TestSetOwnAppliesTheDifference(t *testing.T) {
	s, a := configured(t)
	one, two := lb.MustParseAddr("203.0.113.1"), lb.MustParseAddr("203.0.113.2")
	for _, step := range []struct {
		own      []lb.Addr
		one, two uint32
	}{
		{nil, xdpRedirect, xdpRedirect},
		{[]lb.Addr{one}, xdpPass, xdpRedirect},
		{[]lb.Addr{two, one, two}, xdpPass, xdpPass},
		{[]lb.Addr{two}, xdpRedirect, xdpPass},
		{nil, xdpRedirect, xdpRedirect},
	} {
		must(t, s.SetOwn(step.own))
		for addr, want := range map[lb.Addr]uint32{one: step.one, two: step.two} {
			action, _, err := a.objects.Steer.Test(testpkt.TCP(at(rip, 8080), at(addr.Netip(), 5), testpkt.ACK).Bytes())
			if action != want || err != nil {
				t.Errorf("own %v: to %s action %d (%v), want %d", step.own, addr, action, err, want)
			}
		}
	}
}

func TestAFullMapIsNamed(t *testing.T) {
	s := load(t, Options{MaxServices: 2})
	for port := range uint16(2) {
		must(t, s.AddService(lb.TCP, lb.AddrFrom(vip), port))
	}
	err := s.AddService(lb.TCP, lb.AddrFrom(vip), 2)
	if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "services") {
		t.Errorf("a third service of two: %v, want ErrFull that names services", err)
	}
	must(t, s.AddService(lb.TCP, lb.AddrFrom(vip), 1))
}

func TestAttach(t *testing.T) {
	s := load(t, Options{})
	near, far := newVeth(t, 1)
	index, mac := near.Attrs().Index, near.Attrs().HardwareAddr
	lo, err := netlink.LinkByName("lo")
	must(t, err)

	a, err := s.Attach(index, 1, mac, Auto)
	must(t, err)
	if a.Mode != Native || a.NativeError != nil {
		t.Errorf("auto on a veth came to %s (%v), want native", a.Mode, a.NativeError)
	}
	for _, mode := range []XDPMode{Auto, Native, Generic} {
		if _, err := s.Attach(index, 1, mac, mode); !errors.Is(err, ErrAttached) {
			t.Errorf("a second time, %s: %v, want ErrAttached", mode, err)
		}
	}
	for range 2 {
		must(t, a.Close())
	}
	if a, err = s.Attach(index, 1, mac, Generic); err != nil || a.Mode != Generic {
		t.Errorf("generic, after Close: %v", err)
	}

	noMAC := make(net.HardwareAddr, 6)
	if _, err := s.Attach(lo.Attrs().Index, 1, noMAC, Native); !errors.Is(err, ErrUnsupported) {
		t.Errorf("native on lo: %v, want ErrUnsupported", err)
	}
	a, err = s.Attach(lo.Attrs().Index, 1, noMAC, Auto)
	must(t, err)
	if a.Mode != Generic || !errors.Is(a.NativeError, ErrUnsupported) {
		t.Errorf("auto on lo came to %s (%v), want generic because of ErrUnsupported", a.Mode, a.NativeError)
	}
	must(t, netlink.LinkSetMTU(near, 9000)) // in generic mode now, so the veth allows it
	must(t, netlink.LinkSetMTU(far, 9000))
	if _, err := s.Attach(far.Attrs().Index, 1, far.Attrs().HardwareAddr, Native); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "MTU") {
		t.Errorf("native with an MTU of 9,000: %v, want ErrUnsupported that names the MTU", err)
	}

	if _, err := s.Attach(1<<30, 1, mac, Auto); !errors.Is(err, ErrInterface) {
		t.Errorf("no such interface: %v, want ErrInterface", err)
	}
	if _, err := s.Attach(index, 0, mac, Auto); err == nil {
		t.Error("an interface without queues was taken")
	}
	if _, err := s.Attach(index, 1, mac[:5], Auto); err == nil {
		t.Error("a MAC address of five bytes was taken")
	}
	for range 2 {
		must(t, s.Close())
	}
	if _, err := s.Attach(index, 1, mac, Auto); err == nil {
		t.Error("a closed Steer was attached")
	}
	if link, err := netlink.LinkByIndex(index); err != nil || link.Attrs().Xdp != nil && link.Attrs().Xdp.Attached {
		t.Errorf("a program stayed on %s after Close: %+v (%v)", near.Attrs().Name, link.Attrs().Xdp, err)
	}
}

func TestFragmentsGoByTheLastOfAnAddresssServices(t *testing.T) {
	s, a := configured(t)
	judge := judge(t, a)
	addr := lb.MustParseAddr("192.0.2.77")
	piece := testpkt.UDP(at(client, 1), at(addr.Netip(), 99)).Fragment(8, true)
	for range 2 {
		must(t, s.AddService(lb.UDP, addr, 1))
		must(t, s.AddService(lb.TCP, addr, 1))
	}
	judge("two services", piece, true)
	must(t, s.RemoveService(lb.UDP, addr, 1))
	must(t, s.RemoveService(lb.UDP, addr, 1))
	judge("one service", piece, true)
	must(t, s.RemoveService(lb.TCP, addr, 1))
	judge("none", piece, false)
	must(t, s.AddPrefix(lb.UDP, prefix("192.0.2.0/24"), 5, 5))
	judge("a firewall mark's prefix", piece, true)
}
