package testnet

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

// End describes one end of a veth pair.
type End struct {
	NS     *Namespace
	Name   string           // eth0 when empty
	Addrs  []string         // with prefix length
	MTU    int              // 1,500 when 0
	MAC    net.HardwareAddr // one of the network's own when nil
	Bridge string           // a bridge of the namespace that the end becomes a member of
}

// Device is an interface of a namespace.
type Device struct {
	NS    *Namespace
	Name  string
	Index int
	MAC   net.HardwareAddr
}

// Veth joins two namespaces by a cable with the given number of receive and transmit queues at both ends (1 when none is given). Both ends
// compute and verify checksums and insert VLAN tags in software: what a program reads from the wire is what a real one would carry.
func (n *Net) Veth(a, b End, queues ...int) (*Device, *Device) {
	n.t.Helper()
	q := 1
	if len(queues) > 0 {
		q = queues[0]
	}
	for _, e := range []*End{&a, &b} {
		if e.Name == "" {
			e.Name = "eth0"
		}
		if e.MTU == 0 {
			e.MTU = 1500
		}
		if e.MAC == nil {
			e.MAC = n.mac()
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = a.Name, a.MTU, a.MAC
	attrs.NumRxQueues, attrs.NumTxQueues = q, q
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerMTU, veth.PeerHardwareAddr = b.Name, uint32(b.MTU), b.MAC
	veth.PeerNumRxQueues, veth.PeerNumTxQueues = uint32(q), uint32(q)
	veth.PeerNamespace = netlink.NsFd(b.NS.handle)
	if err := a.NS.nl.LinkAdd(veth); err != nil {
		n.t.Fatalf("veth %s/%s to %s/%s: %v", a.NS.Name, a.Name, b.NS.Name, b.Name, err)
	}
	var devices [2]*Device
	for i, e := range []End{a, b} {
		d, err := e.setUp()
		if err != nil {
			n.t.Fatalf("veth %s/%s: %v", e.NS.Name, e.Name, err)
		}
		devices[i] = d
	}
	// The end that came up first gets its carrier from the second, and until the kernel has seen to that (net/core/link_watch.c) it drops
	// what is sent.
	for _, d := range devices {
		Eventually(n.t, 5*time.Second, d.NS.Name+"/"+d.Name+" is up", d.isUp)
	}
	return devices[0], devices[1]
}

func (e *End) setUp() (*Device, error) {
	link, err := e.NS.nl.LinkByName(e.Name)
	if err != nil {
		return nil, err
	}
	if err := e.NS.Do(func() error { return disableOffloads(e.Name) }); err != nil {
		return nil, err
	}
	if e.Bridge != "" {
		bridge, err := e.NS.nl.LinkByName(e.Bridge)
		if err != nil {
			return nil, err
		}
		if err := e.NS.nl.LinkSetMaster(link, bridge); err != nil {
			return nil, err
		}
	}
	if err := e.NS.nl.LinkSetUp(link); err != nil {
		return nil, err
	}
	for _, a := range e.Addrs {
		if err := e.NS.addAddr(e.Name, a); err != nil {
			return nil, fmt.Errorf("address %s: %w", a, err)
		}
	}
	return &Device{NS: e.NS, Name: e.Name, Index: link.Attrs().Index, MAC: link.Attrs().HardwareAddr}, nil
}

// Bridge adds a learning switch without spanning tree; its members forward as soon as they are up. It takes its MTU from its members.
func (ns *Namespace) Bridge(name string) {
	ns.net.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	snooping := false
	bridge := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}
	err := ns.nl.LinkAdd(bridge)
	if err == nil {
		err = ns.nl.LinkSetUp(bridge)
	}
	if err != nil {
		ns.net.t.Fatalf("%s: bridge %s: %v", ns.Name, name, err)
	}
}

// Counters are what an interface has carried, in frames and bytes.
type Counters struct{ RxPackets, TxPackets, RxBytes, TxBytes, RxDropped, TxDropped uint64 }

// Sub returns what was carried since an earlier reading.
func (c Counters) Sub(e Counters) Counters {
	return Counters{c.RxPackets - e.RxPackets, c.TxPackets - e.TxPackets, c.RxBytes - e.RxBytes, c.TxBytes - e.TxBytes,
		c.RxDropped - e.RxDropped, c.TxDropped - e.TxDropped}
}

// Counters reads the interface's counters.
func (d *Device) Counters() Counters {
	d.NS.net.t.Helper()
	link, err := d.NS.nl.LinkByIndex(d.Index)
	if err != nil {
		d.NS.net.t.Fatalf("%s/%s: %v", d.NS.Name, d.Name, err)
	}
	s := link.Attrs().Statistics
	return Counters{s.RxPackets, s.TxPackets, s.RxBytes, s.TxBytes, s.RxDropped, s.TxDropped}
}

func (d *Device) isUp() bool {
	link, err := d.NS.nl.LinkByIndex(d.Index)
	return err == nil && link.Attrs().OperState == netlink.OperUp
}

// SendBy makes the interface transmit everything by one of its queues, so that a veth's other end receives it by the queue of that number
// (XPS, Documentation/networking/scaling.rst).
func (d *Device) SendBy(queue int) {
	d.NS.net.t.Helper()
	// Queue by queue: the CPUs whose packets go by it; all for the chosen one, none for the others.
	script := `cd /sys/class/net/$0/queues && for q in tx-*; do
		if [ $q = tx-$1 ]; then echo $2; else echo 0; fi >$q/xps_cpus || exit 1; done`
	if _, err := d.NS.Run("sh", "-c", script, d.Name, strconv.Itoa(queue), allCPUs()); err != nil {
		d.NS.net.t.Fatalf("%s/%s: send by queue %d: %v", d.NS.Name, d.Name, queue, err)
	}
}

// allCPUs returns the mask of every CPU as sysfs takes it: hexadecimal, in groups of 32 (lib/bitmap.c).
func allCPUs() string {
	b, err := os.ReadFile("/sys/devices/system/cpu/possible") // "0-63"
	_, last, _ := strings.Cut(strings.TrimSpace(string(b)), "-")
	n, errNumber := strconv.Atoi(last)
	if err != nil || errNumber != nil {
		return "1"
	}
	mask := ""
	for ; n >= 32; n -= 32 {
		mask += ",ffffffff"
	}
	return fmt.Sprintf("%x", uint64(1)<<(n+1)-1) + mask
}

// SetUp puts the interface up or down.
func (d *Device) SetUp(up bool) {
	d.NS.net.t.Helper()
	set := d.NS.nl.LinkSetDown
	if up {
		set = d.NS.nl.LinkSetUp
	}
	d.change(set)
}

// SetMAC gives the interface another MAC address. IPv4 neighbours learn it by the gratuitous ARP of arp_notify.
func (d *Device) SetMAC(mac net.HardwareAddr) {
	d.NS.net.t.Helper()
	d.change(func(l netlink.Link) error { return d.NS.nl.LinkSetHardwareAddr(l, mac) })
	d.MAC = mac
}

func (d *Device) change(f func(netlink.Link) error) {
	d.NS.net.t.Helper()
	link, err := d.NS.nl.LinkByIndex(d.Index)
	if err == nil {
		err = f(link)
	}
	if err != nil {
		d.NS.net.t.Fatalf("%s/%s: %v", d.NS.Name, d.Name, err)
	}
}
