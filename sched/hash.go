package sched

import (
	"math/bits"

	"weir/lb"
)

// fold makes one number of an address as IPVS's hashing schedulers do: IPv4 as it is, IPv6's four words XORed.
func fold(a lb.Addr) uint32 {
	if a.Is4() {
		return a.V4()
	}
	x := a.Hi ^ a.Lo
	return uint32(x>>32) ^ uint32(x)
}

// clientHash is what sh and mh hash of a client: the address, and with sh-port or mh-port the source port added.
func clientHash(f *lb.Flow, withPort bool) uint32 {
	v := fold(f.Src)
	if withPort && (f.Proto == lb.TCP || f.Proto == lb.UDP || f.Proto == lb.SCTP) {
		v += uint32(f.SrcPort)
	}
	return v
}

// tableBits makes the 256 buckets of sh and dh (kernel CONFIG_IP_VS_SH_TAB_BITS, CONFIG_IP_VS_DH_TAB_BITS).
const tableBits = 8

// bucketOf is the kernel's hash_32 (include/linux/hash.h): multiplication by 2^32 over the golden ratio.
func bucketOf(v uint32) uint8 { return uint8(v * 0x61C88647 >> (32 - tableBits)) }

// takes reports whether c takes new connections now.
func takes(c *Server) bool { return c.Weight > 0 && !c.Load.Overloaded.Load() }

// sip13 is SipHash-1-3 (Aumasson, Bernstein 2012) with both key words k over whole 8-byte words, the last of which must hold the
// message's length in bytes, modulo 256, in its top byte.
func sip13(k uint64, words ...uint64) uint64 {
	v0, v1, v2, v3 := k^0x736f6d6570736575, k^0x646f72616e646f6d, k^0x6c7967656e657261, k^0x7465646279746573
	for _, m := range words {
		v3 ^= m
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
		v0 ^= m
	}
	v2 ^= 0xff
	for range 3 {
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	}
	return v0 ^ v1 ^ v2 ^ v3
}

func sipRound(v0, v1, v2, v3 uint64) (_, _, _, _ uint64) {
	v0 += v1
	v1 = bits.RotateLeft64(v1, 13) ^ v0
	v0 = bits.RotateLeft64(v0, 32)
	v2 += v3
	v3 = bits.RotateLeft64(v3, 16) ^ v2
	v0 += v3
	v3 = bits.RotateLeft64(v3, 21) ^ v0
	v2 += v1
	v1 = bits.RotateLeft64(v1, 17) ^ v2
	v2 = bits.RotateLeft64(v2, 32)
	return v0, v1, v2, v3
}
