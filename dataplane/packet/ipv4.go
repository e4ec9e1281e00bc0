package packet

import "encoding/binary"

// IPv4 is a view on an IPv4 packet whose header has been checked (RFC 791 section 3.1).
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	|Version|  IHL  |Type of Service|          Total Length         |
//	|         Identification        |Flags|      Fragment Offset    |
//	|  Time to Live |    Protocol   |         Header Checksum       |
//	|                       Source Address                          |
//	|                    Destination Address                        |
type IPv4 []byte

// DF is the don't-fragment bit in the flags word.
const DF = 0x4000

func (b IPv4) HeaderLen() int       { return int(b[0]&0xf) * 4 }
func (b IPv4) TOS() uint8           { return b[1] }
func (b IPv4) TotalLen() int        { return int(binary.BigEndian.Uint16(b[2:4])) }
func (b IPv4) ID() uint16           { return binary.BigEndian.Uint16(b[4:6]) }
func (b IPv4) DontFragment() bool   { return binary.BigEndian.Uint16(b[6:8])&DF != 0 }
func (b IPv4) TTL() uint8           { return b[8] }
func (b IPv4) Protocol() uint8      { return b[9] }
func (b IPv4) Checksum() uint16     { return binary.BigEndian.Uint16(b[10:12]) }
func (b IPv4) Src() uint32          { return binary.BigEndian.Uint32(b[12:16]) }
func (b IPv4) Dst() uint32          { return binary.BigEndian.Uint32(b[16:20]) }
func (b IPv4) setChecksum(c uint16) { binary.BigEndian.PutUint16(b[10:12], c) }

// DecrementTTL takes one off the TTL, which must be above 0, as a router does (RFC 1812 5.3.1). The TTL is the upper byte of its
// word: the checksum grows by 0x100, its carry added back, all ones written as zero (RFC 1624, RFC 1141).
func (b IPv4) DecrementTTL() {
	b[8]--
	c := uint32(b.Checksum()) + 0x100
	b.setChecksum(uint16(c + (c+1)>>16))
}

// IPv4Fields is what PutIPv4 writes; version 4, no options, no fragment.
type IPv4Fields struct {
	TOS, TTL, Protocol uint8
	TotalLen, ID       uint16
	DF                 bool
	Src, Dst           uint32
}

// PutIPv4 writes a 20-byte header with its checksum to b.
func PutIPv4(b []byte, f IPv4Fields) {
	b = b[:IPv4MinLen]
	first := 0x45<<24 | uint32(f.TOS)<<16 | uint32(f.TotalLen)
	second := uint32(f.ID) << 16
	if f.DF {
		second |= DF
	}
	third := uint32(f.TTL)<<24 | uint32(f.Protocol)<<16
	// 32-bit words may be added whole, as in sum; from registers, since what was just written by halves cannot be read back whole at once.
	third |= uint32(^foldSum(uint64(first) + uint64(second) + uint64(third) + uint64(f.Src) + uint64(f.Dst)))
	binary.BigEndian.PutUint32(b[0:4], first)
	binary.BigEndian.PutUint32(b[4:8], second)
	binary.BigEndian.PutUint32(b[8:12], third)
	binary.BigEndian.PutUint32(b[12:16], f.Src)
	binary.BigEndian.PutUint32(b[16:20], f.Dst)
}
