package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weir/control/api"
	"weir/internal/lab"
)

func TestASecondWeirOnAnInterfaceIsRefusedInOneLine(t *testing.T) {
	d := newLab(t, arms["two arms"])
	web := everyMode(8000, lab.HTTPAltPort)
	d.start(web)
	out, err := d.Director.Run(weir, "--interface", "eth0", "--rule", "-A -t 192.0.2.110:80 -s rr")
	if err == nil || strings.Count(out, "\n") != 1 || !strings.Contains(out, "eth0") || !strings.Contains(out, "in use") {
		t.Errorf("%v: %q", err, out)
	}
	for _, s := range web {
		d.wantTally(t, s, 12, d.Requests(t.Context(), s.VIP, 12))
	}
}

func TestAnIdleDirectorUsesNoCPU(t *testing.T) {
	plan := arms["two arms"]
	plan.Queues = 2
	d := newLab(t, plan)
	web := everyMode(8000, lab.HTTPAltPort)
	d.start(web)
	d.wantTally(t, web[0], 12, d.Requests(t.Context(), web[0].VIP, 12))
	time.Sleep(time.Second) // what the requests left to do
	before := cpuTime(t, d.weir.Pid)
	const idle = 3 * time.Second
	time.Sleep(idle)
	if used := cpuTime(t, d.weir.Pid) - before; used > idle/50 {
		t.Errorf("used %s of CPU in %s without a packet", used, idle)
	}
}

func TestWorkersStayOnTheirCPUs(t *testing.T) {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		t.Fatal(err)
	}
	last := 0
	for cpu := range len(allowed) * 64 {
		if allowed.IsSet(cpu) {
			last = cpu
		}
	}
	plan := arms["two arms"]
	plan.Queues = 2
	d := newLab(t, plan)
	web := everyMode(8000, lab.HTTPAltPort)
	d.start(web, "--cpus", strconv.Itoa(last))
	d.wantTally(t, web[0], 12, d.Requests(t.Context(), web[0].VIP, 12))

	status, err := api.NewClient(d.Socket()).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// One CPU, so one worker, which has both queues.
	if len(status.Workers) != 1 || status.Workers[0].PinnedTo == nil || *status.Workers[0].PinnedTo != last {
		t.Errorf("the status has workers %+v, want one on CPU %d", status.Workers, last)
	}
	pinned := 0
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", d.weir.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		var set unix.CPUSet
		if err == nil && unix.SchedGetaffinity(tid, &set) == nil && set.Count() == 1 && set.IsSet(last) {
			pinned++
		}
	}
	if pinned != 1 && allowed.Count() > 1 {
		t.Errorf("%d of %d threads are kept on CPU %d, want the worker's alone", pinned, len(tasks), last)
	}
}

// cpuTime returns what a process has used, user and system (proc_pid_stat(5)).
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest) // from the third on
	var ticks int
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100 on every architecture Go has
}
