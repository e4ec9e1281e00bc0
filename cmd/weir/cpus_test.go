package main

import (
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestListsOfCPUs(t *testing.T) {
	var allowed unix.CPUSet
	for _, cpu := range []int{0, 1, 2, 3, 5, 8, 9} {
		allowed.Set(cpu)
	}
	const usable = "0-3,5,8-9"
	for list, want := range map[string][]int{
		"0":         {0},
		"0-3,5":     {0, 1, 2, 3, 5},
		"9,0":       {9, 0},
		"2-2":       {2},
		"5,8-9,0-1": {5, 8, 9, 0, 1},
	} {
		if got, err := parseCPUs(list, &allowed); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v; want %v", list, got, err, want)
		}
	}
	for list, want := range map[string]string{
		"one":              "want a list like 0-3,5 of CPUs that weir may use: " + usable,
		"0,":               "want a list like 0-3,5 of CPUs that weir may use: " + usable,
		"-1":               "want a list like 0-3,5 of CPUs that weir may use: " + usable,
		"3-1":              "want a list like 0-3,5 of CPUs that weir may use: " + usable,
		"0-2-3":            "want a list like 0-3,5 of CPUs that weir may use: " + usable,
		"65536":            "want a list like 0-3,5 of CPUs that weir may use: " + usable,
		"3-5":              "CPU 4 is none that weir may use; allowed: " + usable,
		"6":                "CPU 6 is none that weir may use; allowed: " + usable,
		"65535":            "CPU 65535 is none that weir may use; allowed: " + usable,
		"0-3,2":            "CPU 2 is given twice",
		fmt.Sprint(maxCPU): fmt.Sprintf("CPU %d is none that weir may use; allowed: %s", maxCPU, usable),
	} {
		if _, err := parseCPUs(list, &allowed); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", list, err, want)
		}
	}
}
