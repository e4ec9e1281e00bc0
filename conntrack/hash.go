package conntrack

import (
	"math/bits"
	"math/rand/v2"

	"weir/lb"
)

// seed makes a table's hash its own, so that nobody outside can choose flows that meet in one bucket (hash flooding).
type seed [4]uint64

func newSeed() (s seed) {
	for i := range s {
		s[i] = rand.Uint64() // the runtime's ChaCha8, seeded by the kernel
	}
	return s
}

// fold multiplies and folds the product's halves: every bit of either factor reaches most bits of the result.
func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// hash mixes the two addresses (which come in registers) and the word of ports, protocol and kind.
func (s *seed) hash(f *lb.Flow, kind uint64) uint64 {
	ports := uint64(f.SrcPort)<<32 | uint64(f.DstPort)<<16 | uint64(f.Proto) | kind
	return fold(fold(f.Src.Lo^s[0], f.Dst.Lo^s[1])^f.Src.Hi^s[2], fold(f.Dst.Hi^s[3], ports^s[0])^s[1])
}
