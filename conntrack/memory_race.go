//go:build race

package conntrack

// memory under the race detector lies on Go's heap, because the detector does not see memory that Go did not allocate.
type memory struct {
	entries []entry
	rests   []rest
	buckets []bucket
	due     due
}

func newMemory(entries, buckets int, _ bool) (*memory, error) {
	return &memory{entries: make([]entry, entries), rests: make([]rest, entries), buckets: make([]bucket, buckets), due: make([]dueTime, entries)}, nil
}

func (m *memory) close() { *m = memory{} }
