package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"weir/bpf"
	"weir/internal/testpkt"
)

// TestMain is the forwarder itself when a test starts its own binary so.
func TestMain(m *testing.M) {
	if args, ok := os.LookupEnv("BARE_ARGS"); ok {
		os.Args = append([]string{"bare"}, strings.Fields(args)...)
		main()
		return
	}
	os.Exit(m.Run())
}

// rig is: generator, client ── in, forwarder, out ── server, sink; with one arm the client is the server.
type rig struct {
	client, server netlink.Link
	sink           *bpf.Sink
	bare           *exec.Cmd
	output         *bytes.Buffer
	done           chan struct{}
}

var serverMAC = testpkt.MAC(0x10)

func newRig(t testing.TB, arms int, args string) *rig {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the namespace ends with the thread
	ns, err := netns.New()
	if err != nil {
		t.Fatalf("network namespace (this test needs root): %v", err)
	}
	t.Cleanup(func() { ns.Close() })
	// Without router solicitations: all that is forwarded is to be the test's.
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	r := &rig{}
	r.client = veth(t, "client", "in")
	r.server = r.client
	args = "--interface in " + args
	if arms == 2 {
		r.server = veth(t, "server", "out")
		args = "--interface out " + args
	}
	if r.sink, err = bpf.NewSink(r.server.Attrs().Index, bpf.SinkOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.sink.Close() })
	r.start(t, args+" --dst-mac "+serverMAC.String())
	return r
}

func veth(t testing.TB, name, peer string) netlink.Link {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: peer}); err != nil {
		t.Fatal(err)
	}
	var l netlink.Link
	for _, n := range []string{peer, name} {
		var err error
		if l, err = netlink.LinkByName(n); err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = netlink.LinkDel(l) })
	return l
}

// start runs the forwarder, and returns when it forwards.
func (r *rig) start(t testing.TB, args string) {
	t.Helper()
	r.bare = exec.Command("/proc/self/exe")
	r.bare.Env = append(os.Environ(), "BARE_ARGS="+args)
	r.bare.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	r.bare.Stderr = os.Stderr
	stdout, err := r.bare.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.bare.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.stop(t) })
	lines := bufio.NewReader(stdout)
	if line, err := lines.ReadString('\n'); line != "forwarding\n" {
		t.Fatalf("bare %s: %q, %v", args, line, err)
	}
	r.output, r.done = &bytes.Buffer{}, make(chan struct{})
	go func() {
		defer close(r.done)
		_, _ = io.Copy(r.output, lines)
	}()
}

// stop ends the forwarder and returns what it has said.
func (r *rig) stop(t testing.TB) string {
	t.Helper()
	if r.bare.ProcessState == nil {
		_ = r.bare.Process.Signal(syscall.SIGTERM)
		<-r.done
		if err := r.bare.Wait(); err != nil {
			t.Errorf("bare: %v", err)
		}
	}
	return r.output.String()
}

func (r *rig) generator(t testing.TB, flows int) *bpf.Generator {
	t.Helper()
	packet := testpkt.UDP(netip.MustParseAddrPort("198.18.0.1:1024"), netip.MustParseAddrPort("192.0.2.10:53")).Size(60).Bytes()
	g, err := bpf.NewGenerator(r.client.Attrs().Index, flows, packet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

func (r *rig) received(t testing.TB) uint64 {
	t.Helper()
	counts, err := r.sink.Counts()
	if err != nil {
		t.Fatal(err)
	}
	return counts[[6]byte(serverMAC)].Packets
}

var variants = []string{"", "--burst 64", "--burst 256", "--burst 64 --queue", "--burst 256 --queue"}

func TestEveryVariantForwards(t *testing.T) {
	for _, arms := range []int{1, 2} {
		for _, variant := range variants {
			t.Run(fmt.Sprintf("arms=%d %s", arms, variant), func(t *testing.T) {
				r := newRig(t, arms, variant)
				g := r.generator(t, 100)
				for want := uint64(20); want <= 1000; want += 20 { // never more at once than the smallest of rings holds
					if err := g.Send(20); err != nil {
						t.Fatal(err)
					}
					for deadline := time.Now().Add(5 * time.Second); r.received(t) != want; time.Sleep(100 * time.Microsecond) {
						if time.Now().After(deadline) {
							t.Fatalf("%d packets of %d arrived", r.received(t), want)
						}
					}
				}
				if out := r.stop(t); out != "forwarded 1000 packets\n" {
					t.Errorf("bare said %q", out)
				}
			})
		}
	}
}

func TestProblemsOfTheCommandLine(t *testing.T) {
	for args, want := range map[string]string{
		"": "one or two --interface",
		"--interface a --interface b --interface c": "one or two --interface",
		"--interface a --burst 9999":                "--burst 9999: allowed are 0 to 1024",
		"--interface a --dst-mac nonsense":          "--dst-mac nonsense: not a MAC address",
	} {
		if _, err := parse(strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", args, err, want)
		}
	}
}

// threads returns the forwarder's threads.
func (r *rig) threads(t testing.TB) (tids []int) {
	t.Helper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", r.bare.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			t.Fatal(err)
		}
		tids = append(tids, tid)
	}
	return tids
}

// cpu returns the CPU time that the forwarder has had, in nanoseconds (Documentation/scheduler/sched-stats.rst).
func (r *rig) cpu(t testing.TB) (sum uint64) {
	t.Helper()
	for _, tid := range r.threads(t) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", tid))
		if err != nil {
			t.Fatal(err)
		}
		var ns uint64
		if _, err := fmt.Sscan(string(stat), &ns); err != nil {
			t.Fatal(err)
		}
		sum += ns
	}
	return sum
}

// pin keeps a thread on one CPU.
func pin(t testing.TB, pid, cpu int) {
	t.Helper()
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(pid, &set); err != nil {
		t.Fatal(err)
	}
}

// What is forwarded of a flood, the forwarder having a CPU of its own: -benchtime 3000000x offers so many packets.
func BenchmarkFlood(b *testing.B) {
	for _, arms := range []int{1, 2} {
		for _, variant := range variants {
			b.Run(fmt.Sprintf("arms=%d/%s", arms, strings.ReplaceAll(strings.TrimSpace("plain "+variant), " ", "")), func(b *testing.B) {
				r := newRig(b, arms, variant)
				for _, tid := range r.threads(b) {
					pin(b, tid, 1)
				}
				pin(b, 0, 0)
				g := r.generator(b, 1000)
				before, cpu := r.received(b), r.cpu(b)
				b.ResetTimer()
				if err := g.Run(context.Background(), uint64(b.N), 0); err != nil {
					b.Fatal(err)
				}
				took := b.Elapsed().Seconds()
				b.ReportMetric(float64(b.N)/took/1e6, "Mpps-offered")
				forwarded := float64(r.received(b) - before)
				b.ReportMetric(forwarded/took/1e6, "Mpps-forwarded")
				b.ReportMetric(float64(r.cpu(b)-cpu)/forwarded, "CPU-ns/packet") // says more than the rate on a busy machine
			})
		}
	}
}
