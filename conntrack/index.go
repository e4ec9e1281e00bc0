package conntrack

import "sync/atomic"

// The index is one open-addressing table of buckets, each a cache line: seven slots of [tag(32) | reverse bit | entry
// number(31)] and a count of the keys that found the bucket full and went on. A lookup stops at the first bucket whose
// count is 0, so a key costs one line unless its home was full. Slots never move; a slot is claimed by compare-and-swap and the counts on the way
// to it are raised before, so a reader without a lock finds every key that is there all the time. That a key is
// there once only is the stripes' business (insert.go).

const slotsPerBucket = 7

// bucket is seven slots and, last, the overflow count.
type bucket [slotsPerBucket + 1]atomic.Uint64

// reverseSlot marks a slot that leads to an entry by its reverse key.
const reverseSlot = 1 << 31

// maxCapacity leaves the reverse bit free in a slot.
const maxCapacity = 1<<31 - 2

// bucketsFor returns how many buckets hold two keys per connection at no more than 5.5 of 7 slots.
func bucketsFor(capacity int) int {
	n := 1
	for n*11 < capacity*4 {
		n *= 2
	}
	return n
}

func slotOf(hash uint64, number uint32) uint64 { return hash<<32 | uint64(number) }

// home returns the number of hash's first bucket (to be masked) and the odd step to the next ones, which visits all.
func home(hash uint64) (b, step uint64) { return hash >> 32, hash<<1 | 1 }

// add puts a slot in. The caller knows that a free slot exists (bucketsFor) and holds the key's stripe.
func (t *Table) add(hash uint64, number uint32) {
	slot := slotOf(hash, number)
	for b, step := home(hash); ; b += step {
		bk := &t.mem.buckets[b&t.mask]
		for i := range slotsPerBucket {
			if bk[i].Load() == 0 && bk[i].CompareAndSwap(0, slot) {
				return
			}
		}
		bk[slotsPerBucket].Add(1)
	}
}

// remove takes out the slot that add put in. The caller holds the key's stripe.
func (t *Table) remove(hash uint64, number uint32) {
	slot := slotOf(hash, number)
	for b, step := home(hash); ; b += step {
		bk := &t.mem.buckets[b&t.mask]
		for i := range slotsPerBucket {
			if bk[i].Load() == slot {
				bk[i].Store(0)
				t.lowerOverflow(hash, b)
				return
			}
		}
		if bk[slotsPerBucket].Load() == 0 {
			panic("conntrack: the index does not know a living connection")
		}
	}
}

// lowerOverflow takes back what add counted on its way to bucket last.
func (t *Table) lowerOverflow(hash, last uint64) {
	for b, step := home(hash); b != last; b += step {
		t.mem.buckets[b&t.mask][slotsPerBucket].Add(^uint64(0))
	}
}
