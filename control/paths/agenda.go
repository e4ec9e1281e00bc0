package paths

import (
	"container/heap"
	"time"
)

// agenda is a heap of the next hops that are to be asked for, the earliest first: with 100,000 of them, looking for those that are due
// must not mean to look at all. Guarded by Watcher.mu.
type agenda []*nextHop

// set changes when nh is due; the zero time: never.
func (a *agenda) set(nh *nextHop, due time.Time) {
	was := nh.due
	nh.due = due
	switch {
	case was.IsZero() && !due.IsZero():
		heap.Push(a, nh)
	case !was.IsZero() && due.IsZero():
		heap.Remove(a, nh.place)
	case !due.IsZero():
		heap.Fix(a, nh.place)
	}
}

// heap.Interface, for container/heap only.

func (a agenda) Len() int { return len(a) }

func (a agenda) Less(i, j int) bool { return a[i].due.Before(a[j].due) }

func (a agenda) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].place, a[j].place = i, j
}

func (a *agenda) Push(x any) {
	nh := x.(*nextHop)
	nh.place = len(*a)
	*a = append(*a, nh)
}

func (a *agenda) Pop() any {
	old := *a
	last := len(old) - 1
	nh := old[last]
	old[last] = nil
	*a = old[:last]
	return nh
}
