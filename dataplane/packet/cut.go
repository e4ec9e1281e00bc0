package packet

import "encoding/binary"

// fragmentHeaderLen is the length of IPv6's fragment header (RFC 8200 section 4.5).
//
//	|  Next Header  |   Reserved    |      Fragment Offset    |Res|M|
//	|                         Identification                        |
const fragmentHeaderLen = 8

// moreFragments is the bit in IPv4's flags word.
const moreFragments = 0x2000

// Pieces cuts a packet that is longer than its way carries into ones that are not: an IPv4 packet, which may be a fragment itself, as a
// router does (RFC 791 section 3.2); an IPv6 packet without extension headers, or with no other than a fragment header, as its sender
// does (RFC 8200 section 4.5), which weir is for what it tunnels and for what it made of an IPv4 packet. The packet stays as it is.
type Pieces struct {
	ether, header []byte
	data          []byte // what is still to be sent
	unit          int    // bytes of data in each but the last
	offset        int    // of data in the datagram
	more          bool   // the packet is a fragment that others follow
	is6           bool
	next          byte   // IPv6: what the data begins with
	id            uint32 // IPv6
}

// Pieces returns the pieces of a packet for a way that carries IP packets of most bytes. id is the identification of IPv6's, of a packet
// that is not a fragment; IPv4 packets have one of their own.
func (p *Packet) Pieces(most int, id uint32) Pieces {
	b := p.Buf[p.L3:p.End:p.End]
	if b[0]>>4 == 6 {
		c := Pieces{ether: p.Ethernet(), header: b[:IPv6Len], data: b[IPv6Len:], is6: true, next: b[6], id: id}
		if c.next == nextFragment {
			h := b[IPv6Len : IPv6Len+fragmentHeaderLen]
			word := binary.BigEndian.Uint16(h[2:4])
			c.next, c.offset, c.more, c.id = h[0], int(word&^7), word&1 != 0, binary.BigEndian.Uint32(h[4:8])
			c.data = b[IPv6Len+fragmentHeaderLen:]
		}
		c.unit = max(8, (most-IPv6Len-fragmentHeaderLen)&^7)
		return c
	}
	header := IPv4(b).HeaderLen()
	word := binary.BigEndian.Uint16(b[6:8])
	return Pieces{
		ether: p.Ethernet(), header: b[:header], data: b[header:], unit: max(8, (most-header)&^7),
		offset: int(word&0x1fff) * 8, more: word&moreFragments != 0,
	}
}

// Left reports whether there is another piece.
func (c *Pieces) Left() bool { return len(c.data) > 0 }

// Next writes the frame of the next piece to b and returns its length, 0 if b is too short for it.
func (c *Pieces) Next(b []byte) int {
	n := min(c.unit, len(c.data))
	header := len(c.header)
	if c.is6 {
		header += fragmentHeaderLen
	}
	size := len(c.ether) + header + n
	if len(b) < size {
		return 0
	}
	ip := b[copy(b, c.ether):]
	copy(ip, c.header)
	copy(ip[header:], c.data[:n])
	last := n == len(c.data)
	if c.is6 {
		c.head6(ip, n, last)
	} else {
		c.head4(ip[:header], n, last)
	}
	c.offset += n
	c.data = c.data[n:]
	return size
}

func (c *Pieces) head6(ip []byte, n int, last bool) {
	binary.BigEndian.PutUint16(ip[4:6], uint16(fragmentHeaderLen+n))
	ip[6] = nextFragment
	word := uint16(c.offset)
	if !last || c.more {
		word |= 1
	}
	putFragmentHeader(ip[IPv6Len:], c.next, word, c.id)
}

func putFragmentHeader(b []byte, next byte, word uint16, id uint32) {
	b[0], b[1] = next, 0
	binary.BigEndian.PutUint16(b[2:4], word)
	binary.BigEndian.PutUint32(b[4:8], id)
}

// head4 makes of the packet's header the piece's. The checksum is brought along by the difference: a wrong one stays wrong.
func (c *Pieces) head4(ip []byte, n int, last bool) {
	before := foldSum(sum(0, ip))
	binary.BigEndian.PutUint16(ip[2:4], uint16(len(ip)+n))
	word := binary.BigEndian.Uint16(ip[6:8])&^(0x1fff|moreFragments) | uint16(c.offset/8)
	if !last || c.more {
		word |= moreFragments
	}
	binary.BigEndian.PutUint16(ip[6:8], word)
	if c.offset != 0 {
		blankOptions(ip[IPv4MinLen:])
	}
	IPv4(ip).setChecksum(Update16(IPv4(ip).Checksum(), before, foldSum(sum(0, ip))))
}

// blankOptions puts "no operation" in place of options that only the first fragment has: those without the copied flag, the topmost bit of
// an option's type (RFC 791 section 3.1). The header stays as long as it is, as in net/ipv4/ip_options.c, ip_options_fragment.
func blankOptions(b []byte) {
	const end, nop, copied = 0, 1, 0x80
	for len(b) > 0 && b[0] != end {
		n := 1
		if b[0] != nop {
			if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
				return
			}
			n = int(b[1])
			if b[0]&copied == 0 {
				for i := range n {
					b[i] = nop
				}
			}
		}
		b = b[n:]
	}
}

// Renumber gives an IPv4 packet another identification, unless it is a fragment.
func (p *Packet) Renumber(id uint16) {
	if ip := p.Buf[p.L3:]; ip[0]>>4 == 4 && binary.BigEndian.Uint16(ip[6:8])&(0x1fff|moreFragments) == 0 {
		p.setID(id)
	}
}

// setID writes an IPv4 packet's identification.
func (p *Packet) setID(id uint16) {
	ip := IPv4(p.Buf[p.L3 : p.L3+IPv4MinLen])
	old := ip.ID()
	binary.BigEndian.PutUint16(ip[4:6], id)
	ip.setChecksum(Update16(ip.Checksum(), old, id))
}
