package addresses

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"weir/lb"
)

// announcements are when an address is announced after it was added, so that neighbours that knew it elsewhere turn to us: at
// once, and again in case the switch port was not forwarding yet. RFC 5227 section 1.1 asks for two, two seconds apart, RFC
// 4861 section 7.2.6 allows three advertisements, a second apart.
var announcements = []time.Duration{0, 2 * time.Second, 5 * time.Second}

// announcer sends gratuitous ARP requests and unsolicited neighbour advertisements out of one interface.
type announcer struct {
	fd    int
	index int
	mac   func() (net.HardwareAddr, error) // the interface's, as it is now

	mu      sync.Mutex
	current map[lb.Addr]bool // what may be announced: not what was removed meanwhile
	ended   chan struct{}
	running sync.WaitGroup
}

func newAnnouncer(index int, mac func() (net.HardwareAddr, error)) (*announcer, error) {
	// Protocol 0: it only sends.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("packet socket to announce addresses: %w", err)
	}
	return &announcer{fd: fd, index: index, mac: mac, current: make(map[lb.Addr]bool), ended: make(chan struct{})}, nil
}

// start announces addrs from a goroutine that ends by itself, seconds later.
func (n *announcer) start(addrs []lb.Addr) {
	n.mu.Lock()
	for _, a := range addrs {
		n.current[a] = true
	}
	n.mu.Unlock()
	n.running.Go(func() {
		began := time.Now()
		for _, at := range announcements {
			select {
			case <-n.ended:
				return
			case <-time.After(time.Until(began.Add(at))):
			}
			n.round(addrs)
		}
	})
}

// round sends one announcement of each address that is still there. Errors are those of an interface that is down: it has
// no neighbours.
func (n *announcer) round(addrs []lb.Addr) {
	mac, err := n.mac()
	if err != nil {
		return
	}
	for _, a := range addrs {
		n.mu.Lock()
		if n.current[a] {
			_ = unix.Sendto(n.fd, frame(mac, a), 0, &unix.SockaddrLinklayer{Ifindex: n.index})
		}
		n.mu.Unlock()
	}
}

func (n *announcer) stop(addr lb.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.current, addr)
}

func (n *announcer) close() {
	close(n.ended)
	n.running.Wait()
	unix.Close(n.fd)
}

// frame builds the announcement of addr at mac.
func frame(mac net.HardwareAddr, addr lb.Addr) []byte {
	buf := gopacket.NewSerializeBuffer()
	var err error
	if addr.Is4() {
		err = gopacket.SerializeLayers(buf, gopacket.SerializeOptions{}, arp(mac, addr.Netip())...)
	} else {
		err = gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, advertisement(mac, addr.Netip())...)
	}
	if err != nil {
		panic(err) // the layers do not depend on anything from outside
	}
	return buf.Bytes()
}

// arp is an ARP announcement: a broadcast request for one's own address (RFC 5227 section 2.3).
func arp(mac net.HardwareAddr, ip netip.Addr) []gopacket.SerializableLayer {
	return []gopacket.SerializableLayer{
		&layers.Ethernet{SrcMAC: mac, DstMAC: layers.EthernetBroadcast, EthernetType: layers.EthernetTypeARP},
		&layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
			Operation:         layers.ARPRequest,
			SourceHwAddress:   mac,
			SourceProtAddress: ip.AsSlice(),
			DstHwAddress:      make([]byte, 6),
			DstProtAddress:    ip.AsSlice(),
		},
	}
}

// advertisement is an unsolicited neighbour advertisement to all nodes, which overrides what they knew (RFC 4861 section 7.2.6).
func advertisement(mac net.HardwareAddr, ip netip.Addr) []gopacket.SerializableLayer {
	const override = 0x20 // section 4.4
	network := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: ip.AsSlice(), DstIP: net.IPv6linklocalallnodes}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborAdvertisement, 0)}
	icmp.SetNetworkLayerForChecksum(network)
	return []gopacket.SerializableLayer{
		&layers.Ethernet{SrcMAC: mac, DstMAC: net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, EthernetType: layers.EthernetTypeIPv6},
		network, icmp,
		&layers.ICMPv6NeighborAdvertisement{
			Flags:         override,
			TargetAddress: ip.AsSlice(),
			Options:       layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: mac}},
		},
	}
}
