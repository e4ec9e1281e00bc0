package rig

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// generatorCPU is the generator's and, with OneCPU, everybody's.
const generatorCPU = 0

// directorCPU returns the CPU of the director in a layout.
func directorCPU(l Layout) (int, error) {
	if l == OneCPU {
		return generatorCPU, nil
	}
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(1, &set); err != nil { // process 1's: ours may have been narrowed by an earlier trial
		return 0, fmt.Errorf("affinity: %w", err)
	}
	for cpu := len(set)*64 - 1; cpu > generatorCPU; cpu-- {
		if set.IsSet(cpu) {
			return cpu, nil
		}
	}
	return 0, fmt.Errorf("layout %s needs two CPUs, this machine has one: try --layout %s", OwnCPU, OneCPU)
}

// pinSelf keeps all threads of this process on one CPU; later ones inherit it.
func pinSelf(cpu int) error {
	return pinProcess(os.Getpid(), cpu)
}

func pinProcess(pid, cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	for _, tid := range threads(pid) {
		if err := unix.SchedSetaffinity(tid, &set); err != nil && err != unix.ESRCH {
			return fmt.Errorf("keep thread %d on CPU %d: %w", tid, cpu, err)
		}
	}
	return nil
}

func threads(pid int) (tids []int) {
	names, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	for _, name := range names {
		if tid, err := strconv.Atoi(filepath.Base(name)); err == nil {
			tids = append(tids, tid)
		}
	}
	return tids
}

// threadTime returns the CPU time that the threads of the processes have had (Documentation/scheduler/sched-stats.rst). It includes
// the interrupts that came on their time.
func threadTime(pids []int) (sum time.Duration) {
	for _, pid := range pids {
		for _, tid := range threads(pid) {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/schedstat", pid, tid))
			if err != nil {
				continue // it has ended
			}
			first, _, _ := strings.Cut(string(b), " ")
			ns, _ := strconv.ParseInt(first, 10, 64)
			sum += time.Duration(ns)
		}
	}
	return sum
}

// busyTime returns how long a CPU has not been idle, by /proc/stat (proc(5)): in hundredths of a second, other people's work and what
// the hypervisor took included.
func busyTime(cpu int) (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) < 9 || fields[0] != fmt.Sprintf("cpu%d", cpu) {
			continue
		}
		var ticks int64
		for i, f := range fields[1:9] { // user nice system idle iowait irq softirq steal
			n, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("/proc/stat: %w", err)
			}
			if i != 3 && i != 4 {
				ticks += n
			}
		}
		return time.Duration(ticks) * (time.Second / 100), nil // USER_HZ is 100 on every architecture of ours
	}
	return 0, fmt.Errorf("/proc/stat has no cpu%d", cpu)
}

// loadAverage returns how many tasks wanted a CPU in the last minute.
func loadAverage() float64 {
	b, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(b), " ")
	v, _ := strconv.ParseFloat(first, 64)
	return v
}
