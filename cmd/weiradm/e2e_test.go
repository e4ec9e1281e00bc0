package main

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/internal/lab"
	"weir/internal/testnet"
	"weir/lb"
)

// build compiles a command of this module.
func build(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if out, err := exec.Command("go", "build", "-o", path, "weir/cmd/"+name).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	return path
}

// TestTheDaemon runs weir on AF_XDP between a client and servers, and weiradm beside it: rules come by the socket, traffic follows
// them, counters tell it, and what was configured is there again after a restart.
func TestTheDaemon(t *testing.T) {
	weir, weiradm := build(t, "weir"), build(t, "weiradm")
	vip := netip.MustParseAddr("192.0.2.101")
	l := lab.New(t, testnet.New(t), testnet.Plan{VIPs: []string{vip.String()}})
	saved := filepath.Join(t.TempDir(), "rules")
	p, err := l.StartWeir(context.Background(), weir, nil, nil, "--save", saved, "--metrics-address", "127.0.0.1:9100")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("weir wrote:\n%s", p.Output())
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	run := func(stdin string, args ...string) (string, error) {
		var out bytes.Buffer
		c := exec.Command(weiradm, append([]string{"--socket", l.Socket()}, args...)...)
		c.Stdin, c.Stdout, c.Stderr = strings.NewReader(stdin), &out, &out
		err := c.Run()
		return out.String(), err
	}
	must := func(stdin string, args ...string) string {
		t.Helper()
		out, err := run(stdin, args...)
		if err != nil {
			t.Fatalf("weiradm %s: %v\n%s", args, err, out)
		}
		return out
	}
	if info, err := os.Stat(l.Socket()); err != nil || info.Mode().Perm() != 0o600 || info.Mode()&fs.ModeSocket == 0 {
		t.Errorf("socket: %v, %v", info, err)
	}

	// A second one must not take the socket over.
	second, err := l.Director.Run(weir, "--interface", l.Front.Name, "--admin-socket", l.Socket())
	if err == nil || !strings.Contains(second+err.Error(), "another weir answers there") {
		t.Errorf("a second weir on the socket: %v\n%s", err, second)
	}

	rules := l.Rules(lab.Service{Proto: lb.TCP, VIP: netip.AddrPortFrom(vip, lab.HTTPPort), Mode: lb.NAT, Scheduler: "rr", Weights: []int{1, 1}})
	must(strings.Join(rules, "\n")+"\n", "-R", "--atomic")
	if out := must("", "-Sn"); out != "-A -t 192.0.2.101:80 -s rr\n-a -t 192.0.2.101:80 -r "+l.Servers[0].IP.String()+":80 -m -w 1\n-a -t 192.0.2.101:80 -r "+
		l.Servers[1].IP.String()+":80 -m -w 1\n" {
		t.Errorf("-Sn:\n%s", out)
	}
	request := func(n int) {
		t.Helper()
		tally := l.Requests(context.Background(), netip.AddrPortFrom(vip, lab.HTTPPort), n)
		if tally.Errors > 0 {
			t.Fatalf("%d of %d requests failed: %v", tally.Errors, n, tally.First)
		}
	}
	request(20)
	conns := func(name string) string {
		t.Helper()
		out := must("", "-Ln", "--stats")
		_, line, _ := strings.Cut(out, name)
		if f := strings.Fields(line); len(f) > 0 {
			return f[0]
		}
		return out
	}
	if n := conns("TCP  192.0.2.101:80"); n != "20" {
		t.Errorf("20 requests: %s", n)
	}
	if out := must("", "connections", "--virtual", "192.0.2.101:80", "--count"); strings.TrimSpace(out) != "20" {
		t.Errorf("connections: %s", out)
	}
	out := must("", "status")
	for _, want := range []string{"1 services, 2 servers", l.Front.Name, "CONNECTIONS 20 of"} {
		if !strings.Contains(out, want) {
			t.Errorf("status has no %q:\n%s", want, out)
		}
	}
	if out := must("", "trace", "tcp", l.Client.IP.String()+":1", "192.0.2.101:80"); !strings.Contains(out, "rr chooses among 2 servers") {
		t.Errorf("trace:\n%s", out)
	}

	for path, want := range map[string]string{"readyz": "ok", "metrics": `weir_service_connections_total{protocol="tcp",service="192.0.2.101:80"} 20`} {
		if text := get(t, l.Director, "127.0.0.1:9100", path); !strings.Contains(text, want) {
			t.Errorf("/%s has no %s:\n%s", path, want, text)
		}
	}

	// One server goes, in the face of clients; the other has it all.
	must("", "-d", "-t", "192.0.2.101:80", "-r", l.Servers[1].IP.String()+":80")
	request(10)
	if n := conns("-> " + l.Servers[0].IP.String() + ":80"); n != "20" {
		t.Errorf("10 more to one server: %s", n)
	}

	// SIGTERM saves what was changed last, and removes the socket; the next life begins with it.
	if err := p.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(l.Socket()); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
	if out, err := run("", "-Ln"); err == nil || !strings.Contains(out, "no weir is listening there") {
		t.Errorf("weiradm without weir: %v, %s", err, out)
	}
	if p, err = l.StartWeir(context.Background(), weir, nil, nil, "--save", saved, "--rule", "-A -u 192.0.2.101:7 -s rr"); err != nil {
		t.Fatal(err)
	}
	if out := must("", "-Sn"); strings.Count(out, "\n") != 2 || !strings.Contains(out, l.Servers[0].IP.String()) {
		t.Errorf("after the restart:\n%s", out)
	}
	request(5)
	if err := p.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
}

// get asks a server that listens in a namespace.
func get(t *testing.T, ns *testnet.Namespace, address, path string) string {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DialContext: ns.DialContext, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	r, err := c.Get("http://" + address + "/" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
