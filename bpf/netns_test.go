package bpf

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// TestMain runs the tests as a child in a network namespace of its own: interfaces made there trouble nobody, and vanish with
// the process however it ends. They all need root.
func TestMain(m *testing.M) {
	const inside = "WEIR_TEST_NETNS"
	if os.Getenv(inside) != "" {
		// No neighbour discovery, which would be counted among the tests' frames.
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
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

// host is a further network namespace, which ends with the test.
type host struct {
	ns netns.NsHandle
	nl *netlink.Handle
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{}
	onThread(t, func() error {
		var err error
		h.ns, err = netns.New()
		return err
	})
	t.Cleanup(func() { h.ns.Close() })
	var err error
	if h.nl, err = netlink.NewHandleAt(h.ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.nl.Close)
	return h
}

// do runs f on a thread inside the namespace: sockets it makes stay there.
func (h *host) do(t *testing.T, f func() error) {
	t.Helper()
	onThread(t, func() error {
		if err := netns.Set(h.ns); err != nil {
			return err
		}
		return f()
	})
}

// onThread runs f on a thread that ends with it.
func onThread(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// newVeth returns both ends of a new pair, up.
func newVeth(t *testing.T, queues int) (near, far netlink.Link) {
	t.Helper()
	name := fmt.Sprintf("v%d", nextVeth)
	nextVeth++
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name, NumTxQueues: queues, NumRxQueues: queues},
		PeerName:  name + "p", PeerNumTxQueues: uint32(queues), PeerNumRxQueues: uint32(queues),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { netlink.LinkDel(veth) })
	for _, n := range []string{veth.PeerName, name} {
		var err error
		if far, err = netlink.LinkByName(n); err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(far); err != nil {
			t.Fatal(err)
		}
		near, far = far, near
	}
	return far, near
}

var nextVeth int

func addAddr(t *testing.T, add func(netlink.Link, *netlink.Addr) error, l netlink.Link, cidr string) {
	t.Helper()
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		t.Fatal(err)
	}
	if err := add(l, addr); err != nil {
		t.Fatalf("%s on %s: %v", cidr, l.Attrs().Name, err)
	}
}

func parseCIDR(t *testing.T, s string) *net.IPNet {
	t.Helper()
	_, n, err := net.ParseCIDR(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
