package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"weir/control/api"
)

// manyRules are n services of ten servers each.
func manyRules(n int) string {
	var b strings.Builder
	for i := range n {
		vip := fmt.Sprintf("10.%d.%d.%d:80", 100+i>>16, i>>8&255, i&255)
		fmt.Fprintf(&b, "-A -t %s -s wrr\n", vip)
		for s := range 10 {
			fmt.Fprintf(&b, "-a -t %s -r 10.%d.%d.%d:8080 -m -w 5\n", vip, 10+s, i>>8&255, i&255)
		}
	}
	return b.String()
}

// BenchmarkRestore loads 10,000 services of ten servers by weiradm -R.
func BenchmarkRestore(b *testing.B) {
	rules := manyRules(10_000)
	for b.Loop() {
		b.StopTimer()
		r := newRig(b)
		b.StartTimer()
		if exit, _, stderr := r.weiradm("-R", rules); exit != 0 {
			b.Fatal(stderr)
		}
	}
}

// BenchmarkOneOfMany changes servers among 10,000 services of ten, one after the other, each answered when the worker has it.
func BenchmarkOneOfMany(b *testing.B) {
	r := newRig(b)
	if exit, _, stderr := r.weiradm("-R", manyRules(10_000)); exit != 0 {
		b.Fatal(stderr)
	}
	c := api.NewClient(r.socket)
	defer c.Close()
	for _, bc := range []struct{ name, first, second string }{
		{"weight", "-e -t 10.100.7.7:80 -r 10.12.7.7:8080 -m -w %d", ""},
		{"server", "-d -t 10.100.7.7:80 -r 10.12.7.7:8080", "-a -t 10.100.7.7:80 -r 10.12.7.7:8080 -m -w %d"},
	} {
		b.Run(bc.name, func(b *testing.B) {
			worst := time.Duration(0)
			for i := 0; b.Loop(); i++ {
				line := bc.first
				if i%2 == 1 && bc.second != "" {
					line = bc.second
				}
				if strings.Contains(line, "%d") {
					line = fmt.Sprintf(line, 1+i%9)
				}
				began := time.Now()
				if _, err := c.Change(b.Context(), api.Change{Commands: [][]string{strings.Fields(line)}}); err != nil {
					b.Fatal(err)
				}
				worst = max(worst, time.Since(began))
			}
			b.ReportMetric(float64(worst.Microseconds())/1000, "worst-ms")
		})
	}
}

// BenchmarkList prints 10,000 services of ten servers by weiradm -Ln.
func BenchmarkList(b *testing.B) {
	r := newRig(b)
	if exit, _, stderr := r.weiradm("-R", manyRules(10_000)); exit != 0 {
		b.Fatal(stderr)
	}
	for b.Loop() {
		if exit, _, stderr := r.weiradm("-Ln", ""); exit != 0 {
			b.Fatal(stderr)
		}
	}
}
