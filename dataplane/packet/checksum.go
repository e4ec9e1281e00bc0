package packet

import (
	"encoding/binary"
	"math/bits"

	"weir/lb"
)

// The Internet checksum (RFC 1071): the one's complement of the one's complement sum of 16-bit words. An update works on
// the difference only (RFC 1624, equation 3: HC' = ~(~HC + ~m + m')), so a checksum that was wrong stays wrong: a
// corrupted packet is never made to look sound.

// Update16 returns checksum c after a 16-bit word changed from old to new.
func Update16(c, old, new uint16) uint16 {
	return ^fold(uint32(^c) + uint32(^old) + uint32(new))
}

// delta32 is what changing a 32-bit field adds to the one's complement sum, at most 4 × 0xffff.
func delta32(old, new uint32) uint32 {
	return ^old>>16 + ^old&0xffff + new>>16 + new&0xffff
}

// delta128 is what changing an IPv6 address adds to the one's complement sum, at most 16 × 0xffff.
func delta128(old, new lb.Addr) uint32 {
	return delta32(uint32(old.Hi>>32), uint32(new.Hi>>32)) + delta32(uint32(old.Hi), uint32(new.Hi)) +
		delta32(uint32(old.Lo>>32), uint32(new.Lo>>32)) + delta32(uint32(old.Lo), uint32(new.Lo))
}

// fold brings a sum below 2^32 into 16 bits, carries added back.
func fold(s uint32) uint16 {
	s = s>>16 + s&0xffff
	return uint16(s>>16 + s)
}

// Checksum returns the Internet checksum of b, an odd last byte padded with zero.
func Checksum(b []byte) uint16 { return ^foldSum(sum(0, b)) }

// Pseudo returns the checksum of b, layer 4 with its checksum field zero, with the pseudo header of its family
// (RFC 9293 section 3.1, RFC 8200 section 8.1).
func Pseudo(src, dst lb.Addr, proto uint8, b []byte) uint16 {
	s := uint64(proto) + uint64(len(b))
	if src.Is4() {
		s += uint64(src.V4()) + uint64(dst.V4())
	} else {
		for _, word := range [4]uint64{src.Hi, src.Lo, dst.Hi, dst.Lo} {
			s += word>>32 + word&0xffffffff
		}
	}
	return ^foldSum(sum(s, b))
}

// sum adds b's words to s. 64-bit big-endian words may be added whole: 2^16 ≡ 1 modulo 0xffff (RFC 1071 section 2C).
func sum(s uint64, b []byte) uint64 {
	for len(b) >= 8 {
		var carry uint64
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b), 0)
		s += carry
		b = b[8:]
	}
	if len(b) > 0 {
		var last [8]byte
		copy(last[:], b)
		var carry uint64
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(last[:]), 0)
		s += carry
	}
	return s
}

func foldSum(s uint64) uint16 {
	s = s>>32 + s&0xffffffff
	s = s>>32 + s&0xffffffff
	return fold(uint32(s))
}
