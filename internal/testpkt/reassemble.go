package testpkt

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
)

// Reassemble puts the fragments of one IP datagram, in any order, together to the frame that was cut, as a receiver does (RFC 791 section
// 3.2, RFC 8200 section 4.5). Its error says why they are not all the fragments of one datagram, each one's header sound. Of IPv4 options,
// those of the first fragment are kept. It knows frames without VLAN tags and without extension headers but the fragment's.
func Reassemble(frames [][]byte) ([]byte, error) {
	type part struct {
		header, data []byte
		offset       int
		more         bool
	}
	var parts []part
	for i, f := range frames {
		v, err := Parse(f)
		if err != nil {
			return nil, fmt.Errorf("fragment %d: %w", i, err)
		}
		if v.Checksums != nil {
			return nil, fmt.Errorf("fragment %d: %w", i, v.Checksums)
		}
		if !v.MF && v.Offset == 0 {
			return nil, fmt.Errorf("frame %d is no fragment", i)
		}
		header := 14 + len(v.Header)
		parts = append(parts, part{f[:header], f[header : 14+v.Length], v.Offset, v.MF})
	}
	slices.SortFunc(parts, func(a, b part) int { return cmp.Compare(a.offset, b.offset) })
	var data []byte
	for i, p := range parts {
		switch {
		case p.offset != len(data):
			return nil, fmt.Errorf("fragment %d begins at %d, %d bytes are there", i, p.offset, len(data))
		case p.more != (i < len(parts)-1):
			return nil, fmt.Errorf("fragment %d of %d: more fragments: %t", i, len(parts), p.more)
		case p.more && len(p.data)%8 != 0:
			return nil, fmt.Errorf("fragment %d has %d bytes, no multiple of eight", i, len(p.data))
		case !bytes.Equal(identity(p.header), identity(parts[0].header)):
			return nil, fmt.Errorf("fragment %d is another datagram's: %x, %x", i, p.header, parts[0].header)
		}
		data = append(data, p.data...)
	}
	if len(parts) == 0 {
		return nil, fmt.Errorf("no fragments")
	}
	whole := bytes.Clone(parts[0].header)
	ip := whole[14:]
	if ip[0]>>4 == 6 {
		ip[6] = ip[40]
		binary.BigEndian.PutUint16(ip[4:], uint16(len(data)))
		return append(whole[:14+40], data...), nil
	}
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+len(data)))
	ip[6], ip[7], ip[10], ip[11] = ip[6]&^0x20, 0, 0, 0
	binary.BigEndian.PutUint16(ip[10:], ^onesSum(0, ip))
	return append(whole, data...), nil
}

// identity returns what all fragments of a datagram have in common: of the Ethernet header all, of IPv4 TOS, identification, TTL, protocol and
// addresses, of IPv6 the first word, hop limit, addresses, and the fragment header but for its offset.
func identity(header []byte) (b []byte) {
	ip := header[14:]
	if ip[0]>>4 == 6 {
		return slices.Concat(header[:14], ip[:4], ip[7:41], ip[44:48])
	}
	return slices.Concat(header[:14], ip[:2], ip[4:6], ip[8:10], ip[12:20])
}
