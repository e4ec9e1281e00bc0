package testnet

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a command that runs in a namespace. It is killed with the network at the latest, and with the program that started it.
type Process struct {
	Pid int

	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // of Wait, once done is closed

	mu     sync.Mutex
	out    strings.Builder
	grown  chan struct{} // closed and replaced when out grows
	closed bool
	tee    io.Writer
}

// Start runs a command in the namespace, with /sys showing the namespace's devices as ip netns exec arranges. Its output, standard and error
// in one, is kept.
func (ns *Namespace) Start(command string, args ...string) *Process {
	ns.net.t.Helper()
	p, err := ns.start(nil, command, args...)
	if err != nil {
		ns.net.t.Fatalf("%s: start %s: %v", ns.Name, command, err)
	}
	return p
}

// StartTee is Start with the output also written to w while it comes.
func (ns *Namespace) StartTee(w io.Writer, command string, args ...string) *Process {
	ns.net.t.Helper()
	p, err := ns.start(w, command, args...)
	if err != nil {
		ns.net.t.Fatalf("%s: start %s: %v", ns.Name, command, err)
	}
	return p
}

// Run runs a command in the namespace to its end and returns its output.
func (ns *Namespace) Run(command string, args ...string) (string, error) {
	p, err := ns.start(nil, command, args...)
	if err != nil {
		return "", err
	}
	err = p.Wait(time.Minute)
	if err != nil {
		err = fmt.Errorf("%s: %s: %w: %s", ns.Name, command, err, strings.TrimSpace(p.Output()))
	}
	return p.Output(), err
}

func (ns *Namespace) start(tee io.Writer, command string, args ...string) (*Process, error) {
	p := &Process{done: make(chan struct{}), grown: make(chan struct{}), tee: tee}
	p.cmd = exec.Command("ip", append([]string{"netns", "exec", ns.Name, command}, args...)...)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	// ip execs the command in its own process, so the pid and the death signal are the command's. A terminal's ^C is for the program that
	// owns the network, which ends its processes in the right order: hence a process group of their own.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	p.cmd.WaitDelay = time.Second // for a child of the command that keeps the output open
	var err error
	onSpawner(func() { err = p.cmd.Start() })
	if err != nil {
		return nil, err
	}
	p.Pid = p.cmd.Process.Pid
	go func() {
		p.err = p.cmd.Wait()
		p.mu.Lock()
		p.closed = true
		close(p.grown)
		p.mu.Unlock()
		close(p.done)
	}()
	ns.net.mu.Lock()
	ns.net.procs = append(ns.net.procs, p)
	ns.net.mu.Unlock()
	return p, nil
}

// onSpawner runs f on a thread that lives as long as the program: the death signal comes when the thread that forked ends, and any other
// thread may (runtime.LockOSThread).
func onSpawner(f func()) {
	spawnerOnce.Do(func() {
		go func() {
			runtime.LockOSThread()
			for f := range spawner {
				f()
			}
		}()
	})
	done := make(chan struct{})
	spawner <- func() { f(); close(done) }
	<-done
}

var (
	spawner     = make(chan func())
	spawnerOnce sync.Once
)

// Write takes the process's output; it is not for callers.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out.Write(b)
	if p.tee != nil {
		p.tee.Write(b)
	}
	if !p.closed {
		close(p.grown)
		p.grown = make(chan struct{})
	}
	return len(b), nil
}

// Output returns what the process has written so far.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// WaitOutput waits until the output holds text; it fails early when the process ends without having written it.
func (p *Process) WaitOutput(text string, limit time.Duration) error {
	deadline := time.After(limit)
	for {
		p.mu.Lock()
		found, grown, closed := strings.Contains(p.out.String(), text), p.grown, p.closed
		p.mu.Unlock()
		switch {
		case found:
			return nil
		case closed:
			return fmt.Errorf("%s ended without %q: %s", p.name(), text, strings.TrimSpace(p.Output()))
		}
		select {
		case <-grown:
		case <-deadline:
			return fmt.Errorf("%s has not written %q within %s: %s", p.name(), text, limit, strings.TrimSpace(p.Output()))
		}
	}
}

// Wait waits for the process to end: nil when it ended with status 0.
func (p *Process) Wait(limit time.Duration) error {
	select {
	case <-p.done:
		return p.err
	case <-time.After(limit):
		return fmt.Errorf("%s still runs after %s", p.name(), limit)
	}
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Signal sends a signal.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Stop sends SIGTERM and waits for the end: nil when the process ended with status 0 within the limit. After it, it is killed.
func (p *Process) Stop(limit time.Duration) error {
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	err := p.Wait(limit)
	p.Kill()
	return err
}

// Kill ends the process by SIGKILL, if it still runs, and waits for it.
func (p *Process) Kill() {
	p.cmd.Process.Kill()
	<-p.done
}

func (p *Process) name() string { return p.cmd.Args[4] }
