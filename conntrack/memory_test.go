//go:build !race

package conntrack

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"

	"weir/lb"
)

// TestTheTableLiesInHugePages where the host gives them to those who ask (transparent_hugepage/enabled: madvise, always). Where it does
// not, or has no free ones left, the table lies in small ones.
func TestTheTableLiesInHugePages(t *testing.T) {
	enabled, _ := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled") // missing: a kernel without
	given := strings.Contains(string(enabled), "[madvise]") || strings.Contains(string(enabled), "[always]")
	missed := vmstat(t, "thp_fault_fallback ")
	const n = 1 << 17 // entries: 8 MiB, of which at least three huge pages are whole
	table := newTable(t, Options{Capacity: n, HugePages: true})
	id, _ := newServer(t, table)
	for i := range n {
		open(t, table, client(i, lb.UDP), lb.DR, id, start)
	}
	first := uintptr(unsafe.Pointer(&table.mem.entries[0]))
	huge := hugeKiB(t, first)
	if none := vmstat(t, "thp_fault_fallback ") > missed; given && huge < 3*2048 && !none {
		t.Errorf("%d KiB of the entries are in huge pages", huge)
	}
	if !given && huge != 0 {
		t.Errorf("%d KiB of the entries are in huge pages, which the host has switched off", huge)
	}
}

// hugeKiB reads how much of the mapping around an address lies in huge pages (proc_pid_smaps(5)).
func hugeKiB(t *testing.T, address uintptr) (kib int) {
	t.Helper()
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	inside := false
	for line := range strings.Lines(string(smaps)) {
		var low, high uintptr
		if n, _ := fmt.Sscanf(line, "%x-%x ", &low, &high); n == 2 {
			inside = low <= address && address < high
		}
		if rest, ok := strings.CutPrefix(line, "AnonHugePages:"); ok && inside {
			fmt.Sscan(rest, &kib)
			return kib
		}
	}
	t.Fatalf("no mapping has address %#x", address)
	return 0
}

// vmstat reads one of the kernel's counts, 0 where it has none.
func vmstat(t *testing.T, name string) (n uint64) {
	t.Helper()
	all, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(all)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			fmt.Sscan(rest, &n)
		}
	}
	return n
}
