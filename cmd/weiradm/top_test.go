package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weir/control/api"
	"weir/internal/testnet"
	"weir/internal/testpkt"
)

func round(scale uint64) api.Services {
	t := func(n uint64) api.Traffic {
		n *= scale
		return api.Traffic{Conns: n, InPackets: 10 * n, OutPackets: 20 * n, InBytes: 1000 * n, OutBytes: 30_000 * n}
	}
	return api.Services{Services: []api.Service{
		{Protocol: "tcp", Address: netip.MustParseAddr("192.0.2.1"), Port: 80, Total: t(1), Servers: []api.Server{
			{Address: netip.MustParseAddr("10.0.0.1"), Port: 8080, Total: t(1), Active: 3, Inactive: 4}}},
		{Protocol: "udp", Address: netip.MustParseAddr("2001:db8::1"), Port: 53, Total: t(500), Servers: []api.Server{
			{Address: netip.MustParseAddr("2001:db8::a"), Port: 53, Total: t(100)}, {Address: netip.MustParseAddr("2001:db8::b"), Port: 53, Total: t(400), Inactive: 123_456}}},
		{Mark: 7},
	}}
}

func boardOf(scales ...uint64) *board {
	var b board
	at := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	for _, n := range scales {
		b.add(round(n), at)
		at = at.Add(2 * time.Second)
	}
	return &b
}

func TestTopsScreen(t *testing.T) {
	b := boardOf(0, 2, 3, 3, 9, 11)
	golden(t, "top", b.screen(120, 0, asciiSparks)+"\n80 columns:\n"+b.screen(80, 0, asciiSparks))
	for _, size := range [][2]int{{120, 5}, {40, 24}, {1, 1}, {200, 100}, {80, 2}} {
		lines := strings.Split(strings.TrimSuffix(b.screen(size[0], size[1], unicodeSparks), "\n"), "\n")
		if len(lines) > size[1] {
			t.Errorf("%v: %d lines", size, len(lines))
		}
		// Six rows and two lines above them, one of which gives way to the line that counts.
		if last := lines[len(lines)-1]; size == [2]int{120, 5} && last != "... 4 lines more: a higher window shows them" {
			t.Errorf("%v: %s", size, last)
		}
		for _, line := range lines {
			if n := len([]rune(line)); n > size[0] {
				t.Errorf("%v: %d columns: %s", size, n, line)
			}
		}
	}
	// Counters that were zeroed, or a service that came, have no rate in the round that sees it.
	if b = boardOf(9, 1); b.latest.Services[0].Rate != (api.Traffic{}) {
		t.Errorf("after -Z: %+v", b.latest.Services[0].Rate)
	}
	var many board
	for i := range 100 {
		many.add(round(uint64(i)), time.Unix(int64(i), 0))
	}
	for name, line := range many.past {
		if len(line) != history {
			t.Errorf("%s: %d rounds are remembered", name, len(line))
		}
	}
}

func TestTopInAPipe(t *testing.T) {
	r := newRig(t)
	r.must("-A -t 10.9.0.1:80", "-a -t 10.9.0.1:80 -r 10.20.0.1:80 -m")
	r.client(testpkt.TCP(from(1), vip, testpkt.SYN))
	out := r.must("top --interval 100ms --rounds 2")
	if strings.Contains(out, "\x1b") || strings.Count(out, "weir top") != 2 || strings.Count(out, "  -> 10.20.0.1:80") != 2 {
		t.Errorf("%q", out)
	}
	var s api.Services
	if out = r.must("top --interval 100ms --rounds 1 --json"); json.Unmarshal([]byte(out), &s) != nil || len(s.Services) != 1 || s.Services[0].Total.Conns != 1 {
		t.Errorf("%s", out)
	}
}

// On a terminal top takes the whole screen, follows its size, leaves at q and gives everything back.
func TestTopOnATerminal(t *testing.T) {
	r := newRig(t)
	r.must("-A -t 10.9.0.1:80", "-a -t 10.9.0.1:80 -r 10.20.0.1:80 -m")
	master, slave := openTerminal(t)
	size := func(rows, columns uint16) {
		if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
			t.Fatal(err)
		}
	}
	size(10, 100)
	before, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	suspended := false
	p := program{ctx: t.Context(), env: environment(r.socket, "en_GB.UTF-8"), stdin: slave, stdout: slave, stderr: os.Stderr, terminal: slave}
	p.suspend = func() {
		if now, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS); err != nil || *now != *before {
			t.Errorf("the shell gets the terminal as %+v, %v; it was %+v", now, err, before)
		}
		suspended = true
	}
	ended := make(chan int, 1)
	go func() { ended <- p.run([]string{"top", "--interval", "100ms"}) }()
	seen := ""
	await := func(what string) {
		t.Helper()
		testnet.Eventually(t, 10*time.Second, what, func() bool {
			var b [4096]byte
			_ = master.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			n, _ := master.Read(b[:])
			seen += string(b[:n])
			return strings.Contains(seen, what)
		})
		_, seen, _ = strings.Cut(seen, what)
	}
	await("\x1b[?1049h")
	await("  -> 10.20.0.1:80")
	size(3, 100)
	await("... 2 lines more")
	if err := unix.Kill(os.Getpid(), unix.SIGTSTP); err != nil { // as ^Z does
		t.Fatal(err)
	}
	await("\x1b[?1049l")
	await("\x1b[?1049h")
	await("... 2 lines more")
	if _, err := master.WriteString("xq"); err != nil {
		t.Fatal(err)
	}
	await("\x1b[?1049l")
	if status := <-ended; status != exitDone {
		t.Errorf("exit %d", status)
	}
	if !suspended {
		t.Error("^Z did not stop it")
	}
	if after, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS); err != nil || *after != *before {
		t.Errorf("the terminal is left as %+v, %v; it was %+v", after, err, before)
	}
}

// openTerminal makes a pair of pseudoterminals (pty(7)).
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	raw, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var name string
	if control := raw.Control(func(fd uintptr) {
		n, err1 := unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		if err == nil {
			err = err1
		}
		name = fmt.Sprintf("/dev/pts/%d", n)
	}); control != nil || err != nil {
		t.Fatal(control, err)
	}
	if slave, err = os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

func environment(socket, locale string) func(string) string {
	return func(name string) string { return map[string]string{"WEIR_SOCKET": socket, "LANG": locale}[name] }
}

// Where letters are ASCII, so are spark lines; a dumb terminal's lines are as long as it is wide.
func TestTopWritesWhatTheTerminalKnows(t *testing.T) {
	r := newRig(t)
	r.must("-A -t 10.9.0.1:80", "-a -t 10.9.0.1:80 -r 10.20.0.1:80 -m")
	for locale, want := range map[string]bool{"": false, "C": false, "de_DE.ISO-8859-1": false, "C.UTF-8": true, "en_US.utf8": true} {
		if got := saysUTF8(environment("", locale)); got != want {
			t.Errorf("%q: %t", locale, got)
		}
	}
	for name, terminal := range map[string]bool{"moves its cursor": true, "dumb": false} {
		master, slave := openTerminal(t)
		if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 70}); err != nil {
			t.Fatal(err)
		}
		p := program{ctx: t.Context(), env: environment(r.socket, "C"), stdin: strings.NewReader(""), stdout: slave, stderr: os.Stderr}
		if terminal {
			p.terminal = slave
		}
		if status := p.run([]string{"top", "--interval", "100ms", "--rounds", "2"}); status != exitDone {
			t.Errorf("%s: exit %d", name, status)
		}
		var b [1 << 16]byte
		_ = master.SetReadDeadline(time.Now().Add(time.Second))
		n, err := master.Read(b[:])
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b[:n])) {
			if plain := strings.TrimRight(line, "\r\n"); !terminal && len(plain) > 70 {
				t.Errorf("%s: a line of %d: %q", name, len(plain), plain)
			}
		}
		if strings.ContainsFunc(string(b[:n]), func(c rune) bool { return c > 126 }) || !strings.Contains(string(b[:n]), "10.20.0.1:80") {
			t.Errorf("%s: %q", name, b[:n])
		}
	}
}

// A director that takes long to answer is asked less often.
func TestTopLeavesABusyDirectorTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	const takes = 100 * time.Millisecond
	var asked []time.Time
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked = append(asked, time.Now())
		time.Sleep(takes)
		_, _ = w.Write([]byte("{}"))
	}))
	server.Listener.Close()
	server.Listener = l
	server.Start()
	defer server.Close()
	p := program{ctx: t.Context(), env: environment(path, ""), stdout: io.Discard, stderr: os.Stderr}
	if status := p.run([]string{"top", "--interval", "100ms", "--rounds", "2"}); status != exitDone || len(asked) != 3 {
		t.Fatalf("exit %d, asked %d times", status, len(asked))
	}
	for i := range 2 {
		if pause := asked[i+1].Sub(asked[i]); pause < topShare*takes {
			t.Errorf("asked again after %s", pause)
		}
	}
}

// suspend stops the whole process, and nothing of it goes on before SIGCONT.
func TestSuspendWaitsForTheShell(t *testing.T) {
	const child = "WEIRADM_TEST_SUSPENDS"
	if os.Getenv(child) != "" {
		suspend()
		fmt.Println("went on")
		os.Exit(0)
	}
	var out bytes.Buffer
	cmd := exec.Command(os.Args[0], "-test.run", "^TestSuspendWaitsForTheShell$")
	cmd.Env, cmd.Stdout = append(os.Environ(), child+"=1"), &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	testnet.Eventually(t, 20*time.Second, "it is stopped", func() bool { // proc_pid_stat(5)
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		_, state, _ := strings.Cut(string(stat), ") ")
		return err == nil && strings.HasPrefix(state, "T")
	})
	if err := cmd.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || out.String() != "went on\n" {
		t.Errorf("%v: %q", err, out.String())
	}
}
