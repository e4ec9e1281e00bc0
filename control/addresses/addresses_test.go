package addresses

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/vishvananda/netlink"

	"weir/internal/testnet"
	"weir/lb"
)

const limit = 10 * time.Second

type rig struct {
	t        *testing.T
	host     *testnet.Namespace
	eth0     *testnet.Device
	neighbor *testnet.Namespace
	far      *testnet.Device
}

func newRig(t *testing.T) *rig {
	t.Helper()
	t.Parallel()
	n := testnet.New(t)
	r := &rig{t: t, host: n.Namespace("director"), neighbor: n.Namespace("neighbour")}
	r.eth0, r.far = n.Veth(
		testnet.End{NS: r.host, Addrs: []string{"10.0.0.1/24", "fd00::1/64"}},
		testnet.End{NS: r.neighbor, Addrs: []string{"10.0.0.2/24", "fd00::2/64"}})
	return r
}

func (r *rig) assign(iface string, addrs ...lb.Addr) (a *Assigned, err error) {
	r.t.Helper()
	err = r.host.Do(func() (err error) {
		a, err = Assign(iface, addrs)
		return err
	})
	if a != nil {
		r.t.Cleanup(func() { a.Close() })
	}
	return a, err
}

// has returns the addresses of a device as ip(8) prints them, sorted, but for link-local ones.
func (r *rig) has(device string) []string {
	r.t.Helper()
	var out []string
	err := r.host.Do(func() error {
		l, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		as, err := netlink.AddrList(l, netlink.FAMILY_ALL)
		for _, a := range as {
			if !a.IP.IsLinkLocalUnicast() {
				out = append(out, a.IPNet.String())
			}
		}
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

func (r *rig) mustHave(when, device string, want ...string) {
	r.t.Helper()
	slices.Sort(want)
	if got := r.has(device); !slices.Equal(got, want) {
		r.t.Errorf("%s, %s has %v, want %v", when, device, got, want)
	}
}

var (
	vip4, vip6 = lb.MustParseAddr("10.0.0.100"), lb.MustParseAddr("fd00::100")
	lip4       = lb.MustParseAddr("10.0.0.101")
)

func TestAssignedAddressesComeAndGo(t *testing.T) {
	r := newRig(t)
	a, err := r.assign("eth0", vip4, vip6, vip4)
	if err != nil {
		t.Fatal(err)
	}
	r.mustHave("assigned", "eth0", "10.0.0.1/24", "fd00::1/64", "10.0.0.100/32", "fd00::100/128")
	for _, vip := range []string{"10.0.0.100:80", "[fd00::100]:80"} { // resolved and usable at once
		l, err := r.host.Listen("tcp", vip)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := r.neighbor.Dial("tcp", vip)
		if err != nil {
			t.Errorf("connect to %s: %v", vip, err)
			continue
		}
		c.Close()
	}
	if err := a.Add(lip4, vip4); err != nil {
		t.Fatal(err)
	}
	if err := a.Remove(vip4, lb.MustParseAddr("10.0.0.1"), lb.MustParseAddr("10.0.0.9")); err != nil {
		t.Fatal(err)
	}
	r.mustHave("changed", "eth0", "10.0.0.1/24", "fd00::1/64", "10.0.0.101/32", "fd00::100/128")
	for range 2 {
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
	r.mustHave("closed", "eth0", "10.0.0.1/24", "fd00::1/64")
	if a.Add(vip4) == nil {
		t.Error("added after Close")
	}
}

func TestWhatWasThereStays(t *testing.T) {
	r := newRig(t)
	r.host.AddAddr("eth0", "10.0.0.100/24")
	r.host.AddAddr("lo", "fd00::100/128")
	a, err := r.assign("eth0", vip4, vip6, lip4, lb.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	r.mustHave("assigned", "eth0", "10.0.0.1/24", "10.0.0.100/24", "fd00::1/64", "10.0.0.101/32")
	if err := a.Remove(vip4, vip6); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	r.mustHave("closed", "eth0", "10.0.0.1/24", "10.0.0.100/24", "fd00::1/64")
	r.mustHave("closed", "lo", "127.0.0.1/8", "::1/128", "fd00::100/128")
}

// A killed weir leaves its addresses behind; the next one has those that it wants for its own, and nobody else's.
func TestWhatAKilledRunLeftIsTakenOver(t *testing.T) {
	r := newRig(t)
	r.host.AddAddr("lo", "10.0.0.101/32")
	if _, err := r.assign("eth0", vip4, vip6, lip4); err != nil { // the kill: it is not closed before the end of the test
		t.Fatal(err)
	}
	next, err := r.assign("eth0", vip4, lip4)
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Add(vip6); err != nil {
		t.Fatal(err)
	}
	r.mustHave("taken over", "eth0", "10.0.0.1/24", "fd00::1/64", "10.0.0.100/32", "fd00::100/128")
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
	r.mustHave("closed", "eth0", "10.0.0.1/24", "fd00::1/64")
	r.mustHave("closed", "lo", "127.0.0.1/8", "::1/128", "10.0.0.101/32")
}

func TestIPv6AddressesComeBackWithTheLink(t *testing.T) {
	r := newRig(t)
	a, err := r.assign("eth0", vip4, vip6)
	if err != nil {
		t.Fatal(err)
	}
	r.eth0.SetUp(false)
	r.mustHave("down", "eth0", "10.0.0.1/24", "10.0.0.100/32")
	r.eth0.SetUp(true)
	for range 2 {
		if err := a.Restore(); err != nil {
			t.Fatal(err)
		}
	}
	r.mustHave("up again", "eth0", "10.0.0.1/24", "10.0.0.100/32", "fd00::100/128")
	if err := a.Remove(vip6); err != nil {
		t.Fatal(err)
	}
	if err := a.Restore(); err != nil {
		t.Fatal(err)
	}
	r.mustHave("removed", "eth0", "10.0.0.1/24", "10.0.0.100/32")
}

func TestAllOrNothing(t *testing.T) {
	r := newRig(t)
	_, err := r.assign("eth0", vip4, lb.MustParseAddr("ff02::5"), vip6, lb.MustParseAddr("ff02::6"))
	if err == nil || !strings.Contains(err.Error(), "assign address ff02::5 to eth0: ") || !strings.Contains(err.Error(), "assign address ff02::6 to eth0: ") {
		t.Errorf("error %v", err)
	}
	r.mustHave("refused", "eth0", "10.0.0.1/24", "fd00::1/64")
	if _, err := r.assign("eth9", vip4); err == nil || !strings.Contains(err.Error(), "eth9") {
		t.Errorf("no such interface: %v", err)
	}
}

// Someone else may have removed an address, or the interface with it, before weir stops.
func TestWhatIsGoneIsNoError(t *testing.T) {
	r := newRig(t)
	a, err := r.assign("eth0", vip4, vip6, lip4)
	if err != nil {
		t.Fatal(err)
	}
	r.eth0.SetUp(false) // takes the IPv6 addresses along
	r.eth0.SetUp(true)
	if err := a.Add(vip4, vip6, lip4); err != nil {
		t.Fatal(err)
	}
	r.mustHave("up again", "eth0", "10.0.0.1/24", "10.0.0.100/32", "10.0.0.101/32", "fd00::100/128")
	if out, err := r.host.Run("ip", "addr", "del", "10.0.0.100/32", "dev", "eth0"); err != nil {
		t.Fatal(err, out)
	}
	if err := a.Remove(vip4); err != nil {
		t.Errorf("remove what is gone: %v", err)
	}
	if out, err := r.host.Run("ip", "link", "del", "eth0"); err != nil {
		t.Fatal(err, out)
	}
	if err := a.Close(); err != nil {
		t.Errorf("close after the interface is gone: %v", err)
	}
}

func TestAssignToLoopback(t *testing.T) {
	r := newRig(t)
	a, err := r.assign("lo", vip4, vip6)
	if err != nil {
		t.Fatal(err)
	}
	r.mustHave("assigned", "lo", "127.0.0.1/8", "::1/128", "10.0.0.100/32", "fd00::100/128")
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	r.mustHave("closed", "lo", "127.0.0.1/8", "::1/128")
}

// Neighbours that knew an address elsewhere turn to the host that has it now.
func TestNeighboursAreTold(t *testing.T) {
	r := newRig(t)
	for _, a := range []string{"10.0.0.100", "fd00::100"} {
		if out, err := r.neighbor.Run("ip", "neigh", "add", a, "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "stale"); err != nil {
			t.Fatal(err, out)
		}
	}
	wire := r.far.Wire()
	if _, err := r.assign("eth0", vip4, vip6); err != nil {
		t.Fatal(err)
	}
	told := func(match func(gopacket.Packet) bool) bool {
		_, ok := wire.Recv(limit, func(f []byte) bool {
			return match(gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default))
		})
		return ok
	}
	if !told(func(p gopacket.Packet) bool {
		arp, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP)
		return ok && arp.Operation == layers.ARPRequest && slices.Equal(arp.SourceHwAddress, r.eth0.MAC) &&
			netip.AddrFrom4([4]byte(arp.SourceProtAddress)) == vip4.Netip() && slices.Equal(arp.SourceProtAddress, arp.DstProtAddress)
	}) {
		t.Error("no gratuitous ARP")
	}
	if !told(func(p gopacket.Packet) bool {
		na, ok := p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement)
		return ok && na.Override() && !na.Solicited() && na.TargetAddress.Equal(vip6.Netip().AsSlice())
	}) {
		t.Error("no unsolicited advertisement")
	}
	// The neighbour's kernel is the judge of the whole frame, checksum included.
	testnet.Eventually(t, limit, "the neighbour's entries follow", func() bool {
		out, err := r.neighbor.Run("ip", "neigh")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(out, r.eth0.MAC.String()) >= 2 && !strings.Contains(out, "02:00:00:00:00:99")
	})
}

func TestRemovedAddressIsNotAnnounced(t *testing.T) {
	r := newRig(t)
	var n *announcer
	err := r.host.Do(func() (err error) {
		n, err = newAnnouncer(r.eth0.Index, func() (net.HardwareAddr, error) { return r.eth0.MAC, nil })
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	n.current = map[lb.Addr]bool{vip4: true, lip4: true}
	n.stop(vip4)
	wire := r.far.Wire()
	n.round([]lb.Addr{vip4, lip4})
	var announced []string
	for len(announced) == 0 || announced[len(announced)-1] != lip4.String() {
		f, ok := wire.Recv(limit, func(f []byte) bool { return f[12] == 8 && f[13] == 6 })
		if !ok {
			t.Fatalf("only %v announced", announced)
		}
		arp := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeARP).(*layers.ARP)
		announced = append(announced, netip.AddrFrom4([4]byte(arp.DstProtAddress)).String())
	}
	if len(announced) != 1 {
		t.Errorf("announced %v", announced)
	}
}
