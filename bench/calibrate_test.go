package bench

import "testing"

// BenchmarkCalibrate is what the other benchmarks are divided by in bench/check.sh, so that machines can be compared: work of the same
// kind that no change of weir's touches. cpu hashes and copies within the nearest cache, memory reads at random from 256 MiB.
func BenchmarkCalibrate(b *testing.B) {
	b.Run("kind=cpu", func(b *testing.B) {
		var from, to [256][64]byte
		timed(b, func() {
			sum := uint64(1)
			for i := range b.N {
				f := &from[i&255]
				for j := range 8 {
					sum = (sum ^ uint64(f[j*8])) * 0x9e3779b97f4a7c15
					sum ^= sum >> 29
				}
				copy(to[sum&255][:], f[:])
				f[i&63] = byte(sum)
			}
			sink = sum
		})
	})
	var memory []uint64
	b.Run("kind=memory", func(b *testing.B) {
		if memory == nil {
			memory = make([]uint64, 256<<20/8)
			for i := range memory {
				memory[i] = uint64(i)
			}
		}
		timed(b, func() {
			sum := uint64(1)
			for i := range b.N {
				at := (uint64(i)*0x9e3779b97f4a7c15 ^ sum&1) >> 39 // the next address does not wait for more than one bit of the last value
				sum += memory[at]
			}
			sink = sum
		})
	})
}

var sink uint64
