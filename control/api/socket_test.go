package api

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestTheSocketIsItsOwnersAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.sock")
	s, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("%v, %v; want a socket with mode 0600", info.Mode(), err)
	}
	if left, _ := filepath.Glob(path + ".*"); left != nil {
		t.Errorf("left behind: %v", left)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "another weir answers there") {
		t.Errorf("a second one: %v", err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Close: %v", err)
	}
}

func TestADeadSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	s, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestAFileIsNotReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.sock")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("%v", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "mine" {
		t.Errorf("the file has %q now", text)
	}
}

func TestCloseLeavesAnothersSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.sock")
	s, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the other's socket: %v", err)
	}
}

// serve answers on a new socket with b until the test ends, and returns its path. Tune may change the server before.
func serve(t *testing.T, b Backend, tune func(*Admin)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "weir.sock")
	s, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	a := NewAdmin(b, slog.New(slog.DiscardHandler))
	if tune != nil {
		tune(a)
	}
	var done sync.WaitGroup
	done.Go(func() {
		if err := a.Serve(s); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		a.Close()
		done.Wait()
	})
	return path
}

const plainRequest = "GET /v1/services HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n"

// ask sends raw bytes and returns what is answered before the connection is closed.
func ask(t *testing.T, path, request string) string {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(c, request) // the other side may have hung up before
	answer, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Fatal(err)
	}
	return string(answer)
}

// As user nobody, on a socket that its mode would let in: the kernel says who it is.
func TestStrangersAreTurnedAway(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("only root can be somebody else: run the tests as root")
	}
	path := serve(t, &fakeBackend{}, nil)
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(path); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	answer := make(chan string)
	go func() {
		defer close(answer)
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine, and its user with it
		const nobody = 65534
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
			t.Errorf("setresuid: %v", errno)
			return
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		text, _ := io.ReadAll(c)
		answer <- string(text)
	}()
	if text := <-answer; !strings.HasPrefix(text, "HTTP/1.1 403 ") || !strings.Contains(text, "root") {
		t.Errorf("nobody is answered %q", text)
	}
	if text := ask(t, path, plainRequest); !strings.HasPrefix(text, "HTTP/1.1 200 ") {
		t.Errorf("root is answered %q", text)
	}
	if mayAsk(12345) || !mayAsk(0) || !mayAsk(uint32(os.Geteuid())) {
		t.Error("mayAsk")
	}
}

func TestClientsAreServedUpToANumber(t *testing.T) {
	path := serve(t, &fakeBackend{}, nil)
	var waiting []net.Conn
	for range maxClients {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		waiting = append(waiting, c)
	}
	if text := ask(t, path, plainRequest); !strings.HasPrefix(text, "HTTP/1.1 503 ") {
		t.Fatalf("one too many is answered %q", text)
	}
	waiting[0].Close()
	for deadline := time.Now().Add(10 * time.Second); ; {
		if text := ask(t, path, plainRequest); strings.HasPrefix(text, "HTTP/1.1 200 ") {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("after one has gone: %q", text)
		}
	}
}

func TestSlowRequestsAreCutOff(t *testing.T) {
	path := serve(t, &fakeBackend{}, func(a *Admin) {
		a.http.ReadHeaderTimeout, a.http.ReadTimeout = 20*time.Millisecond, 20*time.Millisecond
	})
	for request, want := range map[string]string{
		"GET /v1/services HTTP/1.1\r\nHo":                                        "",
		"POST /v1/change HTTP/1.1\r\nHost: weir\r\nContent-Length: 100\r\n\r\n{": "HTTP/1.1 408 Request Timeout\r\n",
	} {
		if text := ask(t, path, request); !strings.HasPrefix(text, want) || strings.Contains(text, " 200 ") {
			t.Errorf("%q: %q", request, text)
		}
	}
}

func TestLargeRequestsAreCutOff(t *testing.T) {
	path := serve(t, &fakeBackend{}, nil)
	if text := ask(t, path, "GET /v1/services?"+strings.Repeat("x", 100_000)+" HTTP/1.1\r\n\r\n"); !strings.Contains(text, " 431 ") {
		t.Errorf("a long line: %.100q", text)
	}
	body := bytes.Repeat([]byte(" "), maxBody+1)
	head := "POST /v1/change HTTP/1.1\r\nHost: weir\r\nConnection: close\r\nContent-Length: 33554433\r\n\r\n"
	if len(body) != 33554433 {
		t.Fatalf("the body has %d bytes", len(body))
	}
	if text := ask(t, path, head+string(body)); !strings.Contains(text, " 413 ") {
		t.Errorf("a large body: %.100q", text)
	}
}
