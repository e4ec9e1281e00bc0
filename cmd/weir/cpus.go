package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxCPU is the highest number that unix.CPUSet holds.
const maxCPU = len(unix.CPUSet{})*64 - 1

// parseCPUs reads a list of CPUs as /sys and taskset write it (0-3,5), in its order. It may name those in allowed, each once.
func parseCPUs(list string, allowed *unix.CPUSet) (cpus []int, err error) {
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		low, err1 := strconv.ParseUint(first, 10, 16)
		high, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil || low > high {
			return nil, fmt.Errorf("want a list like 0-3,5 of CPUs that weir may use: %s", formatCPUs(allowed))
		}
		for cpu := int(low); cpu <= int(high); cpu++ {
			switch {
			case cpu > maxCPU || !allowed.IsSet(cpu):
				return nil, fmt.Errorf("CPU %d is none that weir may use; allowed: %s", cpu, formatCPUs(allowed))
			case slices.Contains(cpus, cpu):
				return nil, fmt.Errorf("CPU %d is given twice", cpu)
			}
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}

// formatCPUs is the opposite of parseCPUs.
func formatCPUs(set *unix.CPUSet) string {
	var parts []string
	for cpu := 0; cpu <= maxCPU; cpu++ {
		if !set.IsSet(cpu) {
			continue
		}
		first := cpu
		for cpu < maxCPU && set.IsSet(cpu+1) {
			cpu++
		}
		if first == cpu {
			parts = append(parts, strconv.Itoa(first))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", first, cpu))
		}
	}
	return strings.Join(parts, ",")
}

// usableCPUs returns those that this process may run on: all of the machine's, or what taskset, a container or a service manager leaves.
func usableCPUs() (*unix.CPUSet, error) {
	set := new(unix.CPUSet)
	if err := unix.SchedGetaffinity(0, set); err != nil {
		return nil, fmt.Errorf("which CPUs this process may use: %w", err)
	}
	return set, nil
}

// pin keeps the calling thread on one CPU.
func pin(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("keep a worker on CPU %d: %w", cpu, err)
	}
	return nil
}

// readCPUs checks --cpus; an empty list leaves the workers where the kernel puts them.
func (c *config) readCPUs(list string) error {
	if list == "" {
		return nil
	}
	allowed, err := usableCPUs()
	if err == nil {
		c.cpus, err = parseCPUs(list, allowed)
	}
	return err
}
