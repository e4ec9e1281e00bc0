// Package testpkt builds frames for tests and judges what became of them, both with gopacket and never with weir's own
// parser, so that a mistake there cannot hide itself.
//
//	syn := testpkt.TCP(client, vip, testpkt.SYN).To(directorMAC).TTL(64)
//	frame := syn.Bytes()            // lengths and checksums are right
//	…
//	got := testpkt.Decode(t, frame) // addresses, ports, TTL, payload, and whether every checksum holds
//
// A Packet is a value: each method returns a changed copy, so one packet can be the template of a whole table of tests.
package testpkt

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// Flags are a TCP header's flags as on the wire (RFC 9293 section 3.1).
type Flags uint8

const (
	FIN Flags = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
)

// The MAC addresses of a packet that names none: locally administered, one for each role.
var (
	ClientMAC   = MAC(0x10)
	DirectorMAC = MAC(0x20)
)

// MAC returns the locally administered unicast address 02:00:00:00:hi:lo that n stands for.
func MAC(n uint16) net.HardwareAddr {
	return net.HardwareAddr{2, 0, 0, 0, byte(n >> 8), byte(n)}
}

// Packet describes a frame. Make one with TCP, UDP, SCTP, Echo, ICMPError, Raw or ARP.
type Packet struct {
	src, dst         netip.Addr
	srcPort, dstPort uint16
	proto            layers.IPProtocol
	arp, raw         bool

	srcMAC, dstMAC net.HardwareAddr
	vlans          []uint16
	outerTag       layers.EthernetType // 802.1Q unless ServiceTag says 802.1ad

	ttl, tos   uint8
	id         uint16
	df, mf     bool
	fragOffset uint16
	options    []byte // IPv4 only, padded to four bytes
	extensions []extension

	flags      Flags
	seq, ack   uint32
	window     uint16
	tcpOptions []layers.TCPOption

	icmpType, icmpCode uint8
	icmpRest           uint32

	chunks []Chunk

	payload    []byte
	noChecksum bool
	size, pad  int // of the frame; 0: as it comes
	outer      *Packet
}

func newPacket(src, dst netip.Addr, proto layers.IPProtocol) Packet {
	return Packet{src: src.Unmap(), dst: dst.Unmap(), proto: proto, srcMAC: ClientMAC, dstMAC: DirectorMAC,
		ttl: 64, id: 0x1234, window: 65535, seq: 1000, outerTag: layers.EthernetTypeDot1Q}
}

// TCP returns a segment with the given flags; its family is that of the addresses.
func TCP(src, dst netip.AddrPort, flags ...Flags) Packet {
	p := newPacket(src.Addr(), dst.Addr(), layers.IPProtocolTCP)
	p.srcPort, p.dstPort = src.Port(), dst.Port()
	for _, f := range flags {
		p.flags |= f
	}
	if p.flags&ACK != 0 {
		p.ack = 2000
	}
	return p
}

// UDP returns a datagram without payload.
func UDP(src, dst netip.AddrPort) Packet {
	p := newPacket(src.Addr(), dst.Addr(), layers.IPProtocolUDP)
	p.srcPort, p.dstPort = src.Port(), dst.Port()
	return p
}

// Echo returns an ICMP or ICMPv6 echo request.
func Echo(src, dst netip.Addr) Packet {
	p := newPacket(src, dst, layers.IPProtocolICMPv4)
	p.icmpType, p.icmpRest = layers.ICMPv4TypeEchoRequest, 7<<16|1
	if p.src.Is6() {
		p.proto, p.icmpType = layers.IPProtocolICMPv6, layers.ICMPv6TypeEchoRequest
	}
	return p
}

// ICMPError returns the ICMP or ICMPv6 error that src sends to dst about the packet about, of which it quotes the IP header and all that
// follows. rest is the header's second word: the next hop's MTU of "fragmentation needed" or "packet too big".
func ICMPError(src, dst netip.Addr, typ, code uint8, rest uint32, about Packet) Packet {
	p := newPacket(src, dst, layers.IPProtocolICMPv4)
	if p.src.Is6() {
		p.proto = layers.IPProtocolICMPv6
	}
	p.icmpType, p.icmpCode, p.icmpRest = typ, code, rest
	about.vlans = nil
	p.payload = about.Bytes()[14:]
	return p
}

// Raw returns an IP packet of any protocol number whose payload is all that follows the IP header.
func Raw(src, dst netip.Addr, proto uint8) Packet {
	p := newPacket(src, dst, layers.IPProtocol(proto))
	p.raw = true
	return p
}

// ARP returns a broadcast request from src for dst.
func ARP(src, dst netip.Addr) Packet {
	p := newPacket(src, dst, 0)
	p.arp, p.dstMAC = true, layers.EthernetBroadcast
	return p
}

// From sets the source MAC address.
func (p Packet) From(mac net.HardwareAddr) Packet { p.srcMAC = mac; return p }

// To sets the destination MAC address.
func (p Packet) To(mac net.HardwareAddr) Packet { p.dstMAC = mac; return p }

// VLAN adds tags, outermost first.
func (p Packet) VLAN(ids ...uint16) Packet {
	p.vlans = append(p.vlans[:len(p.vlans):len(p.vlans)], ids...)
	return p
}

// ServiceTag makes the outermost VLAN tag an 802.1ad one.
func (p Packet) ServiceTag() Packet { p.outerTag = layers.EthernetTypeQinQ; return p }

// TTL sets the TTL or hop limit; 64 unless set.
func (p Packet) TTL(n uint8) Packet { p.ttl = n; return p }

// TOS sets the TOS byte or traffic class, ECN bits included.
func (p Packet) TOS(n uint8) Packet { p.tos = n; return p }

// ID sets the IPv4 identification.
func (p Packet) ID(n uint16) Packet { p.id = n; return p }

// DF sets "don't fragment".
func (p Packet) DF() Packet { p.df = true; return p }

// Fragment makes the packet a fragment that starts offset bytes (a multiple of eight) into the original payload. One that does not start
// at 0 has no layer-4 header: its payload follows the IP header. On IPv6 it gets a fragment header.
func (p Packet) Fragment(offset uint16, more bool) Packet {
	p.fragOffset, p.mf = offset, more
	return p
}

// Options sets IPv4 options, which are padded to a multiple of four bytes; at most 40.
func (p Packet) Options(b ...byte) Packet { p.options = b; return p }

// extension is an IPv6 extension header: what it is and what follows its length.
type extension struct {
	kind uint8
	body []byte
}

// Extension adds an IPv6 extension header of a kind (0 hop-by-hop, 43 routing, 60 destination options) behind those there are. Its body, what
// follows the length byte, is padded with zeros (Pad1 options) to a multiple of eight bytes.
func (p Packet) Extension(kind uint8, body ...byte) Packet {
	p.extensions = append(p.extensions[:len(p.extensions):len(p.extensions)], extension{kind, body})
	return p
}

// Seq sets a segment's sequence number.
func (p Packet) Seq(n uint32) Packet { p.seq = n; return p }

// Ack sets a segment's acknowledgment number.
func (p Packet) Ack(n uint32) Packet { p.ack = n; return p }

// Window sets a segment's window.
func (p Packet) Window(n uint16) Packet { p.window = n; return p }

// TCPOption adds an option to a segment.
func (p Packet) TCPOption(kind uint8, data ...byte) Packet {
	o := layers.TCPOption{OptionType: layers.TCPOptionKind(kind), OptionLength: uint8(2 + len(data)), OptionData: data}
	if kind <= layers.TCPOptionKindNop {
		o.OptionLength = 1
	}
	p.tcpOptions = append(p.tcpOptions[:len(p.tcpOptions):len(p.tcpOptions)], o)
	return p
}

// MSS adds a maximum-segment-size option.
func (p Packet) MSS(n uint16) Packet {
	return p.TCPOption(layers.TCPOptionKindMSS, byte(n>>8), byte(n))
}

// Payload sets what follows the last header.
func (p Packet) Payload(b []byte) Packet { p.payload = b; return p }

// Text is Payload for strings.
func (p Packet) Text(s string) Packet { p.payload = []byte(s); return p }

// Size fills the payload with Pattern so that the whole frame has n bytes; Bytes panics if the headers alone are longer.
func (p Packet) Size(n int) Packet { p.size = n; return p }

// Pad puts zeros behind the IP packet until the frame has n bytes, as a real NIC does up to 60. Unpadded frames are as short as they are,
// which is how a veth carries them.
func (p Packet) Pad(n int) Packet { p.pad = n; return p }

// NoChecksum leaves a UDP checksum zero, "not computed" (RFC 768).
func (p Packet) NoChecksum() Packet { p.noChecksum = true; return p }

// Via puts the packet into an outer IP header from src to dst, of the outer addresses' family, as TUN does (RFC 2003). The methods
// called on the result are about the inner packet, except for MACs and VLAN tags, which a frame has only once.
func (p Packet) Via(src, dst netip.Addr) Packet {
	outer := newPacket(src, dst, layers.IPProtocolIPv4)
	p.outer = &outer
	return p
}

// Pattern returns n bytes of which no two neighbourhoods are alike, so that a shift or a cut shows.
func Pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8*13 + 1)
	}
	return b
}

// Bytes returns the frame. It panics when the description is impossible, which is a mistake of the test.
func (p Packet) Bytes() []byte {
	if p.size != 0 {
		bare := p
		bare.size, bare.pad, bare.payload = 0, 0, nil
		n := p.size - len(bare.Bytes())
		if n < 0 {
			panic(fmt.Sprintf("testpkt: %d bytes do not hold the headers", p.size))
		}
		p.payload = Pattern(n)
	}
	buf := gopacket.NewSerializeBuffer()
	prepend(buf, gopacket.Payload(p.payload))
	var next layers.EthernetType
	switch {
	case p.arp:
		p.prependARP(buf)
		next = layers.EthernetTypeARP
	default:
		network := p.network()
		if p.fragOffset == 0 && !p.raw {
			p.prependTransport(buf, network)
		}
		next = p.prependNetwork(buf, network)
		if p.outer != nil {
			if next == layers.EthernetTypeIPv6 {
				p.outer.proto = layers.IPProtocolIPv6
			}
			next = p.outer.prependNetwork(buf, p.outer.network())
		}
	}
	p.prependTags(buf, next)
	n := 14 + len(buf.Bytes())
	prepend(buf, &layers.Ethernet{SrcMAC: p.srcMAC, DstMAC: p.dstMAC, EthernetType: p.etherType(next)})
	for len(buf.Bytes()) < p.pad {
		buf.AppendBytes(1)
	}
	return buf.Bytes()[:max(n, p.pad)] // gopacket pads to 60 bytes, asked or not
}

var fix = gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}

func prepend(buf gopacket.SerializeBuffer, l gopacket.SerializableLayer) {
	if err := l.SerializeTo(buf, fix); err != nil {
		panic(fmt.Sprintf("testpkt: %v", err))
	}
}

// network returns the IP header, which the checksum of the layer above needs too.
func (p *Packet) network() gopacket.NetworkLayer {
	if p.src.Is4() != p.dst.Is4() {
		panic(fmt.Sprintf("testpkt: %s and %s are of different families", p.src, p.dst))
	}
	if p.src.Is6() {
		ip := &layers.IPv6{Version: 6, TrafficClass: p.tos, HopLimit: p.ttl, NextHeader: p.proto, SrcIP: p.src.AsSlice(), DstIP: p.dst.AsSlice()}
		if p.mf || p.fragOffset != 0 {
			ip.NextHeader = layers.IPProtocolIPv6Fragment
		}
		return ip // prependNetwork puts the extension headers in front
	}
	ip := &layers.IPv4{Version: 4, TOS: p.tos, Id: p.id, TTL: p.ttl, Protocol: p.proto, SrcIP: p.src.AsSlice(), DstIP: p.dst.AsSlice(),
		FragOffset: p.fragOffset / 8}
	if p.df {
		ip.Flags |= layers.IPv4DontFragment
	}
	if p.mf {
		ip.Flags |= layers.IPv4MoreFragments
	}
	if len(p.options) > 0 {
		// gopacket writes an option as type, length and data, or as the bare type for "end" and "no operation".
		ip.Options = ipOptions(p.options)
	}
	return ip
}

func ipOptions(b []byte) (opts []layers.IPv4Option) {
	for len(b) > 0 {
		if b[0] <= 1 {
			opts, b = append(opts, layers.IPv4Option{OptionType: b[0]}), b[1:]
			continue
		}
		if len(b) < 2 || int(b[1]) < 2 || int(b[1]) > len(b) {
			panic("testpkt: an IPv4 option's length does not fit its bytes")
		}
		n := int(b[1])
		opts, b = append(opts, layers.IPv4Option{OptionType: b[0], OptionLength: b[1], OptionData: b[2:n]}), b[n:]
	}
	return opts
}

func (p *Packet) prependNetwork(buf gopacket.SerializeBuffer, network gopacket.NetworkLayer) layers.EthernetType {
	if ip, ok := network.(*layers.IPv4); ok {
		prepend(buf, ip)
		return layers.EthernetTypeIPv4
	}
	ip := network.(*layers.IPv6)
	if ip.NextHeader == layers.IPProtocolIPv6Fragment {
		// gopacket decodes the fragment header but does not write it (RFC 8200 section 4.5).
		h, _ := buf.PrependBytes(8)
		h[0], h[1] = byte(p.proto), 0
		offset := p.fragOffset &^ 7
		if p.mf {
			offset |= 1
		}
		binary.BigEndian.PutUint16(h[2:], offset)
		binary.BigEndian.PutUint32(h[4:], uint32(p.id))
	}
	for _, e := range slices.Backward(p.extensions) {
		units := (2 + len(e.body) + 7) / 8
		h, _ := buf.PrependBytes(8 * units)
		clear(h)
		h[0], h[1] = byte(ip.NextHeader), byte(units-1)
		copy(h[2:], e.body)
		ip.NextHeader = layers.IPProtocol(e.kind)
	}
	// gopacket takes a hop-by-hop header for one that it has to write.
	hop := ip.NextHeader
	if hop == layers.IPProtocolIPv6HopByHop {
		ip.NextHeader = layers.IPProtocolNoNextHeader
	}
	prepend(buf, ip)
	buf.Bytes()[6] = byte(hop)
	return layers.EthernetTypeIPv6
}

func (p *Packet) prependTransport(buf gopacket.SerializeBuffer, network gopacket.NetworkLayer) {
	switch p.proto {
	case layers.IPProtocolTCP:
		tcp := &layers.TCP{SrcPort: layers.TCPPort(p.srcPort), DstPort: layers.TCPPort(p.dstPort), Seq: p.seq, Ack: p.ack, Window: p.window,
			FIN: p.flags&FIN != 0, SYN: p.flags&SYN != 0, RST: p.flags&RST != 0, PSH: p.flags&PSH != 0, ACK: p.flags&ACK != 0,
			URG: p.flags&URG != 0, ECE: p.flags&ECE != 0, CWR: p.flags&CWR != 0, Options: p.tcpOptions}
		tcp.SetNetworkLayerForChecksum(network)
		prepend(buf, tcp)
	case layers.IPProtocolUDP:
		udp := &layers.UDP{SrcPort: layers.UDPPort(p.srcPort), DstPort: layers.UDPPort(p.dstPort)}
		udp.SetNetworkLayerForChecksum(network)
		prepend(buf, udp)
		sum := buf.Bytes()[6:8]
		switch {
		case p.noChecksum:
			sum[0], sum[1] = 0, 0
		case sum[0] == 0 && sum[1] == 0: // RFC 768: a computed zero is sent as all ones; gopacket leaves it
			sum[0], sum[1] = 0xff, 0xff
		}
	case layers.IPProtocolSCTP:
		p.prependSCTP(buf)
	case layers.IPProtocolICMPv4:
		prepend(buf, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(p.icmpType, p.icmpCode),
			Id: uint16(p.icmpRest >> 16), Seq: uint16(p.icmpRest)})
	case layers.IPProtocolICMPv6:
		rest, _ := buf.PrependBytes(4)
		binary.BigEndian.PutUint32(rest, p.icmpRest)
		icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(p.icmpType, p.icmpCode)}
		icmp.SetNetworkLayerForChecksum(network)
		prepend(buf, icmp)
	}
}

func (p *Packet) prependARP(buf gopacket.SerializeBuffer) {
	prepend(buf, &layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation: layers.ARPRequest, SourceHwAddress: p.srcMAC, SourceProtAddress: p.src.AsSlice(),
		DstHwAddress: make([]byte, 6), DstProtAddress: p.dst.AsSlice()})
}

// prependTags writes the VLAN tags, innermost first, in front of a packet of the given type.
func (p *Packet) prependTags(buf gopacket.SerializeBuffer, next layers.EthernetType) {
	for _, id := range slices.Backward(p.vlans) {
		prepend(buf, &layers.Dot1Q{VLANIdentifier: id, Type: next})
		next = layers.EthernetTypeDot1Q
	}
}

// etherType returns the type in the Ethernet header of a frame whose packet is of the given type.
func (p *Packet) etherType(packet layers.EthernetType) layers.EthernetType {
	if len(p.vlans) > 0 {
		return p.outerTag
	}
	return packet
}
