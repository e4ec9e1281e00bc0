package conntrack

// What find_*.s say in assembly, in Go: for other processors, and for the tests to hold the assembly against. Loads instead of prefetches:
// the processor overlaps those that depend on nothing before them, as far as its window reaches.

func warmPortably(buckets []bucket, mask uint64, hashes []uint64) {
	for _, hash := range hashes {
		b, _ := home(hash)
		buckets[b&mask][slotsPerBucket].Load()
	}
}

func peekPortably(buckets []bucket, mask uint64, entries []entry, rests []rest, hashes []uint64, places []Place) {
	for i, hash := range hashes {
		b, _ := home(hash)
		bk := &buckets[b&mask]
		// All slots are looked at: stopping at the right one would cost a wrong guess of the CPU's for most packets.
		slot := uint64(0)
		for j := slotsPerBucket - 1; j >= 0; j-- {
			if s := bk[j].Load(); s>>32 == hash&0xffffffff {
				slot = s
			}
		}
		places[i] = Place(slot)
		n := uint32(slot) &^ reverseSlot
		entries[n][wHead].Load()
		if Place(slot).Answers() {
			rests[n][rPath].Load()
		}
	}
}
