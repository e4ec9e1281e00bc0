// Package testnet makes networks of namespaces for tests and for the lab: hosts joined by veth pairs and bridges, with nothing of them in
// the namespace the program runs in, and nothing left behind.
//
//	n := testnet.New(t)
//	client, server := n.Namespace("client"), n.Namespace("server")
//	n.Veth(testnet.End{NS: client, Addrs: []string{"192.0.2.1/24"}}, testnet.End{NS: server, Addrs: []string{"192.0.2.2/24"}})
//	l, err := server.Listen("tcp", "192.0.2.2:80")  // the socket lives in the namespace, wherever the goroutine runs
//	c, err := client.Dial("tcp", "192.0.2.2:80")
//	p := server.Start("tcpdump", "-ni", "eth0")       // ended with the test
//
// Everything is removed by the test's cleanup. What a killed program left is removed by the next one that makes a network: each network's
// owner holds a lock on a file under /run/weir, and a lock that can be had has no owner.
package testnet

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Reporter is what a network needs of a test; testing.TB is one. Fatalf must not return.
type Reporter interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

const (
	ownersDir = "/run/weir"
	netnsDir  = "/run/netns"
)

var count atomic.Int32

// Net is a set of namespaces that are removed together.
type Net struct {
	t      Reporter
	prefix string
	owner  *os.File

	mu    sync.Mutex
	nss   []*Namespace
	macs  uint16
	procs []*Process
}

// New makes an empty network whose namespaces are named weir-<pid>-<count>-<role>.
func New(t Reporter) *Net {
	t.Helper()
	return NewNamed(t, fmt.Sprintf("weir-%d-%d", os.Getpid(), count.Add(1)))
}

// NewNamed makes an empty network whose namespaces are named <prefix>-<role>. Only one network of a prefix can exist; see Owner.
func NewNamed(t Reporter, prefix string) *Net {
	t.Helper()
	n := &Net{t: t, prefix: prefix}
	if err := removeOrphans(); err != nil {
		t.Fatalf("remove what an earlier run left: %v", err)
	}
	var err error
	if n.owner, err = claim(prefix); err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(n.close)
	return n
}

// close ends the network's processes and removes its namespaces, and with them their devices.
func (n *Net) close() {
	for _, p := range n.procs {
		p.Kill()
	}
	for _, ns := range n.nss {
		ns.nl.Close()
		ns.handle.Close()
	}
	removeNamespaces(n.prefix)
	os.Remove(n.owner.Name())
	n.owner.Close()
}

// Owner returns the process that holds the network of a prefix, 0 when there is none. What a dead one left is removed first.
func Owner(prefix string) (pid int, err error) {
	if err := removeOrphans(); err != nil {
		return 0, err
	}
	b, err := os.ReadFile(filepath.Join(ownersDir, prefix))
	if os.IsNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// claim makes the file that shows a network's owner to be alive: locked until the file is closed, by Close or by the process's death.
func claim(prefix string) (*os.File, error) {
	if err := os.MkdirAll(ownersDir, 0o755); err != nil {
		return nil, err
	}
	name := filepath.Join(ownersDir, prefix)
	for {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			return nil, fmt.Errorf("network %s is in use", prefix)
		}
		// Between open and lock removeOrphans may have taken the file for an orphan's.
		if sameFile(f, name) {
			f.Truncate(0)
			_, err := fmt.Fprintln(f, os.Getpid())
			return f, err
		}
		f.Close()
	}
}

func sameFile(f *os.File, name string) bool {
	a, err1 := f.Stat()
	b, err2 := os.Stat(name)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

// Socket returns a path for a Unix socket of the namespace's own: namespaces share the machine's files. It is removed with the
// network, also when whoever listened there was killed.
func (ns *Namespace) Socket() string { return filepath.Join("/run", ns.Name+".sock") }

// removeOrphans removes the networks whose owner is dead. Their processes died with it (see Start).
func removeOrphans() error {
	names, err := filepath.Glob(filepath.Join(ownersDir, "*"))
	if err != nil {
		return err
	}
	for _, name := range names {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			continue // removed by its owner just now
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil && sameFile(f, name) {
			removeNamespaces(filepath.Base(name))
			os.Remove(name)
		}
		f.Close()
	}
	return nil
}

func removeNamespaces(prefix string) {
	names, _ := filepath.Glob(filepath.Join(netnsDir, prefix+"-*"))
	for _, name := range names {
		unix.Unmount(name, unix.MNT_DETACH)
		os.Remove(name)
		os.Remove((&Namespace{Name: filepath.Base(name)}).Socket())
	}
}

// Namespace makes a network namespace with its loopback up, IPv6 addresses usable at once, and nothing sent unasked.
func (n *Net) Namespace(role string) *Namespace {
	n.t.Helper()
	ns := &Namespace{net: n, Name: n.prefix + "-" + role, Role: role}
	err := ns.create()
	if err != nil {
		n.t.Fatalf("namespace %s: %v", ns.Name, err)
	}
	n.mu.Lock()
	n.nss = append(n.nss, ns)
	n.mu.Unlock()
	for _, s := range []string{"all", "default"} {
		conf4, conf6 := "net.ipv4.conf."+s, "net.ipv6.conf."+s
		// The kernel takes the larger of all's and the interface's rp_filter: both must be 0 for replies that take another way.
		ns.Sysctl(conf4+".rp_filter", "0")
		ns.Sysctl(conf4+".send_redirects", "0")
		ns.Sysctl(conf4+".accept_redirects", "0")
		ns.Sysctl(conf6+".accept_dad", "0")
		ns.Sysctl(conf6+".dad_transmits", "0")
		ns.Sysctl(conf6+".accept_ra", "0")
		ns.Sysctl(conf6+".router_solicitations", "0")
	}
	lo, err := ns.nl.LinkByName("lo")
	if err == nil {
		err = ns.nl.LinkSetUp(lo)
	}
	if err != nil {
		n.t.Fatalf("namespace %s: %v", ns.Name, err)
	}
	return ns
}

func (ns *Namespace) create() error {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		return err
	}
	defer home.Close()
	ns.handle, err = netns.NewNamed(ns.Name)
	if back := netns.Set(home); back != nil {
		return back // and keep the thread locked: it ends with the goroutine
	}
	runtime.UnlockOSThread()
	if err != nil {
		return err
	}
	ns.nl, err = netlink.NewHandleAt(ns.handle, unix.NETLINK_ROUTE)
	return err
}

// mac returns the network's next MAC address, locally administered.
func (n *Net) mac() net.HardwareAddr {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.macs++
	return net.HardwareAddr{2, 'w', 'e', 'i', byte(n.macs >> 8), byte(n.macs)}
}

// Eventually waits until f is true, looking every few milliseconds, and fails the test when it is not within the limit.
func Eventually(t Reporter, limit time.Duration, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, limit)
		}
	}
}
