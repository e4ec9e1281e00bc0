package conntrack

// Prefetch brings what Lookup will read for a batch of packets into the cache, many at once instead of one after the other: first the buckets,
// then the entries they lead to. Only worth it for tables larger than the cache (BenchmarkLookup).
func (t *Table) Prefetch(hashes []uint64) (mixed uint64) {
	for _, h := range hashes {
		mixed ^= t.mem.buckets[h>>32&t.mask][0].Load()
	}
	for _, h := range hashes {
		bk := &t.mem.buckets[h>>32&t.mask]
		for i := range slotsPerBucket {
			if slot := bk[i].Load(); uint32(slot>>32) == uint32(h) {
				e := &t.mem.entries[uint32(slot)&^reverseSlot]
				mixed ^= e[wHead].Load() ^ e[slot>>28&wServerHi].Load() // the second line for an answer
				break
			}
		}
	}
	return mixed
}
