// Package lb holds the words of a load balancer as Go types: what a service, a server and a flow are. It imports nothing
// of weir's, so every other package may speak it.
package lb

import (
	"fmt"
	"net/netip"
)

// Addr is an IP address of either family in network order, as two registers: keys made of it are compared and hashed
// without touching memory. IPv4 is held IPv4-mapped (::ffff:a.b.c.d, RFC 4291 section 2.5.5.2). The zero value is "no address".
type Addr struct{ Hi, Lo uint64 }

// v4Prefix is the low word of ::ffff:0.0.0.0.
const v4Prefix = uint64(0xffff) << 32

// AddrFrom4 returns the address whose four bytes, read in network order, are v.
func AddrFrom4(v uint32) Addr { return Addr{Lo: v4Prefix | uint64(v)} }

// AddrFrom returns a without its zone; an invalid netip.Addr gives the zero Addr.
func AddrFrom(a netip.Addr) Addr {
	if !a.IsValid() {
		return Addr{}
	}
	b := a.As16()
	return Addr{Hi: be64(b[:8]), Lo: be64(b[8:])}
}

// MustParseAddr is AddrFrom(netip.MustParseAddr(s)); it panics on bad input and is meant for tests and constants.
func MustParseAddr(s string) Addr { return AddrFrom(netip.MustParseAddr(s)) }

// IsValid reports whether a is an address at all.
func (a Addr) IsValid() bool { return a != Addr{} }

// Is4 reports whether a is an IPv4 address.
func (a Addr) Is4() bool { return a.Hi == 0 && a.Lo>>32 == 0xffff }

// V4 returns the IPv4 address as a number in host order; it means nothing when Is4 is false.
func (a Addr) V4() uint32 { return uint32(a.Lo) }

// Bits returns the length of an address of a's family: 32 or 128.
func (a Addr) Bits() int {
	if a.Is4() {
		return 32
	}
	return 128
}

// Mask returns a with all but its first bits bits cleared; bits counts within the address's own family.
func (a Addr) Mask(bits int) Addr {
	if a.Is4() {
		if bits >= 32 {
			return a
		}
		return AddrFrom4(a.V4() &^ (0xffffffff >> bits))
	}
	switch {
	case bits >= 128:
		return a
	case bits > 64:
		return Addr{Hi: a.Hi, Lo: a.Lo &^ (^uint64(0) >> (bits - 64))}
	default:
		return Addr{Hi: a.Hi &^ (^uint64(0) >> bits)}
	}
}

// As16 returns the address's 16 bytes, IPv4 mapped.
func (a Addr) As16() (b [16]byte) {
	for i := range 8 {
		b[i] = byte(a.Hi >> (56 - 8*i))
		b[8+i] = byte(a.Lo >> (56 - 8*i))
	}
	return b
}

// Netip returns a as the standard library's type; the zero Addr gives the invalid netip.Addr.
func (a Addr) Netip() netip.Addr {
	if !a.IsValid() {
		return netip.Addr{}
	}
	return netip.AddrFrom16(a.As16()).Unmap()
}

func (a Addr) String() string { return a.Netip().String() }

func be64(b []byte) (v uint64) {
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}

// Proto is an IP protocol number (IANA "protocol-numbers").
type Proto uint8

const (
	TCP  Proto = 6
	UDP  Proto = 17
	SCTP Proto = 132
)

func (p Proto) String() string {
	switch p {
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case SCTP:
		return "SCTP"
	}
	return fmt.Sprintf("proto-%d", uint8(p))
}

// Flow is a packet's 5-tuple, as the packet carries it.
type Flow struct {
	Src, Dst         Addr
	SrcPort, DstPort uint16
	Proto            Proto
}

// Reverse returns the flow of the packets that answer f.
func (f Flow) Reverse() Flow {
	return Flow{Src: f.Dst, Dst: f.Src, SrcPort: f.DstPort, DstPort: f.SrcPort, Proto: f.Proto}
}

func (f Flow) String() string {
	return fmt.Sprintf("%s %s -> %s", f.Proto,
		netip.AddrPortFrom(f.Src.Netip(), f.SrcPort), netip.AddrPortFrom(f.Dst.Netip(), f.DstPort))
}

// Mode is how a packet is brought to its server: IPVS's forwarding method.
type Mode uint8

const (
	DR      Mode = 1 + iota // MAC addresses only (ipvsadm -g)
	NAT                     // destination address and port (ipvsadm -m)
	FULLNAT                 // source and destination (weir's addition, -F)
	TUN                     // an outer header (ipvsadm -i)
	Local                   // the server is the director itself: the packet goes to the kernel as it is
)

func (m Mode) String() string {
	switch m {
	case DR:
		return "DR"
	case NAT:
		return "NAT"
	case FULLNAT:
		return "FULLNAT"
	case TUN:
		return "TUN"
	case Local:
		return "Local"
	}
	return fmt.Sprintf("mode-%d", uint8(m))
}

// ServiceKey names a service: an address, a protocol and a port (0: any port), or a firewall mark (then all else is zero
// but Is6, which tells an IPv6 mark from an IPv4 one).
type ServiceKey struct {
	Addr  Addr
	Port  uint16
	Proto Proto
	Mark  uint32
	Is6   bool
}

// Endpoint is where packets of a protocol come to, or from; port 0 is any.
type Endpoint struct {
	Proto Proto
	Addr  Addr
	Port  uint16
}

func (k ServiceKey) String() string {
	if k.Mark != 0 {
		return fmt.Sprintf("FWM %d", k.Mark)
	}
	return fmt.Sprintf("%s %s", k.Proto, netip.AddrPortFrom(k.Addr.Netip(), k.Port))
}

// ServerID names a server in tables and connections: a slot and the slot's incarnation. The zero ID is no server (slot 0 is never given out).
// A slot keeps its owner until no connection names it, then may go to another server under the next incarnation.
type ServerID uint32

// MaxServers is how many servers can be known at once, removed ones that connections still name included.
const MaxServers = 1 << 20

// NewServerID joins a slot (1 to MaxServers-1) and an incarnation (modulo 4096).
func NewServerID(slot, incarnation uint32) ServerID {
	return ServerID(incarnation<<20 | slot&(MaxServers-1))
}

// Slot returns the ID's place in tables indexed by server.
func (id ServerID) Slot() uint32 { return uint32(id) & (MaxServers - 1) }

// Incarnation tells successive owners of one slot apart.
func (id ServerID) Incarnation() uint32 { return uint32(id) >> 20 }

func (id ServerID) String() string { return fmt.Sprintf("%d.%d", id.Slot(), id.Incarnation()) }
