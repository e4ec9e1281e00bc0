package conntrack

import (
	"math/bits"
	"math/rand/v2"

	"weir/lb"
)

// seed makes a table's hash its own, so that nobody outside can choose flows that meet in one bucket (hash flooding).
type seed [6]uint64

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

// hash mixes the two addresses (which come in registers) and the word of ports, protocol and kind. Each word goes through two
// multiplications by unlike factors, the second of which all share: by one alone, neighbouring IPv6 networks fell badly with one seed in
// twenty.
func (s *seed) hash(f *lb.Flow, kind uint64) uint64 {
	return s.of(f.Src, f.Dst, uint64(f.SrcPort)<<32|uint64(f.DstPort)<<16|uint64(f.Proto)|kind)
}

func (s *seed) of(from, to lb.Addr, ports uint64) uint64 {
	src, dst := fold(from.Lo^s[0], from.Hi^s[1]), fold(to.Lo^s[2], to.Hi^s[3])
	return fold(src^fold(ports^s[1], s[4]), dst^s[5])
}
