package conntrack

// In assembly for one instruction that Go cannot say: PRFM, a load that nobody waits for.

//go:noescape
func warm(buckets []bucket, mask uint64, hashes []uint64)

//go:noescape
func peek(buckets []bucket, mask uint64, entries []entry, rests []rest, hashes []uint64, places []Place)
