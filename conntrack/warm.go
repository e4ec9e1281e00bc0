package conntrack

// WarmBucket and WarmEntry bring into the cache what Lookup(hash) is about to read, so that a worker with many packets at hand waits for
// all their cache lines at once instead of for one after the other. Call WarmBucket for each of some 32 hashes, then WarmEntry for
// each, then Lookup. They are plain loads that depend on nothing before them, in loops too short to fill the CPU's window:
// the processor overlaps them. BenchmarkWorker under bench/ is what they are measured by.
func (t *Table) WarmBucket(hash uint64) {
	b, _ := home(hash)
	t.mem.buckets[b&t.mask][slotsPerBucket].Load()
}

// WarmEntry: see WarmBucket. A key that is not in its home bucket is not warmed.
func (t *Table) WarmEntry(hash uint64) {
	b, _ := home(hash)
	bk := &t.mem.buckets[b&t.mask]
	for i := range slotsPerBucket {
		if slot := bk[i].Load(); uint32(slot>>32) == uint32(hash) {
			e := &t.mem.entries[uint32(slot)&^reverseSlot]
			e[wHead].Load()
			if slot&reverseSlot != 0 {
				e[wPath].Load()
			}
			return
		}
	}
}
