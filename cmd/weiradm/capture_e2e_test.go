package main

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"weir/internal/lab"
	"weir/internal/testnet"
	"weir/lb"
)

// TestCaptureOfRealTraffic captures one of two services that weir serves on AF_XDP, stops by ^C, and has tshark read what there is.
func TestCaptureOfRealTraffic(t *testing.T) {
	weir, weiradm := build(t, "weir"), build(t, "weiradm")
	vip := netip.MustParseAddr("192.0.2.101")
	wanted := lab.Service{Proto: lb.TCP, VIP: netip.AddrPortFrom(vip, lab.HTTPPort), Mode: lb.NAT, Weights: []int{1, 1}, ServerPort: lab.HTTPAltPort}
	other := lab.Service{Proto: lb.TCP, VIP: netip.AddrPortFrom(vip, lab.HTTPAltPort), Mode: lb.FULLNAT, Weights: []int{1}}
	l := lab.New(t, testnet.New(t), testnet.Plan{VIPs: []string{vip.String()}})
	if _, err := l.StartWeir(context.Background(), weir, nil, []lab.Service{wanted, other}); err != nil {
		t.Fatal(err)
	}
	const requests = 20
	traffic := func() {
		t.Helper()
		for _, s := range []lab.Service{wanted, other} {
			if tally := l.Requests(context.Background(), s.VIP, requests); tally.Errors > 0 {
				t.Fatalf("%d of %d requests failed: %v", tally.Errors, requests, tally.First)
			}
		}
	}

	file := filepath.Join(t.TempDir(), "web.pcapng")
	capture := exec.Command(weiradm, "--socket", l.Socket(), "capture", "--virtual", wanted.VIP.String(), "-w", file)
	var said bytes.Buffer
	capture.Stderr = &said
	if err := capture.Start(); err != nil {
		t.Fatal(err)
	}
	testnet.Eventually(t, 20*time.Second, "the capture has begun", func() bool {
		info, err := os.Stat(file)
		return err == nil && info.Size() > 0
	})
	traffic()
	if err := capture.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := capture.Wait(); err != nil || !strings.HasSuffix(said.String(), "frames captured (interrupted)\n") {
		t.Fatalf("%v: %s", err, said.String())
	}

	counts := map[string]int{}
	for _, line := range tshark(t, file, "frame.interface_name", "ip.src", "ip.dst", "tcp.dstport", "http.request.method", "http.response.code") {
		f := strings.Split(line, "|")
		to := f[2]
		switch {
		case to == l.Client.IP.String():
			to = "client"
		case slices.ContainsFunc(l.Servers, func(s *testnet.Host) bool { return s.IP.String() == to }):
			to = "server"
		}
		switch {
		case f[4] != "":
			counts[f[0]+" "+f[4]+" to "+to+":"+f[3]]++
		case f[5] != "":
			counts[f[0]+" "+f[5]+" to "+to]++
		}
		if f[1] == lab.LIP.String() || f[3] == "80" && to == "server" {
			t.Errorf("of the other service: %s", line)
		}
	}
	front, back := l.Interfaces()[0], l.Interfaces()[1]
	for what, n := range map[string]int{
		front + " in GET to 192.0.2.101:80": requests, back + " out GET to server:8080": requests,
		back + " in 200 to client": requests, front + " out 200 to client": requests,
	} {
		if counts[what] != n {
			t.Errorf("%d of %s, want %d: %v", counts[what], what, n, counts)
		}
	}

	// Into another program, until there is enough.
	pipe := exec.Command("sh", "-c", `"$1" --socket "$2" capture --mode fullnat --count 8 --seconds 20 -w - | tshark -n -r - -T fields -e frame.number`,
		"sh", weiradm, l.Socket())
	var read bytes.Buffer
	pipe.Stdout = &read
	if err := pipe.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- pipe.Wait() }()
	for waiting := true; waiting; {
		select {
		case err := <-ended:
			if waiting = false; err != nil || strings.Join(strings.Fields(read.String()), " ") != "1 2 3 4 5 6 7 8" {
				t.Errorf("through a pipe: %v: %q", err, read.String())
			}
		default:
			traffic()
		}
	}
}
