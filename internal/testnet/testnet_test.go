package testnet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"weir/internal/testpkt"

	"golang.org/x/sys/unix"
)

func pair(t *testing.T, queues int) (a, b *Device) {
	n := New(t)
	return n.Veth(End{NS: n.Namespace("a"), Addrs: []string{"192.0.2.1/24", "2001:db8::1/64"}},
		End{NS: n.Namespace("b"), Addrs: []string{"192.0.2.2/24", "2001:db8::2/64"}}, queues)
}

func namesOf(prefix string) []string {
	names, _ := filepath.Glob(netnsDir + "/" + prefix + "-*")
	return names
}

func TestNothingIsLeftBehind(t *testing.T) {
	var prefix string
	t.Run("network", func(t *testing.T) {
		a, _ := pair(t, 1)
		prefix = a.NS.net.prefix
		a.NS.Start("sleep", "60")
		if len(namesOf(prefix)) != 2 {
			t.Fatalf("namespaces %q", namesOf(prefix))
		}
	})
	if names := namesOf(prefix); len(names) > 0 {
		t.Errorf("left: %q", names)
	}
	if _, err := os.Stat(filepath.Join(ownersDir, prefix)); !os.IsNotExist(err) {
		t.Errorf("owner's file: %v", err)
	}
}

func TestWhatAKilledProgramLeftIsRemoved(t *testing.T) {
	n := New(&program{})
	ns := n.Namespace("orphan")
	n.owner.Close() // as the kernel does when a process dies
	ns.nl.Close()
	ns.handle.Close()
	New(t)
	if names := namesOf(n.prefix); len(names) > 0 {
		t.Errorf("left: %q", names)
	}
}

func TestALivingNetworkIsLeftAlone(t *testing.T) {
	n := New(t)
	n.Namespace("a")
	New(t)
	if len(namesOf(n.prefix)) != 1 {
		t.Error("removed while its owner lives")
	}
	if pid, err := Owner(n.prefix); err != nil || pid != os.Getpid() {
		t.Errorf("owner %d, %v", pid, err)
	}
	if err := Run(func(r Reporter) error { NewNamed(r, n.prefix); return nil }); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second network of the same name: %v", err)
	}
}

func TestRunCleansUpWhateverHappens(t *testing.T) {
	var prefix string
	build := func(r Reporter) {
		n := New(r)
		prefix = n.prefix
		n.Namespace("a")
	}
	if err := Run(func(r Reporter) error { build(r); return errors.New("told") }); err == nil || err.Error() != "told" {
		t.Errorf("returned %v", err)
	}
	if len(namesOf(prefix)) > 0 {
		t.Error("left after an error")
	}
	err := Run(func(r Reporter) error { build(r); r.Fatalf("fatal %d", 7); return nil })
	if err == nil || err.Error() != "fatal 7" {
		t.Errorf("returned %v", err)
	}
	if len(namesOf(prefix)) > 0 {
		t.Error("left after Fatalf")
	}
	func() {
		defer func() {
			if recover() != "mistake" {
				t.Error("a panic was swallowed")
			}
		}()
		Run(func(r Reporter) error { build(r); panic("mistake") })
	}()
	if len(namesOf(prefix)) > 0 {
		t.Error("left after a panic")
	}
}

func TestDoRunsInTheNamespaceAndComesHome(t *testing.T) {
	here := inode(t)
	n := New(t)
	ns := n.Namespace("a")
	want := errors.New("told")
	var there uint64
	if err := ns.Do(func() error { there = inode(t); return want }); err != want {
		t.Errorf("got %v", err)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(netnsDir, ns.Name), &st); err != nil || st.Ino != there || there == here {
		t.Errorf("ran in %d, the namespace is %d, home %d, %v", there, st.Ino, here, err)
	}
	func() {
		defer func() { recover() }()
		ns.Do(func() error { panic("in there") })
	}()
	if inode(t) != here {
		t.Error("not home after a panic")
	}
}

func inode(t *testing.T) uint64 {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func TestSocketsStayInTheirNamespaces(t *testing.T) {
	a, b := pair(t, 1)
	for _, address := range []string{"192.0.2.2:80", "[2001:db8::2]:80"} {
		l, err := b.NS.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			c, err := l.Accept()
			if err == nil {
				io.WriteString(c, c.RemoteAddr().(*net.TCPAddr).IP.String())
				c.Close()
			}
		}()
		c, err := a.NS.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		c.Close()
		if want := c.LocalAddr().(*net.TCPAddr).IP.String(); err != nil || string(got) != want {
			t.Errorf("%s: the server saw %q, the client is %q, %v", address, got, want, err)
		}
	}
}

func TestChecksumsAreOnTheWire(t *testing.T) {
	a, b := pair(t, 1)
	for _, d := range []*Device{a, b} {
		err := d.NS.Do(func() error {
			on, err := ethtool(d.Name, unix.ETHTOOL_GTXCSUM, 0)
			if on != 0 {
				t.Errorf("%s: transmit checksum offload is on", d.NS.Name)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	wire := b.Wire()
	c, err := a.NS.Dial("udp", "192.0.2.2:9")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write([]byte("checked"))
	frame, ok := wire.Recv(time.Second, func(f []byte) bool { return bytes.Contains(f, []byte("checked")) })
	if !ok {
		t.Fatal("nothing arrived")
	}
	v := testpkt.Decode(t, frame).MustHold(t)
	if v.ZeroUDP || !bytes.Equal(v.SrcMAC, a.MAC) || !bytes.Equal(v.DstMAC, b.MAC) {
		t.Errorf("%s -> %s, zero checksum %v", v.SrcMAC, v.DstMAC, v.ZeroUDP)
	}
}

func TestWireCarriesFramesAndTagsAsTheyAre(t *testing.T) {
	a, b := pair(t, 4)
	from, to := a.Wire(), b.Wire()
	src, dst := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:2")
	for _, p := range []testpkt.Packet{testpkt.TCP(src, dst, testpkt.SYN), testpkt.UDP(src, dst).VLAN(5, 6), testpkt.UDP(src, dst).Size(1514)} {
		sent := p.From(a.MAC).To(b.MAC).Bytes()
		if err := from.Send(sent); err != nil {
			t.Fatal(err)
		}
		got, ok := to.Recv(time.Second, func(f []byte) bool { return bytes.Equal(f[:12], sent[:12]) && len(f) >= len(sent) })
		if !ok || !bytes.Equal(got, sent) {
			t.Errorf("sent %x\n got %x", sent, got)
		}
	}
	before := b.Counters()
	from.Send(testpkt.UDP(src, dst).From(a.MAC).To(b.MAC).Bytes())
	Eventually(t, time.Second, "the frame is counted", func() bool { return b.Counters().Sub(before).RxPackets >= 1 })
}

func TestProcessesRunInTheNamespace(t *testing.T) {
	a, _ := pair(t, 4)
	out, err := a.NS.Run("ls", "/sys/class/net/eth0/queues")
	if err != nil || strings.Count(out, "rx-") != 4 {
		t.Errorf("queues %q, %v", out, err)
	}
	if out, err := a.NS.Run("sh", "-c", "echo complaint >&2; exit 3"); err == nil || !strings.Contains(err.Error(), "complaint") {
		t.Errorf("%q, %v", out, err)
	}

	p := a.NS.Start("sh", "-c", "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done")
	if err := p.WaitOutput("ready", 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(5 * time.Second); err != nil || !strings.HasSuffix(p.Output(), "bye\n") {
		t.Errorf("stopped with %v after %q", err, p.Output())
	}
	if err := p.WaitOutput("never", time.Minute); err == nil {
		t.Error("waits for output of what has ended")
	}
	p = a.NS.Start("sleep", "60")
	if err := p.WaitOutput("never", 10*time.Millisecond); err == nil {
		t.Error("found what was not written")
	}
}

func TestProcessesDieWithTheProgram(t *testing.T) {
	if os.Getenv("TESTNET_CHILD") != "" {
		n := New(t)
		p := n.Namespace("a").Start("sleep", "60")
		if _, err := os.Stdout.WriteString(n.prefix + " " + filepath.Join("/proc", strconv.Itoa(p.Pid)) + "\n"); err != nil {
			t.Fatal(err)
		}
		select {}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestProcessesDieWithTheProgram$")
	cmd.Env = append(os.Environ(), "TESTNET_CHILD=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 100)
	n, _ := out.Read(line)
	cmd.Process.Kill()
	cmd.Wait()
	fields := strings.Fields(string(line[:n]))
	if len(fields) != 2 || len(namesOf(fields[0])) != 1 {
		t.Fatalf("the child wrote %q", line[:n])
	}
	Eventually(t, 5*time.Second, "the killed program's process ends", func() bool {
		state, err := os.ReadFile(fields[1] + "/stat")
		return err != nil || bytes.Contains(state, []byte(") Z "))
	})
	New(t)
	if names := namesOf(fields[0]); len(names) > 0 {
		t.Errorf("left: %q", names)
	}
}

func TestTopologiesConnectEveryone(t *testing.T) {
	for name, plan := range map[string]Plan{"one arm": {OneArm: true}, "two arms": {Queues: 2}} {
		t.Run(name, func(t *testing.T) {
			const vip, vip6 = "192.0.2.100", "2001:db8::100"
			plan.VIPs = []string{vip, vip6}
			top := NewTopology(New(t), plan)
			for _, s := range top.Servers {
				// By its own address: through the director, both ways.
				for _, address := range []string{netip.AddrPortFrom(s.IP, 80).String(), netip.AddrPortFrom(s.IP6, 80).String()} {
					before := top.Back.Counters()
					echo(t, top, s, address, address)
					if d := top.Back.Counters().Sub(before); d.RxPackets < 1 || d.TxPackets < 1 {
						t.Errorf("%s: not through the director: %+v", address, d)
					}
				}
			}
			// Nobody answers for a VIP that the director does not have.
			top.Client.Sysctl("net.ipv4.neigh.eth0.retrans_time_ms", "50")
			if c, err := top.Client.Dial("tcp", vip+":80"); err == nil {
				c.Close()
				t.Error("someone answered for the VIP")
			} else if !strings.Contains(err.Error(), "no route") {
				t.Errorf("dial the VIP: %v", err)
			}
			// With the VIP routed to one server, as DR would bring it there, the reply goes past the director.
			s := top.Servers[1]
			top.Director.Route(vip+"/32", s.IP.String())
			top.Director.Route(vip6+"/128", s.IP6.String())
			top.Client.Route(vip+"/32", DirectorIP)
			top.Client.Route(vip6+"/128", DirectorIP6)
			for _, address := range []string{vip + ":80", "[" + vip6 + "]:80"} {
				before, direct := top.Back.Counters(), s.Direct.Counters()
				echo(t, top, s, address, address)
				if d := top.Back.Counters().Sub(before); !plan.OneArm && d.RxBytes > 2000 {
					t.Errorf("%s: the reply came by the director: %+v", address, d)
				}
				if d := s.Direct.Counters().Sub(direct); d.TxBytes < 64<<10 {
					t.Errorf("%s: the reply did not go straight: %+v", address, d)
				}
			}
		})
	}
}

// echo makes the server answer at local with 64 KiB, and the client ask at remote.
func echo(t *testing.T, top *Topology, s *Host, local, remote string) {
	t.Helper()
	l, err := s.Listen("tcp", local)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			c.Write(testpkt.Pattern(64 << 10))
			c.Close()
		}
	}()
	c, err := top.Client.Dial("tcp", remote)
	if err != nil {
		t.Fatalf("%s: %v", remote, err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, testpkt.Pattern(64<<10)) {
		t.Errorf("%s: %d bytes, %v", remote, len(got), err)
	}
}

func TestSendByChoosesTheReceivingQueue(t *testing.T) {
	a, b := pair(t, 4)
	// A veth counts by queue what goes through NAPI, which it uses for XDP and for GRO.
	err := b.NS.Do(func() error { _, err := ethtool(b.Name, unix.ETHTOOL_SGRO, 1); return err })
	if err != nil {
		t.Fatal(err)
	}
	for queue := range 4 {
		a.SendBy(queue)
		c, err := a.NS.Dial("udp", "192.0.2.2:9") // a new one: a connected socket keeps to the queue it began with
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		name := fmt.Sprintf("rx_queue_%d_xdp_packets", queue)
		before := b.Stats()[name]
		Eventually(t, 5*time.Second, name+" counts", func() bool {
			c.Write([]byte("by the queue"))
			return b.Stats()[name] >= before+10
		})
	}
}
