package rig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"weir/internal/testnet"
)

// TCPSample is what real TCP connections got through a candidate, everything on all CPUs.
type TCPSample struct {
	Run         int     `json:"run"`               // as Sample's
	Requests    float64 `json:"requests_per_s"`    // HTTP on 64 connections kept alive
	Connections float64 `json:"connections_per_s"` // HTTP, a fresh connection for each request
	Gbits       float64 `json:"gbit_per_s"`        // one connection's payload
	Load        float64 `json:"loadavg"`
}

func (s TCPSample) number() int { return s.Run }

// TCPSeries are the samples of one candidate.
type TCPSeries struct {
	Candidate string      `json:"candidate"`
	Samples   []TCPSample `json:"samples"`
}

// Median returns the middle of a figure over the samples.
func (s *TCPSeries) Median(figure func(TCPSample) float64) float64 {
	var all []float64
	for _, sample := range s.Samples {
		all = append(all, figure(sample))
	}
	return median(all)
}

// tcpCandidate brings connections to the servers: those to address:80 and address:5201.
type tcpCandidate struct {
	name     string
	offloads bool // segmentation and checksum offload, GRO: as users have them
	start    func(*tcpTrial) error
}

const (
	wireName    = "bare AF_XDP wire"
	haproxyName = "HAProxy"
	nginxName   = "nginx stream"
	weirNATName = "weir, NAT"
)

const (
	webPort  = 80
	bulkPort = 5201
)

// tcpTrial is client ── director ── servers, with the servers' default route through the director. The address is the VIP, but for the wire,
// which joins client and servers to one network.
type tcpTrial struct {
	testnet.Reporter
	programs                  Programs
	client, director, servers *testnet.Namespace
	address                   netip.Addr
	listed                    []server
	dir                       string // for configuration files
}

func tcpCandidates() []tcpCandidate {
	dnat := func(t *tcpTrial) error {
		return t.nft(func(port int) string {
			var servers []string
			for i, s := range t.listed {
				servers = append(servers, fmt.Sprintf("%d : %s", i, s.addr))
			}
			return fmt.Sprintf("ip daddr %s tcp dport %d dnat to numgen inc mod %d map { %s }", t.address, port, len(t.listed), strings.Join(servers, ", "))
		})
	}
	return []tcpCandidate{
		{wireName, false, (*tcpTrial).wire},
		{"nftables DNAT, offloads on", true, dnat},
		{"nftables DNAT, offloads off", false, dnat},
		{haproxyName, true, (*tcpTrial).haproxy},
		{nginxName, true, (*tcpTrial).nginxStream},
		{weirNATName, false, (*tcpTrial).weir},
	}
}

func (t *tcpTrial) wire() error {
	// Client and servers reach each other without a router.
	t.address = netip.MustParseAddr("198.51.100.2")
	t.client.AddAddr("eth0", "198.51.100.1/24")
	t.servers.AddAddr("eth0", "198.51.100.2/24")
	p := t.director.Start(t.programs.Bare, "--interface", "eth0", "--interface", "eth1", "--wire", "--burst", "256")
	return p.WaitOutput("forwarding", readyWithin)
}

func (t *tcpTrial) nft(rule func(port int) string) error {
	_, err := t.director.Run("nft", fmt.Sprintf("table ip lb { chain in { type nat hook prerouting priority -100;\n%s\n%s\n}\n}",
		rule(webPort), rule(bulkPort)))
	return err
}

func (t *tcpTrial) weir() error {
	args := []string{"--interface", "eth0", "--interface", "eth1", "--assign-addresses", "--admin-socket", ""}
	for _, port := range []int{webPort, bulkPort} {
		args = append(args, "--rule", fmt.Sprintf("-A -t %s:%d -s rr", t.address, port))
		for _, s := range t.listed {
			args = append(args, "--rule", fmt.Sprintf("-a -t %s:%d -r %s:%d -m", t.address, port, s.addr, port))
		}
	}
	p := t.director.Start(t.programs.Weir, args...)
	t.Cleanup(func() { _ = p.Stop(10 * time.Second) })
	return p.WaitOutput("msg=ready", readyWithin)
}

func (t *tcpTrial) haproxy() error {
	var b strings.Builder
	fmt.Fprintln(&b, "global\n maxconn 4000\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s")
	for _, port := range []int{webPort, bulkPort} {
		fmt.Fprintf(&b, "listen p%d\n bind %s:%d\n balance roundrobin\n", port, t.address, port)
		for i, s := range t.listed {
			fmt.Fprintf(&b, " server s%d %s:%d\n", i, s.addr, port)
		}
	}
	return t.proxy("haproxy", b.String(), func(file string) []string { return []string{"-db", "-f", file} })
}

func (t *tcpTrial) nginxStream() error {
	var b strings.Builder
	fmt.Fprintln(&b, "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\nworker_processes auto;\ndaemon off;\npid "+t.dir+"/stream.pid;\n"+
		"error_log stderr;\nevents { worker_connections 4000; }\nstream {")
	for _, port := range []int{webPort, bulkPort} {
		fmt.Fprintf(&b, "upstream p%d {\n", port)
		for _, s := range t.listed {
			fmt.Fprintf(&b, "server %s:%d;\n", s.addr, port)
		}
		fmt.Fprintf(&b, "}\nserver { listen %s:%d reuseport; proxy_pass p%d; }\n", t.address, port, port)
	}
	return t.proxy("nginx", b.String()+"}\n", func(file string) []string { return []string{"-c", file} })
}

// proxy runs a program on the director that takes the VIP's connections itself.
func (t *tcpTrial) proxy(program, config string, args func(file string) []string) error {
	t.director.AddAddr("lo", t.address.String()+"/32")
	file := filepath.Join(t.dir, program+".conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	p := t.director.Start(program, args(file)...)
	t.Cleanup(func() { _ = p.Stop(5 * time.Second) })
	select {
	case <-p.Done():
		return fmt.Errorf("%s ended: %s", program, strings.TrimSpace(p.Output()))
	case <-time.After(200 * time.Millisecond):
		return nil
	}
}

// serve starts the servers' side: nginx, which answers every request with two bytes, and iperf3.
func (t *tcpTrial) serve() error {
	config := fmt.Sprintf(`worker_processes auto; daemon off; pid %s/web.pid; error_log stderr; events { worker_connections 4000; }
		http { access_log off; keepalive_requests 1000000000; server { listen %d reuseport; location / { return 200 "ok"; } } }`, t.dir, webPort)
	file := filepath.Join(t.dir, "web.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	web := t.servers.Start("nginx", "-c", file)
	t.Cleanup(func() { _ = web.Stop(5 * time.Second) })
	bulk := t.servers.Start("iperf3", "-s", "-p", strconv.Itoa(bulkPort))
	t.Cleanup(func() { bulk.Kill() })
	return nil
}

// TCP measures all candidates, or those whose names contain one of the words, in turn, and adds the figures to the report.
func (r *Report) TCP(ctx context.Context, p Programs, runs int, t time.Duration, words []string, progress func(string)) error {
	var all []tcpCandidate
	for _, c := range tcpCandidates() {
		if matches(c.name, words) {
			all = append(all, c)
			r.TCPSeries = append(r.TCPSeries, &TCPSeries{Candidate: c.name})
		}
	}
	series := r.TCPSeries[len(r.TCPSeries)-len(all):]
	if err := unpinSelf(); err != nil {
		return err
	}
	var errs []error
	for run := range runs {
		for i := range all {
			if run%2 == 1 { // as Suite.Run
				i = len(all) - 1 - i
			}
			c := all[i]
			progress(fmt.Sprintf("run %d of %d: TCP, %s", run+1, runs, c.name))
			sample, err := c.trial(ctx, p, t)
			if err != nil {
				errs = append(errs, fmt.Errorf("TCP, %s: %w", c.name, err))
				if ctx.Err() != nil {
					return errors.Join(errs...)
				}
				continue
			}
			sample.Run = run
			series[i].Samples = append(series[i].Samples, sample)
		}
	}
	return errors.Join(errs...)
}

func (c *tcpCandidate) trial(ctx context.Context, p Programs, d time.Duration) (s TCPSample, err error) {
	dir, err := os.MkdirTemp("", "weir-bench")
	if err != nil {
		return s, err
	}
	defer os.RemoveAll(dir)
	err = testnet.Run(func(r testnet.Reporter) error {
		n := testnet.New(r)
		t := &tcpTrial{Reporter: r, programs: p, client: n.Namespace("client"), director: n.Namespace("director"), servers: n.Namespace("servers"),
			address: vip.Addr(), listed: serverList(4), dir: dir}
		n.Veth(testnet.End{NS: t.client, Addrs: []string{"192.0.2.2/24"}}, testnet.End{NS: t.director, Addrs: []string{frontAddr + "/24"}})
		n.Veth(testnet.End{NS: t.servers}, testnet.End{NS: t.director, Name: "eth1", Addrs: []string{backAddr + "/24"}})
		for _, s := range t.listed {
			t.servers.AddAddr("eth0", s.addr.String()+"/24")
		}
		t.director.Forward()
		t.client.Route(t.address.String()+"/32", frontAddr)
		t.servers.Route("0.0.0.0/0", backAddr)
		t.client.Sysctl("net.ipv4.ip_local_port_range", "1024 65535")
		t.client.Sysctl("net.ipv4.tcp_tw_reuse", "1")
		for _, on := range []struct {
			*testnet.Namespace
			device string
		}{{t.client, "eth0"}, {t.servers, "eth0"}, {t.director, "eth0"}, {t.director, "eth1"}} {
			state := map[bool]string{true: "on", false: "off"}[c.offloads]
			if _, err := on.Run("ethtool", "-K", on.device, "tx", state, "rx", state, "sg", state, "tso", state, "gso", state, "gro", state); err != nil {
				return err
			}
		}
		if err := errors.Join(t.serve(), c.start(t)); err != nil {
			return err
		}
		s, err = t.measure(ctx, d)
		return err
	})
	return s, err
}

func (t *tcpTrial) measure(ctx context.Context, d time.Duration) (s TCPSample, err error) {
	url := fmt.Sprintf("http://%s/", netip.AddrPortFrom(t.address, webPort))
	testnet.Eventually(t, 10*time.Second, url+" answers", func() bool {
		c, err := t.client.DialContext(ctx, "tcp", netip.AddrPortFrom(t.address, webPort).String())
		if err == nil {
			c.Close()
		}
		return err == nil || ctx.Err() != nil
	})
	seconds := strconv.Itoa(max(1, int(d.Seconds())))
	if s.Requests, err = t.wrk(seconds, url); err != nil {
		return s, err
	}
	if s.Connections, err = t.wrk(seconds, url, "-H", "Connection: close"); err != nil {
		return s, err
	}
	out, err := t.client.Run("iperf3", "-J", "-c", t.address.String(), "-p", strconv.Itoa(bulkPort), "-t", seconds)
	if err != nil {
		return s, err
	}
	var result struct {
		End struct {
			Received struct {
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		return s, fmt.Errorf("iperf3: %w", err)
	}
	s.Gbits, s.Load = result.End.Received.BitsPerSecond/1e9, loadAverage()
	return s, ctx.Err()
}

// wrk returns the requests per second that it counted; a single one that fails is an error.
func (t *tcpTrial) wrk(seconds, url string, flags ...string) (float64, error) {
	out, err := t.client.Run("wrk", append(append([]string{"-t", "2", "-c", "64", "-d", seconds + "s"}, flags...), url)...)
	if err != nil {
		return 0, err
	}
	if strings.Contains(out, "Non-2xx") {
		return 0, fmt.Errorf("wrk: %s", strings.TrimSpace(out))
	}
	for line := range strings.Lines(out) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "Requests/sec:"); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("wrk said no rate: %s", strings.TrimSpace(out))
}

// unpinSelf gives this process back the CPUs that process 1 has.
func unpinSelf() error {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(1, &set); err != nil {
		return fmt.Errorf("affinity: %w", err)
	}
	for _, tid := range threads(os.Getpid()) {
		if err := unix.SchedSetaffinity(tid, &set); err != nil && err != unix.ESRCH {
			return fmt.Errorf("affinity: %w", err)
		}
	}
	return nil
}
