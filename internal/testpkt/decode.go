package testpkt

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// View is a frame as gopacket reads it.
type View struct {
	Frame          []byte
	SrcMAC, DstMAC net.HardwareAddr
	VLANs          []uint16 // outermost first
	ARP            *layers.ARP

	IP // the outermost IP header and what it carries
}

// IP is one IP packet of a frame.
type IP struct {
	Header   []byte         // of IP, with its options or extension headers
	Length   int            // of the IP packet, as its header says
	Src, Dst netip.AddrPort // port 0 where there is none
	Proto    uint8          // what the last IP header says follows
	TTL, TOS uint8
	ID       uint16
	DF, MF   bool
	Offset   int // of a fragment, in bytes

	Flags    Flags // TCP
	Seq, Ack uint32
	Window   uint16

	Chunks []Chunk // SCTP; of a first fragment those that are there whole
	CRC    uint32

	ICMPType, ICMPCode uint8
	ICMPRest           uint32

	Payload []byte // behind the layer-4 header; of a later fragment behind the IP header; without Ethernet padding
	Inner   *IP    // of IP in IP (RFC 2003, RFC 2473), in GRE, and in GUE, which is UDP to GUEPort
	Tunnel  []byte // the GRE or GUE header in front of Inner

	// Checksums is nil when every checksum of this packet (not of an inner one) holds, judged by adding up all its bytes. A UDP checksum
	// of zero holds on IPv4 (RFC 768) and does not on IPv6 (RFC 8200 section 8.1). Those of fragments are not judged.
	Checksums   error
	ZeroUDP     bool   // the UDP checksum is zero: not computed
	L4Checksum  uint16 // as carried
	HasL4Header bool
}

// Decode reads a frame and fails the test when gopacket cannot make sense of it.
func Decode(t testing.TB, frame []byte) *View {
	t.Helper()
	v, err := Parse(frame)
	if err != nil {
		t.Fatalf("testpkt: %v in frame %x", err, frame)
	}
	return v
}

// MustHold fails the test unless every checksum of the packet and of what it carries holds.
func (v *View) MustHold(t testing.TB) *View {
	t.Helper()
	for ip := &v.IP; ip != nil; ip = ip.Inner {
		if ip.Checksums != nil {
			t.Fatalf("testpkt: %v in frame %x", ip.Checksums, v.Frame)
		}
	}
	return v
}

// Parse is Decode for callers without a test at hand.
func Parse(frame []byte) (*View, error) {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy)
	eth, ok := p.LinkLayer().(*layers.Ethernet)
	if !ok {
		return nil, fmt.Errorf("no Ethernet header")
	}
	v := &View{Frame: frame, SrcMAC: eth.SrcMAC, DstMAC: eth.DstMAC}
	rest, next := eth.Payload, eth.EthernetType
	for next == layers.EthernetTypeDot1Q || next == layers.EthernetTypeQinQ || next == 0x9100 {
		var tag layers.Dot1Q
		if err := tag.DecodeFromBytes(rest, gopacket.NilDecodeFeedback); err != nil {
			return nil, fmt.Errorf("VLAN tag: %w", err)
		}
		v.VLANs = append(v.VLANs, tag.VLANIdentifier)
		rest, next = tag.Payload, tag.Type
	}
	switch next {
	case layers.EthernetTypeIPv4, layers.EthernetTypeIPv6:
		ip, err := parseIP(rest)
		if err != nil {
			return nil, err
		}
		v.IP = *ip
	case layers.EthernetTypeARP:
		v.ARP = &layers.ARP{}
		if err := v.ARP.DecodeFromBytes(rest, gopacket.NilDecodeFeedback); err != nil {
			return nil, fmt.Errorf("ARP: %w", err)
		}
	}
	return v, nil
}

func parseIP(b []byte) (*IP, error) {
	if len(b) == 0 {
		return nil, fmt.Errorf("no IP header")
	}
	if b[0]>>4 == 6 {
		return parse6(b)
	}
	var h layers.IPv4
	if err := h.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
		return nil, fmt.Errorf("IPv4: %w", err)
	}
	if int(h.Length) > len(b) {
		return nil, fmt.Errorf("IPv4: total length %d of %d bytes", h.Length, len(b))
	}
	ip := &IP{Header: h.Contents, Length: int(h.Length), Proto: uint8(h.Protocol), TTL: h.TTL, TOS: h.TOS, ID: h.Id,
		DF: h.Flags&layers.IPv4DontFragment != 0, MF: h.Flags&layers.IPv4MoreFragments != 0, Offset: int(h.FragOffset) * 8}
	if sum := onesSum(0, h.Contents); sum != 0xffff {
		ip.Checksums = fmt.Errorf("IPv4 header checksum %#04x does not hold", h.Checksum)
	}
	return ip, ip.parseTransport(addrOf(h.SrcIP), addrOf(h.DstIP), h.Payload)
}

func parse6(b []byte) (*IP, error) {
	var h layers.IPv6
	if err := h.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
		return nil, fmt.Errorf("IPv6: %w", err)
	}
	if 40+int(h.Length) > len(b) {
		return nil, fmt.Errorf("IPv6: payload length %d of %d bytes", h.Length, len(b)-40)
	}
	ip := &IP{Length: 40 + int(h.Length), TTL: h.HopLimit, TOS: h.TrafficClass}
	next, rest := h.NextHeader, b[40:40+int(h.Length)] // gopacket has stepped over options for every hop
	for ext := true; ext; {
		switch next {
		case layers.IPProtocolIPv6HopByHop, layers.IPProtocolIPv6Routing, layers.IPProtocolIPv6Destination:
			if len(rest) < 8 || len(rest) < 8+8*int(rest[1]) {
				return nil, fmt.Errorf("IPv6: extension header cut short")
			}
			next, rest = layers.IPProtocol(rest[0]), rest[8+8*int(rest[1]):]
		case layers.IPProtocolIPv6Fragment:
			if len(rest) < 8 {
				return nil, fmt.Errorf("IPv6: fragment header cut short")
			}
			word := binary.BigEndian.Uint16(rest[2:])
			ip.Offset, ip.MF = int(word&^7), word&1 != 0
			ip.ID = uint16(binary.BigEndian.Uint32(rest[4:]))
			next, rest = layers.IPProtocol(rest[0]), rest[8:]
		default:
			ext = false
		}
	}
	ip.Header, ip.Proto = b[:ip.Length-len(rest)], uint8(next)
	return ip, ip.parseTransport(addrOf(h.SrcIP), addrOf(h.DstIP), rest)
}

// parseTransport fills in what follows the IP header, b.
func (ip *IP) parseTransport(src, dst netip.Addr, b []byte) error {
	ip.Src, ip.Dst, ip.Payload = netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, 0), b
	if ip.Offset != 0 {
		return nil
	}
	switch proto := layers.IPProtocol(ip.Proto); proto {
	case layers.IPProtocolIPv4, layers.IPProtocolIPv6, layers.IPProtocolGRE:
		switch {
		case ip.MF: // most of what is inside is elsewhere: see Reassemble
			return nil
		case proto == layers.IPProtocolGRE:
			return ip.parseGRE(b)
		}
		return ip.parseInner(proto, b)
	case layers.IPProtocolTCP:
		var h layers.TCP
		if err := h.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
			return fmt.Errorf("TCP: %w", err)
		}
		ip.ports(uint16(h.SrcPort), uint16(h.DstPort))
		ip.Flags, ip.Seq, ip.Ack, ip.Window, ip.Payload = Flags(b[13]), h.Seq, h.Ack, h.Window, h.Payload
		ip.judge("TCP", h.Checksum, pseudoSum(src, dst, ip.Proto, len(b)), b)
	case layers.IPProtocolUDP:
		var h layers.UDP
		if err := h.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
			return fmt.Errorf("UDP: %w", err)
		}
		if !ip.MF && int(h.Length) != len(b) {
			return fmt.Errorf("UDP: length %d in %d bytes", h.Length, len(b))
		}
		ip.ports(uint16(h.SrcPort), uint16(h.DstPort))
		ip.Payload, ip.ZeroUDP = h.Payload, h.Checksum == 0
		if !ip.ZeroUDP || src.Is6() {
			ip.judge("UDP", h.Checksum, pseudoSum(src, dst, ip.Proto, len(b)), b)
		}
		if h.DstPort == GUEPort && !ip.MF {
			return ip.parseGUE(h.Payload)
		}
	case layers.IPProtocolSCTP:
		return ip.parseSCTP(b)
	case layers.IPProtocolICMPv4, layers.IPProtocolICMPv6:
		if len(b) < 8 {
			return fmt.Errorf("ICMP: %d bytes", len(b))
		}
		ip.HasL4Header = true
		ip.ICMPType, ip.ICMPCode, ip.ICMPRest, ip.Payload = b[0], b[1], binary.BigEndian.Uint32(b[4:]), b[8:]
		sum := uint32(0)
		if proto == layers.IPProtocolICMPv6 {
			sum = pseudoSum(src, dst, ip.Proto, len(b))
		}
		ip.judge("ICMP", binary.BigEndian.Uint16(b[2:]), sum, b)
	}
	return nil
}

// GUEPort is the port that IANA gave to generic UDP encapsulation.
const GUEPort = 6080

// parseGUE reads variant 0 without options or control messages (draft-ietf-intarea-gue section 3.1).
func (ip *IP) parseGUE(b []byte) error {
	if len(b) < 4 || b[0] != 0 || b[2] != 0 || b[3] != 0 {
		return fmt.Errorf("GUE: %x is no plain header", b[:min(len(b), 4)])
	}
	ip.Tunnel = b[:4]
	return ip.parseInner(layers.IPProtocol(b[1]), b[4:])
}

// parseGRE reads RFC 2784.
func (ip *IP) parseGRE(b []byte) error {
	var h layers.GRE
	if err := h.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
		return fmt.Errorf("GRE: %w", err)
	}
	ip.Tunnel, ip.HasL4Header = h.Contents, true
	if h.ChecksumPresent {
		ip.judge("GRE", h.Checksum, 0, b)
	}
	inside := layers.IPProtocolIPv4
	if h.Protocol == layers.EthernetTypeIPv6 {
		inside = layers.IPProtocolIPv6
	}
	return ip.parseInner(inside, h.Payload)
}

func (ip *IP) parseInner(proto layers.IPProtocol, b []byte) error {
	inner, err := parseIP(b)
	if err != nil {
		return fmt.Errorf("inner %w", err)
	}
	if is6 := proto == layers.IPProtocolIPv6; is6 != inner.Src.Addr().Is6() {
		return fmt.Errorf("inner packet is no %s", proto)
	}
	ip.Inner = inner
	return nil
}

func (ip *IP) ports(src, dst uint16) {
	ip.Src, ip.Dst = netip.AddrPortFrom(ip.Src.Addr(), src), netip.AddrPortFrom(ip.Dst.Addr(), dst)
	ip.HasL4Header = true
}

// judge adds up everything a checksum covers, itself included: a right one makes the sum all ones (RFC 1071 section 1). A carried zero
// is the one value this cannot tell from a wrong one of UDP over IPv6, so it is refused by name.
func (ip *IP) judge(name string, carried uint16, sum uint32, b []byte) {
	ip.L4Checksum = carried
	switch {
	case ip.MF:
	case ip.ZeroUDP:
		ip.Checksums = fmt.Errorf("UDP checksum is zero over IPv6")
	case onesSum(sum, b) != 0xffff && ip.Checksums == nil:
		ip.Checksums = fmt.Errorf("%s checksum %#04x does not hold", name, carried)
	}
}

// Quoted reads the packet an ICMP error quotes; of its layer-4 header only the ports, since the rest may be cut off.
func (ip *IP) Quoted() (src, dst netip.AddrPort, proto uint8, err error) {
	b := ip.Payload
	if len(b) < 20 {
		return src, dst, 0, fmt.Errorf("ICMP quotes %d bytes", len(b))
	}
	var s, d netip.Addr
	hdr := 40
	if b[0]>>4 == 4 {
		hdr, proto = int(b[0]&15)*4, b[9]
		s, d = addrOf(b[12:16]), addrOf(b[16:20])
	} else if len(b) >= 40 {
		proto = b[6]
		s, d = addrOf(b[8:24]), addrOf(b[24:40])
	}
	if len(b) < hdr+4 {
		return src, dst, proto, fmt.Errorf("ICMP quotes %d bytes", len(b))
	}
	return netip.AddrPortFrom(s, binary.BigEndian.Uint16(b[hdr:])), netip.AddrPortFrom(d, binary.BigEndian.Uint16(b[hdr+2:])), proto, nil
}

func addrOf(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a.Unmap()
}

// pseudoSum adds up the pseudo header (RFC 9293 section 3.1, RFC 8200 section 8.1).
func pseudoSum(src, dst netip.Addr, proto uint8, n int) uint32 {
	sum := uint32(proto) + uint32(n)
	sum = uint32(onesSum(sum, src.AsSlice()))
	return uint32(onesSum(sum, dst.AsSlice()))
}

// onesSum adds b's 16-bit words to sum in ones' complement (RFC 1071), an odd last byte as if a zero followed.
func onesSum(sum uint32, b []byte) uint16 {
	for i, c := range b {
		if i%2 == 0 {
			sum += uint32(c) << 8
		} else {
			sum += uint32(c)
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}
