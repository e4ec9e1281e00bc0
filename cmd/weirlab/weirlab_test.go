package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"weir/internal/testnet"
)

// bin holds weir and weirlab, side by side.
var bin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if bin, err = os.MkdirTemp("", "weirlab"); err != nil {
			panic(err)
		}
		defer os.RemoveAll(bin)
		build := exec.Command("go", "build", "-o", bin, "weir/cmd/weir", "weir/cmd/weirlab")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "build weir and weirlab:", err)
			return 1
		}
		return m.Run()
	}())
}

// labProcess is a weirlab that runs.
type labProcess struct {
	*exec.Cmd
	progress *bufio.Scanner
	out      bytes.Buffer
}

func start(t *testing.T, args ...string) *labProcess {
	p := &labProcess{Cmd: exec.Command(filepath.Join(bin, "weirlab"), args...)}
	p.Stdout = &p.out
	stderr, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.progress = bufio.NewScanner(stderr)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Process.Kill() })
	return p
}

// upTo reads progress lines until one is line, and returns the last one read.
func (p *labProcess) upTo(line string) (last string) {
	for p.progress.Scan() {
		if last = p.progress.Text(); last == line {
			break
		}
	}
	return last
}

func (p *labProcess) status() int {
	err := p.Wait()
	var exit *exec.ExitError
	if err == nil {
		return 0
	}
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// left returns what a weirlab of the given pid has left behind.
func left(pid int) (what []string) {
	for _, pattern := range []string{"/run/netns/weir-%d-*", "/run/weir/weir-%d-*", "/run/weir-%d-*"} {
		names, _ := filepath.Glob(fmt.Sprintf(pattern, pid))
		what = append(what, names...)
	}
	programs, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, exe := range programs {
		if path, err := os.Readlink(exe); err == nil && path == filepath.Join(bin, "weir") {
			what = append(what, exe)
		}
	}
	return what
}

func TestDemoShowsEveryModeAndLeavesNothing(t *testing.T) {
	p := start(t, "demo", "--family", "both")
	last := p.upTo("")
	if status := p.status(); status != 0 {
		t.Fatalf("status %d, %s\n%s", status, last, p.out.String())
	}
	out := p.out.String()
	for _, want := range []string{"DR ", "NAT ", "FULLNAT ", "TUN ", "DR IPv6 ", "NAT IPv6 ", "FULLNAT IPv6 ", "TUN IPv6 ", "2001:db8::10 (CIP)", "fd00:10::201 (LIP)", "1,000 HTTP requests", "64 MiB download", "1,000 UDP echoes", "All as it should be"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if what := left(p.Process.Pid); len(what) > 0 {
		t.Errorf("left behind: %q", what)
	}
}

func TestAnInterruptedDemoLeavesNothing(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		p := start(t, "demo")
		const at = "NAT: 1,000 HTTP requests"
		if got := p.upTo(at); got != at {
			t.Fatalf("ended with %q", got)
		}
		if len(left(p.Process.Pid)) < 7 {
			t.Errorf("while it runs there is only %q", left(p.Process.Pid))
		}
		p.Process.Signal(signal)
		last := p.upTo("")
		if status := p.status(); status != 1 || last != "weirlab: interrupted" {
			t.Errorf("%s: status %d, %q", signal, status, last)
		}
		if what := left(p.Process.Pid); len(what) > 0 {
			t.Errorf("%s: left behind: %q", signal, what)
		}
	}
}

func TestWhatAKilledDemoLeftIsRemovedByTheNext(t *testing.T) {
	p := start(t, "demo")
	p.upTo("DR: 1,000 HTTP requests")
	p.Process.Kill()
	p.status()
	if len(left(p.Process.Pid)) == 0 {
		t.Fatal("nothing was left to be removed")
	}
	testnet.New(t)
	testnet.Eventually(t, 5*time.Second, "nothing is left", func() bool { return len(left(p.Process.Pid)) == 0 })
}

func TestUpStandsUntilDown(t *testing.T) {
	weirlab := filepath.Join(bin, "weirlab")
	if pid, _ := testnet.Owner(prefix); pid != 0 {
		t.Fatalf("a lab is up already, held by process %d: take it down with weirlab down", pid)
	}
	out, err := exec.Command(weirlab, "up").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command(weirlab, "down").Run() })
	// What it tells people to do is what it should be able to.
	for _, line := range strings.Split(string(out), "\n") {
		line = strings.TrimSpace(line)
		if !strings.Contains(line, "curl") && !strings.Contains(line, "ip -") {
			continue
		}
		want := ""
		switch {
		case strings.Contains(line, "/metrics"):
			want = "weir_service_connections_total{"
		case strings.Contains(line, "/data"):
			want = `"services":{"total":8,`
		case strings.Contains(line, "curl -s "):
			want = " saw "
		}
		if got, err := exec.Command("sh", "-c", line).CombinedOutput(); err != nil || !bytes.Contains(got, []byte(want)) {
			t.Errorf("%s: %v: %s", line, err, got)
		}
	}
	if out, err := exec.Command(weirlab, "up").CombinedOutput(); err == nil || !bytes.Contains(out, []byte("weirlab down")) {
		t.Errorf("a second up: %v: %s", err, out)
	}
	for _, want := range []string{"The lab is down.\n", "No lab is up.\n"} {
		if out, err := exec.Command(weirlab, "down").CombinedOutput(); err != nil || string(out) != want {
			t.Errorf("down: %v: %q", err, out)
		}
	}
	for _, dir := range []string{"/run/netns/", "/run/"} {
		if names, _ := filepath.Glob(dir + prefix + "-*"); len(names) > 0 {
			t.Errorf("left behind: %q", names)
		}
	}
}

func TestCommandLineMistakesAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		args   []string
		status int
		want   string // part of what it says
	}{
		"nothing":                {nil, 2, "want one of: demo, up, down, bench"},
		"another command":        {[]string{"dance"}, 2, `"dance": want one of: demo, up, down`},
		"another flag":           {[]string{"demo", "--fast"}, 2, "--fast"},
		"another family":         {[]string{"demo", "--family", "5"}, 2, `--family "5": allowed: 4, 6, both`},
		"another's flag":         {[]string{"down", "--family", "6"}, 2, "--family is for demo only"},
		"no such weir":           {[]string{"demo", "--weir", "/nowhere/weir"}, 1, "/nowhere/weir is not weir"},
		"a weir that is not one": {[]string{"demo", "--weir", "/bin/false"}, 1, "DR: "},
		"up without weir":        {[]string{"up", "--weir", "/bin/false"}, 1, "ended without"},
		"bench, odd figures":     {[]string{"bench", "--size", "63", "--traffic", "sctp"}, 2, `--size "63": allowed are 64 to 1518 and imix`},
		"bench, another version": {[]string{"bench", "--family", "5", "--mode", "dr,gre"}, 2, `--family "5": allowed are 4, 6 and both`},
		"bench, IPv6 too short":  {[]string{"bench", "--family", "both", "--size", "83"}, 2, `--size "83": allowed are 84 to 1518 and imix`},
		"bench, IPv6 at a rate":  {[]string{"bench", "--family", "6", "--rate", "1000"}, 2, "--rate and imix are for IPv4"},
		"bench, an odd mode":     {[]string{"bench", "--mode", "dr,gre"}, 2, `--mode "dr,gre": allowed are dr, nat, fullnat and tun`},
		"bench, odd traffic":     {[]string{"bench", "--traffic", "sctp"}, 2, `--traffic "sctp": allowed are [udp tcp-syn`},
		"changes too big":        {[]string{"changes", "--services", "3"}, 2, "--services 3: allowed are 4 to 100000"},
		"changes, no part":       {[]string{"changes", "--only", "list,sleep"}, 2, `--only "sleep": allowed are restore, list, single, load`},
		"changes of what":        {[]string{"changes", "up"}, 2, "changes takes flags only"},
		"help":                   {[]string{"--help"}, 0, "Usage: weirlab"},
	} {
		out, err := exec.Command(filepath.Join(bin, "weirlab"), c.args...).CombinedOutput()
		status := 0
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			status = exit.ExitCode()
		}
		if status != c.status || !bytes.Contains(out, []byte(c.want)) {
			t.Errorf("%s: status %d, %s", name, status, out)
		}
	}
}
