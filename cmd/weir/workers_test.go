package main

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// A worker's thread is preferred to one like any other of the process, and only that thread is.
func TestWorkersArePreferred(t *testing.T) {
	nice := func() int {
		n, err := unix.Getpriority(unix.PRIO_PROCESS, 0) // of this thread
		if err != nil {
			t.Fatal(err)
		}
		return 20 - n
	}
	type pair struct{ before, after int }
	got := make(chan pair, 1)
	refused := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		p := pair{before: nice()}
		if err := prefer(); err != nil {
			refused <- err
			return
		}
		p.after = nice()
		got <- p
	}()
	select {
	case err := <-refused:
		t.Fatalf("%v: the suite is for root", err)
	case p := <-got:
		if p.after != max(-20, p.before-preference) {
			t.Errorf("nice %d, then %d", p.before, p.after)
		}
		if n := nice(); n != p.before {
			t.Errorf("another thread's is %d, was %d", n, p.before)
		}
	}
}
