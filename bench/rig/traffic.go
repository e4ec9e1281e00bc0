package rig

import (
	"net/netip"

	"weir/internal/testpkt"
)

// Traffic says what a load's packets are.
type Traffic string

const (
	UDP    Traffic = "udp"
	TCPSYN Traffic = "tcp-syn" // SYNs of connections that have begun, as a client sends that hears no answer
	TCPACK Traffic = "tcp-ack"
	TCPMix Traffic = "tcp-mix" // a SYN to ten ACKs
)

// Traffics are all of them.
var Traffics = []Traffic{UDP, TCPSYN, TCPACK, TCPMix}

// IMIX, as a load's size, is packets of three sizes in turn, as they were once counted on the internet: 7 of 64 bytes, 4 of 594 and
// one of 1,518, which is IP packets of 40 (and padding), 576 and 1,500.
const IMIX = 0

var imix = []int{64, 594, 64, 64, 594, 64, 1518, 64, 594, 64, 594, 64}

// LeastIPv6 is the size of the least frame of IPv6 that the generator makes.
const LeastIPv6 = 84

// sizes of the frames in turn, FCS included.
func (l *Load) sizes() []int {
	if l.Size == IMIX {
		return imix
	}
	return []int{l.Size}
}

// flags of the segments in turn; none: it is UDP.
func (l *Load) flags() []testpkt.Flags {
	switch l.Traffic {
	case TCPSYN:
		return []testpkt.Flags{testpkt.SYN}
	case TCPACK:
		return []testpkt.Flags{testpkt.ACK}
	case TCPMix: // 11: shares no factor with the usual numbers of flows, so that every flow has both
		mix := []testpkt.Flags{testpkt.SYN}
		for len(mix) < 11 {
			mix = append(mix, testpkt.ACK)
		}
		return mix
	}
	return nil
}

// protocol is how nftables calls it, and rules its first letter.
func (l *Load) protocol() string {
	if l.Traffic == UDP {
		return "udp"
	}
	return "tcp"
}

// opening are the packets that connections begin with.
func (s *setting) opening() [][]byte {
	if s.Traffic == UDP {
		return s.packets()
	}
	return [][]byte{s.packet(s.sizes()[0], testpkt.SYN)}
}

// packets are what the generator sends copies of, in turn.
func (s *setting) packets() (all [][]byte) {
	sizes, flags := s.sizes(), s.flags()
	for i := range max(len(sizes), len(flags)) {
		var f testpkt.Flags
		if len(flags) > 0 {
			f = flags[i%len(flags)]
		}
		all = append(all, s.packet(sizes[i%len(sizes)], f))
	}
	return all
}

// packet returns one with a payload of zeros.
func (s *setting) packet(size int, flags testpkt.Flags) []byte {
	const fcs = 4
	e := s.ends()
	p, headers := testpkt.UDP(e.firstClient, e.vip), 14+20+8
	if s.Traffic != UDP {
		p, headers = testpkt.TCP(e.firstClient, e.vip, flags), 14+20+20
	}
	if s.IPv6 {
		headers += 20
	}
	return p.From(gatewayMAC).To(s.front.MAC).Payload(make([]byte, size-headers-fcs)).Bytes()
}

// service returns the VIP as a rule of ipvsadm's grammar names it.
func (l *Load) service(address netip.AddrPort) string {
	return "-" + l.protocol()[:1] + " " + address.String()
}
