package bpf

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// TestMain runs the tests as a child in a network namespace of its own: interfaces made there trouble nobody, and vanish with
// the process however it ends. They all need root.
func TestMain(m *testing.M) {
	const inside = "WEIR_TEST_NETNS"
	if os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	child := exec.Command("/proc/self/exe", os.Args[1:]...)
	child.Env = append(os.Environ(), inside+"=1")
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := child.Run(); child.ProcessState == nil {
		fmt.Fprintln(os.Stderr, "these tests need root, for a network namespace of their own:", err)
		os.Exit(1)
	}
	os.Exit(child.ProcessState.ExitCode())
}
