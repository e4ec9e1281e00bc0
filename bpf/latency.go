package bpf

import (
	"math"
	"math/bits"
	"time"
)

// Histogram counts durations in buckets of at most 1/16 of their value: below 16 ns one for each, above it 16 for each power of two.
type Histogram [512]uint64

// Sub returns what was counted since an earlier reading.
func (h *Histogram) Sub(earlier *Histogram) *Histogram {
	d := *h
	for i := range d {
		d[i] -= earlier[i]
	}
	return &d
}

// Count is how many durations were counted.
func (h *Histogram) Count() (n uint64) {
	for _, c := range h {
		n += c
	}
	return n
}

// Quantile returns the duration that the share q, 0 to 1, of all did not exceed, rounded up to its bucket's end; 0 when there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	want := max(1, uint64(math.Ceil(q*float64(h.Count()))))
	for i, c := range h {
		if c >= want {
			return bucketEnd(i)
		}
		want -= c
	}
	return 0
}

// bucketOf is traffic.c's measure.
func bucketOf(ns uint32) int {
	if ns < 16 {
		return int(ns)
	}
	power := bits.Len32(ns) - 1
	return (power-3)*16 + int(ns>>(power-4)&15)
}

// bucketEnd returns the largest duration in a bucket.
func bucketEnd(i int) time.Duration {
	if i < 16 {
		return time.Duration(i)
	}
	power := i/16 + 3
	return time.Duration(uint64(16+i%16+1)<<(power-4) - 1)
}
