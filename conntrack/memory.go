//go:build !race

package conntrack

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file has the package's only use of unsafe. It is sound because
//   - mmap returns page-aligned memory (so every entry and bucket is 64-byte aligned, and no rest lies in two cache lines), zeroed, of at least the length asked for;
//   - what is laid over it (entry, rest, bucket, atomic.Uint32) is made of fixed-size integers only: no pointer, so the garbage collector need not
//     know the memory, and no bit pattern is invalid;
//   - the slices' length and capacity are exactly what was mapped, so Go's bounds checks hold, and nothing moves or unmaps it until Close;
//   - after Close the slices are nil: a late access panics instead of reading memory that belongs to someone else.
// TestMemoryLayout checks sizes and alignment, TestMemoryEnds writes the first and last word of each region.

// memory is the table's shared state, outside Go's heap: four mappings.
type memory struct {
	entries []entry
	rests   []rest // of the entry with the same number
	buckets []bucket
	due     due
	mapped  [][]byte
}

func newMemory(entries, buckets int, huge bool) (*memory, error) {
	m := &memory{}
	var err error
	if m.entries, err = mapSlice[entry](m, entries, huge); err == nil {
		m.rests, err = mapSlice[rest](m, entries, huge)
	}
	if err == nil {
		m.buckets, err = mapSlice[bucket](m, buckets, huge)
	}
	if err == nil {
		m.due, err = mapSlice[dueTime](m, entries, huge)
	}
	if err != nil {
		m.close()
		return nil, fmt.Errorf("map a table of %d entries: %w", entries, err)
	}
	return m, nil
}

// mapSlice reserves address space only (MAP_NORESERVE): pages come into being as entries are used.
func mapSlice[T entry | rest | bucket | dueTime](m *memory, n int, huge bool) ([]T, error) {
	var zero T
	size := n * int(unsafe.Sizeof(zero))
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("mmap %d bytes: %w", size, err)
	}
	m.mapped = append(m.mapped, b)
	if huge {
		// A kernel without transparent huge pages answers EINVAL: then the pages are small ones, which costs time, not correctness.
		_ = unix.Madvise(b, unix.MADV_HUGEPAGE)
	}
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), n), nil
}

func (m *memory) close() {
	m.entries, m.rests, m.buckets, m.due = nil, nil, nil, nil
	for _, b := range m.mapped {
		_ = unix.Munmap(b)
	}
	m.mapped = nil
}
