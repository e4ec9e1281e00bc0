package host

import "time"

// bucket is a token bucket: rate tokens a second, of which a hundredth of a second's can be saved up.
type bucket struct {
	rate, depth float64 // tokens per second; tokens
	tokens      float64
	last        time.Time
}

func newBucket(rate int, now time.Time) bucket {
	depth := max(float64(rate)/100, 1)
	return bucket{rate: float64(rate), depth: depth, tokens: depth, last: now}
}

// take takes up to n tokens and returns how many it got.
func (b *bucket) take(now time.Time, n int) int {
	b.tokens = min(b.tokens+now.Sub(b.last).Seconds()*b.rate, b.depth)
	b.last = now
	n = min(n, int(b.tokens))
	b.tokens -= float64(n)
	return n
}

// wait returns how long it takes until there is a token, but at least linger.
func (b *bucket) wait() time.Duration {
	return max(time.Duration((1-b.tokens)/b.rate*float64(time.Second)), linger)
}
