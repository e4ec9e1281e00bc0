//go:build !amd64 && !arm64

package conntrack

func warm(buckets []bucket, mask uint64, hashes []uint64) { warmPortably(buckets, mask, hashes) }

func peek(buckets []bucket, mask uint64, entries []entry, rests []rest, hashes []uint64, places []Place) {
	peekPortably(buckets, mask, entries, rests, hashes, places)
}
