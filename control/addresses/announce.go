package addresses

import (
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"weir/dataplane/packet"
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
	if addr.Is4() {
		return arp(mac, addr)
	}
	return advertisement(mac, addr)
}

// arp is an ARP announcement: a broadcast request for one's own address (RFC 826, RFC 5227 section 2.3).
func arp(mac net.HardwareAddr, addr lb.Addr) []byte {
	ip := addr.Netip().AsSlice()
	const (
		header  = "\x00\x01\x08\x00\x06\x04" // Ethernet, IPv4, their addresses' lengths
		request = "\x00\x01"
		target  = "\x00\x00\x00\x00\x00\x00" // what is asked for
	)
	return slices.Concat(ethernet(mac, "\xff\xff\xff\xff\xff\xff", unix.ETH_P_ARP), []byte(header+request), mac, ip, []byte(target), ip)
}

// advertisement is an unsolicited neighbour advertisement to all nodes, from the address itself, which overrides what they
// knew of it (RFC 4861 sections 4.4 and 7.2.6).
func advertisement(mac net.HardwareAddr, addr lb.Addr) []byte {
	src, all := addr.As16(), []byte(net.IPv6linklocalallnodes)
	const (
		typeCodeSum  = "\x88\x00\x00\x00"
		override     = "\x20\x00\x00\x00"
		targetOption = "\x02\x01" // target link-layer address, 8 bytes long
	)
	icmp := slices.Concat([]byte(typeCodeSum+override), src[:], []byte(targetOption), mac)
	pseudo := slices.Concat(src[:], all, []byte{0, 0, 0, byte(len(icmp)), 0, 0, 0, unix.IPPROTO_ICMPV6}) // RFC 8200 section 8.1
	binary.BigEndian.PutUint16(icmp[2:], packet.Checksum(append(pseudo, icmp...)))
	const hopLimit = 255 // the only one receivers believe
	header := slices.Concat([]byte{0x60, 0, 0, 0, 0, byte(len(icmp)), unix.IPPROTO_ICMPV6, hopLimit}, src[:], all)
	return slices.Concat(ethernet(mac, "\x33\x33\x00\x00\x00\x01", unix.ETH_P_IPV6), header, icmp)
}

func ethernet(src net.HardwareAddr, dst string, etherType uint16) []byte {
	return binary.BigEndian.AppendUint16(slices.Concat([]byte(dst), src), etherType)
}
