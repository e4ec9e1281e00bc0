package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"weir/internal/lab"
	"weir/internal/testnet"
	"weir/lb"
)

const (
	// The lab's namespaces are weirlab-client, weirlab-director, weirlab-server1 …
	prefix = "weirlab"
	// holdCommand is what up runs in the background: the process that owns the lab, and takes it down when it ends.
	holdCommand = "hold"
	logFile     = "/run/weirlab.log"
	upMessage   = "the lab is up"
	// In the director's namespace.
	metricsAddress = "127.0.0.1:9100"
	webAddress     = "127.0.0.1:8080"
)

var vips = map[lb.Mode]string{lb.DR: "192.0.2.101", lb.NAT: "192.0.2.102", lb.FULLNAT: "192.0.2.103", lb.TUN: "192.0.2.104"}

// services returns a web and an echo service for each mode, on the mode's own VIP.
func services() (all []lab.Service) {
	for _, mode := range lab.Modes {
		vip := netip.MustParseAddr(vips[mode])
		web := lab.Service{Proto: lb.TCP, VIP: netip.AddrPortFrom(vip, lab.HTTPPort), Mode: mode, Weights: []int{1, 2, 3}}
		udp := lab.Service{Proto: lb.UDP, VIP: netip.AddrPortFrom(vip, lab.EchoPort), Mode: mode, Weights: []int{1, 2, 3}}
		if mode == lb.NAT || mode == lb.FULLNAT {
			web.ServerPort, udp.ServerPort = lab.HTTPAltPort, lab.EchoAltPort
		}
		all = append(all, web, udp)
	}
	return all
}

// up starts the holder and waits until it says that the lab is up.
func up(weir string, stdout io.Writer) error {
	pid, err := testnet.Owner(prefix)
	if err != nil {
		return err
	}
	if pid != 0 {
		return fmt.Errorf("the lab is up already, held by process %d: take it down with weirlab down", pid)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.Create(logFile)
	if err != nil {
		return err
	}
	defer log.Close()
	said, says, err := os.Pipe()
	if err != nil {
		return err
	}
	defer said.Close()
	cmd := exec.Command(self, "--weir", weir, holdCommand)
	cmd.Stdout, cmd.Stderr = says, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	says.Close()
	line := make([]byte, len(upMessage))
	if n, _ := io.ReadFull(said, line); string(line[:n]) != upMessage {
		cmd.Wait()
		reason, _ := os.ReadFile(logFile)
		os.Remove(logFile)
		reason = bytes.TrimSpace(reason)
		reason = reason[bytes.LastIndexByte(reason, '\n')+1:]
		return errors.New(strings.TrimPrefix(string(reason), "weirlab: "))
	}
	fmt.Fprint(stdout, tryByHand())
	return nil
}

// hold owns the lab until it is told to end, or weir ends.
func hold(ctx context.Context, weir string) error {
	return testnet.Run(func(r testnet.Reporter) error {
		var all []string
		for _, mode := range lab.Modes {
			all = append(all, vips[mode])
		}
		n := testnet.NewNamed(r, prefix)
		l := lab.New(r, n, testnet.Plan{VIPs: all})
		p, err := l.StartWeir(ctx, weir, os.Stderr, services(), "--metrics-address", metricsAddress, "--web-address", webAddress)
		if err != nil {
			return err
		}
		r.Cleanup(func() { p.Stop(10 * time.Second) })
		fmt.Print(upMessage)
		os.Stdout.Close()
		select {
		case <-ctx.Done():
			return nil
		case <-p.Done():
			return fmt.Errorf("weir ended: %w", p.Wait(time.Second))
		}
	})
}

// down tells the holder to end and waits until it has.
func down(stdout io.Writer) error {
	pid, err := testnet.Owner(prefix)
	if err != nil {
		return err
	}
	if pid == 0 {
		os.Remove(logFile)
		fmt.Fprintln(stdout, "No lab is up.")
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("end process %d, which holds the lab: %w", pid, err)
	}
	err = testnet.Run(func(r testnet.Reporter) error {
		testnet.Eventually(r, 20*time.Second, fmt.Sprintf("process %d ends", pid), func() bool {
			owner, err := testnet.Owner(prefix)
			return err == nil && owner == 0
		})
		return nil
	})
	if err == nil {
		os.Remove(logFile)
		fmt.Fprintln(stdout, "The lab is down.")
	}
	return err
}

func tryByHand() string {
	client, director, server := "ip netns exec "+prefix+"-client", "ip netns exec "+prefix+"-director", "ip netns exec "+prefix+"-server1"
	return fmt.Sprintf(`The lab is up: a client (%s), a director that runs weir, and three servers of the weights 1, 2 and 3.

Ask a service, once for each connection; the answer names the server and whom it saw as its client:
  %s curl -s http://%s/     # DR
  %s curl -s http://%s/     # NAT      (port 80 to 8080)
  %s curl -s http://%s/     # FULLNAT  (the servers see %s)
  %s curl -s http://%s/     # TUN
  for i in 1 2 3 4 5 6; do %s curl -s http://%s/; done
  %s curl -so /dev/null -w '%%{speed_download} B/s\n' http://%s/download/67108864

Watch the packets; weir's never reach the director's own stack, so look at a server or at the client:
  %s tcpdump -ni eth0 -c 20        # what the director sends a server: DR, NAT, FULLNAT and IP in IP
  %s tcpdump -ni eth1 -c 20        # what the server sends past the director: DR and TUN

Ask weir, by the socket of its director:
  export WEIR_SOCKET=%s
  weiradm -Ln; weiradm status; weiradm top
  weiradm trace tcp %s:40000 %s:80
  weiradm capture --client %s -w - | tcpdump -nr -
  %s curl -s http://%s/metrics    # what Prometheus reads; /healthz and /readyz, too
  %s curl -s http://%s/data       # what the web page shows; a browser in that namespace shows the page

Look at the director, which still is an ordinary host:
  %s ip -s link                # eth0 is the clients' side, eth1 the servers'
  %s ip -br addr                # the VIPs, and the LIP on eth1, are weir's (--assign-addresses)
  tail -f %s            # weir's log

Take it down:
  weirlab down
`, testnet.ClientIP, client, vips[lb.DR], client, vips[lb.NAT], client, vips[lb.FULLNAT], lab.LIP, client, vips[lb.TUN], client, vips[lb.DR],
		client, vips[lb.TUN], server, server, (&testnet.Namespace{Name: prefix + "-director"}).Socket(), testnet.ClientIP, vips[lb.NAT], testnet.ClientIP,
		director, metricsAddress, director, webAddress, director, director, logFile)
}
