package host

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// callersNamespace returns a function that takes its goroutine to the caller's network namespace. Interface numbers mean something
// within a namespace only, and a namespace belongs to a thread: a goroutine of a program that works in several of them, as tests do,
// may find itself anywhere. A program that is in one namespace loses nothing by it.
func callersNamespace() (enter func() error, err error) {
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	return func() error {
		defer ns.Close()
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		var want, is unix.Stat_t
		if err := unix.Fstat(int(ns.Fd()), &want); err != nil {
			return fmt.Errorf("network namespace: %w", err)
		}
		if err := unix.Stat("/proc/thread-self/ns/net", &is); err != nil {
			return fmt.Errorf("network namespace: %w", err)
		}
		if is.Ino == want.Ino { // then it takes no CAP_SYS_ADMIN
			return nil
		}
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return nil
	}, nil
}
