package main

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/gopacket/pcapgo"

	"weir/internal/testpkt"
)

// runningCapture is weiradm capture -w - with a reader who has seen its beginning.
type runningCapture struct {
	t      *testing.T
	end    context.CancelFunc // as ^C
	pipe   *io.PipeReader
	done   chan int
	stderr bytes.Buffer
}

func (r *rig) capture(t *testing.T, filter string) *runningCapture {
	t.Helper()
	c := &runningCapture{t: t, done: make(chan int)}
	var ctx context.Context
	ctx, c.end = context.WithCancel(t.Context())
	var stdout *io.PipeWriter
	c.pipe, stdout = io.Pipe()
	p := program{ctx: ctx, stdin: strings.NewReader(""), stdout: stdout, stderr: &c.stderr, env: func(string) string { return r.socket }}
	go func() {
		status := p.run(strings.Fields("capture " + filter + " -w -"))
		stdout.Close()
		c.done <- status
	}()
	return c
}

// frame is one of a capture, as another program reads it.
type frame struct {
	iface string
	data  []byte
}

// frames waits for the beginning, has the packets sent, ends the capture, and returns what it has.
func (c *runningCapture) frames(send func()) (all []frame) {
	c.t.Helper()
	in, err := pcapgo.NewNgReader(c.pipe, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		c.t.Fatalf("%v: %s", err, c.stderr.String())
	}
	send()
	c.end()
	for {
		data, info, err := in.ReadPacketData()
		if err == io.EOF {
			break
		} else if err != nil {
			c.t.Fatal(err)
		}
		f, err := in.Interface(info.InterfaceIndex)
		if err != nil {
			c.t.Fatal(err)
		}
		all = append(all, frame{f.Name, data})
	}
	if status := <-c.done; status != 0 {
		c.t.Errorf("exit %d: %s", status, c.stderr.String())
	}
	return all
}

func TestCaptureTakesWhatTheFilterNames(t *testing.T) {
	server := netip.MustParseAddrPort("10.20.0.1:8080")
	nat, full := netip.MustParseAddrPort("10.9.0.1:80"), netip.MustParseAddrPort("10.9.0.1:81")
	for filter, want := range map[string]string{
		"":                                   "nat in, nat out, answer in, answer out, full in, full out, none in, ttl in, icmp out, bad in",
		"--client 198.51.100.7":              "nat in, nat out, answer in, answer out, full in, full out, none in, ttl in, icmp out",
		"--client 198.51.100.7:5":            "nat in, nat out, answer in, answer out",
		"--virtual 10.9.0.1:80":              "nat in, nat out, answer in, answer out, ttl in, icmp out",
		"--virtual :81":                      "full in, full out",
		"--server 10.20.0.1":                 "nat in, nat out, answer in, answer out, full in, full out, ttl in, icmp out",
		"--local 10.20.0.200":                "full in, full out",
		"--mode nat":                         "nat in, nat out, answer in, answer out, ttl in, icmp out",
		"--mode nat --state udp --client :5": "nat in, nat out, answer in, answer out",
		"--mode dr":                          "",
		"--protocol tcp":                     "",
		"--virtual 10.9.0.9":                 "none in",
		"--client 203.0.113.0/24":            "",
	} {
		t.Run(filter, func(t *testing.T) {
			r := newRig(t)
			r.must("-A -u 10.9.0.1:80", "-a -u 10.9.0.1:80 -r 10.20.0.1:8080 -m", "-A -u 10.9.0.1:81", "-a -u 10.9.0.1:81 -r 10.20.0.1:8080 -F")
			var names []string
			for _, f := range r.capture(t, filter).frames(func() {
				r.client(testpkt.UDP(from(5), nat))
				r.send(1, testpkt.UDP(server, from(5)))
				r.client(testpkt.UDP(from(6), full))
				r.client(testpkt.UDP(from(7), netip.MustParseAddrPort("10.9.0.9:80")))
				r.client(testpkt.UDP(from(8), nat).TTL(1))
				r.queues[0].Inject(testpkt.UDP(from(9), nat).Bytes()[:20])
				r.worker.Turn()
			}) {
				names = append(names, nameFrame(t, f, nat, full, server))
			}
			if got := strings.Join(names, ", "); got != want {
				t.Errorf("captured %s\nwant     %s", got, want)
			}
		})
	}
}

// nameFrame says which of the packets above a frame is, by its addresses and by its interface in the file.
func nameFrame(t *testing.T, f frame, nat, full, server netip.AddrPort) string {
	t.Helper()
	if f.iface == "client0 in truncated" {
		return "bad in"
	}
	view := testpkt.Decode(t, f.data)
	if f.iface == "server0 out" && view.Src.Addr() == netip.MustParseAddr("10.20.0.200") && view.Dst == server {
		return "full out"
	}
	switch which := f.iface + " " + view.Src.String() + " " + view.Dst.String(); which {
	case "client0 in " + from(5).String() + " " + nat.String():
		return "nat in"
	case "server0 out " + from(5).String() + " " + server.String():
		return "nat out"
	case "server0 in " + server.String() + " " + from(5).String():
		return "answer in"
	case "client0 out " + nat.String() + " " + from(5).String():
		return "answer out"
	case "client0 in " + from(6).String() + " " + full.String():
		return "full in"
	case "client0 in no-service " + from(7).String() + " 10.9.0.9:80":
		return "none in"
	case "client0 in ttl-exceeded " + from(8).String() + " " + nat.String():
		return "ttl in"
	case "client0 out 10.9.0.1:0 198.51.100.7:0":
		return "icmp out"
	default:
		return which
	}
}

// What weiradm writes is read by another program, with what its interfaces say.
func TestTsharkReadsACapture(t *testing.T) {
	r := newRig(t)
	r.must("-A -u 10.9.0.1:80", "-a -u 10.9.0.1:80 -r 10.20.0.1:8080 -m")
	file := filepath.Join(t.TempDir(), "capture.pcapng")
	c := r.capture(t, "--snaplen 60")
	whole := &bytes.Buffer{}
	in, err := pcapgo.NewNgReader(io.TeeReader(c.pipe, whole), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	r.client(testpkt.UDP(from(5), vip).Size(1000))
	r.client(testpkt.UDP(from(6), netip.MustParseAddrPort("10.9.0.9:80")))
	c.end()
	for err == nil {
		_, _, err = in.ReadPacketData()
	}
	<-c.done
	if !strings.HasPrefix(c.stderr.String(), "3 frames captured (interrupted)\n") {
		t.Errorf("weiradm says %q", c.stderr.String())
	}
	if err := os.WriteFile(file, whole.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	got := tshark(t, file, "frame.interface_name", "frame.interface_description", "frame.len", "frame.cap_len", "ip.src", "udp.dstport")
	want := []string{
		"client0 in|received, and forwarded|1000|60|198.51.100.7|80", "server0 out|sent|1000|60|198.51.100.7|8080",
		"client0 in no-service|received, and not forwarded. Given to the kernel: no rule is for this address, protocol and port; compare with weiradm -Ln if clients miss a service.|42|42|198.51.100.7|80",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("tshark reads\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// tshark reads fields of a capture's frames, a line each.
func tshark(t *testing.T, file string, fields ...string) []string {
	t.Helper()
	args := []string{"-n", "-r", file, "-T", "fields", "-E", "separator=|"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	cmd := exec.Command("tshark", args...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark (make installs it): %v\n%s", err, complaints.String())
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func TestCaptureSaysWhatIsWrong(t *testing.T) {
	r := newRig(t)
	old := filepath.Join(t.TempDir(), "old")
	if err := os.WriteFile(old, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"capture":                             "--write is missing",
		"capture -w x extra":                  `"extra": takes flags only`,
		"capture -w x --count 0":              "--count 0: allowed: 1 and more",
		"capture -w x --seconds 86401":        `--seconds "86401": allowed: 1 to 86400`,
		"capture -w x --snaplen 13":           `--snaplen "13": allowed: 14 to 65535`,
		"capture -w x --bytes -1":             `--bytes "-1": allowed: 1 to 1099511627776`,
		"capture -w x --client here":          `--client "here": want ADDRESS`,
		"capture -w x --state open":           `--state "OPEN": allowed: `,
		"capture -w - --json":                 "--json prints where -w - writes",
		"--socket /no/sock capture -w " + old: "no weir is listening there",
	} {
		exit, stdout, stderr := r.weiradm(line, "")
		if exit == 0 || stdout != "" || !strings.Contains(stderr, want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("weiradm %s: exit %d: %s%s\nwant %s", line, exit, stdout, stderr, want)
		}
	}
	c := r.capture(t, "")
	c.frames(func() {
		if exit, _, stderr := r.weiradm("capture -w "+old, ""); exit != 1 || !strings.Contains(stderr, "another capture is under way") {
			t.Errorf("a second one: exit %d: %s", exit, stderr)
		}
	})
	// Last, since weir learns a moment later that nobody reads any more.
	if exit, _, stderr := r.weiradm("capture -w /no/such/place/x", ""); exit != 1 || stderr != "weiradm: open /no/such/place/x: no such file or directory\n" {
		t.Errorf("a file that cannot be made: exit %d: %s", exit, stderr)
	}
	if text, err := os.ReadFile(old); err != nil || string(text) != "mine" {
		t.Errorf("what was refused has changed the file to %q, %v", text, err)
	}
}

func TestCaptureEndsByItself(t *testing.T) {
	r := newRig(t)
	r.must("-A -u 10.9.0.1:80", "-a -u 10.9.0.1:80 -r 10.20.0.1:8080 -m")
	file := filepath.Join(t.TempDir(), "capture")
	for args, want := range map[string]string{
		"--count 3":                      `"frames": 3, "bytes": 126, "lost": 0, "ended": "count"`,
		"--bytes 100":                    `"frames": 3, "bytes": 126, "lost": 0, "ended": "bytes"`,
		"--seconds 1 --virtual 10.9.0.7": `"frames": 0, "bytes": 0, "lost": 0, "ended": "time"`,
	} {
		type result struct {
			exit           int
			stdout, stderr string
		}
		done := make(chan result)
		go func() {
			exit, stdout, stderr := r.weiradm("capture --json "+args+" -w "+file, "")
			done <- result{exit, stdout, stderr}
		}()
		var got result
		for waiting := true; waiting; {
			select {
			case got = <-done:
				waiting = false
			default:
				r.client(testpkt.UDP(from(5), vip))
			}
		}
		if text := strings.Join(strings.Fields(got.stdout), " "); got.exit != 0 || !strings.Contains(text, want) || got.stderr != "" {
			t.Errorf("%s: %+v\nwant %s", args, got, want)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the file: %v, %v", info, err)
		}
	}
}
