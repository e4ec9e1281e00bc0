package afxdp

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// The library never unmaps a socket's rings. A mapping keeps the socket alive and its queue busy until the process ends, so a queue
// could not be opened a second time. The mappings are found where the kernel lists them, and undone from there.

// mapping is one mapping of a socket's ring.
type mapping struct {
	addr, length, offset uintptr
}

// socketMappings returns this process's mappings of sockets, by the socket's inode.
func socketMappings() (map[uint64][]mapping, error) {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return nil, err
	}
	return parseMaps(string(maps))
}

// parseMaps reads proc_pid_maps(5): "start-end perms offset dev inode  path", the path of a socket being "socket:[inode]".
func parseMaps(maps string) (map[uint64][]mapping, error) {
	found := make(map[uint64][]mapping)
	for line := range strings.Lines(maps) {
		at := strings.Index(line, "socket:[")
		if at < 0 {
			continue
		}
		var start, end, offset uintptr
		var perms string
		var inode uint64
		if _, err := fmt.Sscanf(line, "%x-%x %s %x", &start, &end, &perms, &offset); err != nil {
			return nil, fmt.Errorf("/proc/self/maps: %q: %w", line, err)
		}
		if _, err := fmt.Sscanf(line[at:], "socket:[%d]", &inode); err != nil {
			return nil, fmt.Errorf("/proc/self/maps: %q: %w", line, err)
		}
		found[inode] = append(found[inode], mapping{start, end - start, offset})
	}
	return found, nil
}

// unmapLeaked undoes the mappings of AF_XDP sockets that were not there before: those of a socket that the library could not bind.
func unmapLeaked(before map[uint64][]mapping) error {
	now, err := socketMappings()
	if err != nil {
		return err
	}
	for inode, rings := range now {
		if _, old := before[inode]; old || !ofXDP(rings) {
			continue
		}
		if err := unmap(rings); err != nil {
			return err
		}
	}
	return nil
}

// ofXDP reports whether the mappings are of an AF_XDP socket: only those have rings at the offsets of linux/if_xdp.h, where
// AF_PACKET's are at 0.
func ofXDP(rings []mapping) bool {
	for _, r := range rings {
		if r.offset == unix.XDP_UMEM_PGOFF_FILL_RING || r.offset == unix.XDP_PGOFF_TX_RING {
			return true
		}
	}
	return false
}

func unmap(rings []mapping) error {
	for _, r := range rings {
		if _, _, errno := unix.Syscall(unix.SYS_MUNMAP, r.addr, r.length, 0); errno != 0 {
			return fmt.Errorf("unmap a ring: %w", errno)
		}
	}
	return nil
}

func inodeOf(fd int) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, fmt.Errorf("fstat: %w", err)
	}
	return st.Ino, nil
}
