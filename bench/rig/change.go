package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"weir/control/api"
	"weir/internal/testnet"
	"weir/lb"
)

// ChangePlan says how a director is changed while it forwards.
type ChangePlan struct {
	Services int           `json:"services"` // that are loaded, all at once
	Servers  int           `json:"servers"`  // of each, with an address of its own each
	Singles  int           `json:"singles"`  // changes that are timed one after the other, nothing else going on
	Rate     float64       `json:"rate"`     // changes a second of the stretch with changes
	Time     time.Duration `json:"time_ns"`  // of each stretch
	Packets  float64       `json:"packets"`  // a second, of established connections
	Flows    int           `json:"flows"`    // that they belong to
	// Connections in the table while it is listed; 0: it is not.
	Connections int `json:"connections"`
	// Only these of ChangeParts; empty: all of them.
	Only []string `json:"only,omitempty"`
}

// ChangeParts are what may be measured alone. Rules are loaded for each of them.
var ChangeParts = []string{"restore", "list", "single", "load"}

func (p *ChangePlan) has(part string) bool { return len(p.Only) == 0 || slices.Contains(p.Only, part) }

// DefaultChangePlan is what weir is to be measured by.
func DefaultChangePlan() ChangePlan {
	return ChangePlan{Services: 10_000, Servers: 10, Singles: 2000, Rate: 1000, Time: time.Minute, Packets: 50_000, Flows: 10_000, Connections: 10_000_000}
}

// QuickChangePlan shows in seconds that it works, not how fast.
func QuickChangePlan() ChangePlan {
	return ChangePlan{Services: 300, Servers: 10, Singles: 100, Rate: 200, Time: time.Second, Packets: 5000, Flows: 500, Connections: 20_000}
}

// ChangeReport is what Changes measured.
type ChangeReport struct {
	Machine string     `json:"machine"`
	Kernel  string     `json:"kernel"`
	Begin   time.Time  `json:"begin"`
	Plan    ChangePlan `json:"plan"`

	Restores []Command `json:"restores"`
	Lists    []Command `json:"lists"`
	Single   Spread    `json:"single"`
	Quiet    Stretch   `json:"quiet"` // without changes
	Changing Stretch   `json:"changing"`
	Paging   *Paging   `json:"paging,omitempty"`
}

// Command is one that was run.
type Command struct {
	What    string        `json:"what"`
	Took    time.Duration `json:"took_ns"`
	CPU     time.Duration `json:"cpu_ns"` // of weir meanwhile
	Bytes   int64         `json:"bytes"`  // that it printed
	MaxRSS  int64         `json:"max_rss"`
	LoadAvg float64       `json:"loadavg"`
}

// The networks of the loaded rules.
var (
	manyVIPs     = netip.MustParseAddr("198.18.0.0") // a /15 for benchmarks, RFC 2544
	behindRouter = netip.MustParseAddr("10.128.0.0") // a /9
	onLink       = netip.MustParseAddr("11.0.0.0")   // a /8
	router       = server{netip.MustParseAddr("10.0.0.2"), gatewayMAC}
)

// changeTest is a director under change.
type changeTest struct {
	*setting
	plan     ChangePlan
	programs Programs
	weir     *testnet.Process
	client   *api.Client
	progress func(string)
}

// Changes measures how a director takes changes: loading, listing, single ones, many under load, and its connection table being paged through.
func Changes(ctx context.Context, p Programs, plan ChangePlan, progress func(string)) (r *ChangeReport, err error) {
	r = &ChangeReport{Begin: time.Now(), Plan: plan}
	r.Machine, r.Kernel = machine()
	err = testnet.Run(func(reporter testnet.Reporter) error {
		listed := serverList(8)
		t := &changeTest{plan: plan, programs: p, progress: progress}
		t.setting = &setting{network: build(reporter, 2, slices.Concat(listed, []server{router}, spares())), reporter: reporter, listed: listed,
			Load: Load{Mode: lb.NAT, Arms: 2, Flows: plan.Flows, Traffic: TCPACK, Size: 64, Servers: len(listed)}}
		for _, route := range []string{behindRouter.String() + "/9 via " + router.addr.String(), onLink.String() + "/8 dev " + t.back.Name} {
			if _, err := t.director.Run("ip", append([]string{"route", "add"}, strings.Fields(route)...)...); err != nil {
				return err
			}
		}
		t.client = api.NewClient(t.director.Socket())
		defer t.client.Close()
		return t.run(ctx, r)
	})
	return r, err
}

func (t *changeTest) run(ctx context.Context, r *ChangeReport) error {
	type load struct {
		what  string
		first netip.Addr
		flags []string
	}
	last := load{"behind a router", behindRouter, nil}
	loads := []load{{"behind a router, --assign-addresses", behindRouter, []string{"--assign-addresses"}}, {"on link, none of them known", onLink, nil}, last}
	if !t.plan.has("restore") {
		loads = loads[len(loads)-1:]
	}
	for _, load := range loads {
		if err := t.start(load.flags...); err != nil {
			return err
		}
		t.progress(fmt.Sprintf("weiradm -R of %d services × %d servers, %s", t.plan.Services, t.plan.Servers, load.what))
		c, err := t.weiradm(ctx, t.manyRules(load.first), "-R")
		if err != nil {
			return err
		}
		c.What = "weiradm -R, servers " + load.what
		r.Restores = append(r.Restores, c)
		if s, err := t.client.Status(ctx); err != nil || s.Services != t.plan.Services || s.Servers != t.plan.Services*t.plan.Servers {
			return fmt.Errorf("after -R there are %d services with %d servers: %w", s.Services, s.Servers, err)
		}
		if load.what != last.what { // that one goes on
			if err := t.stop(); err != nil {
				return err
			}
		}
	}
	for _, part := range []struct {
		name string
		run  func(context.Context, *ChangeReport) error
	}{{"list", t.lists}, {"single", t.singles}, {"load", t.underLoad}} {
		if !t.plan.has(part.name) {
			continue
		}
		if err := part.run(ctx, r); err != nil {
			return err
		}
	}
	if err := t.stop(); err != nil || t.plan.Connections == 0 {
		return err
	}
	var err error
	r.Paging, err = t.paging(ctx)
	return err
}

const metricsAddress = "127.0.0.1:9100"

// start runs weir, on all CPUs.
func (t *changeTest) start(flags ...string) error {
	command := append([]string{"--admin-socket", t.director.Socket(), "--metrics-address", metricsAddress}, flags...)
	for _, name := range t.interfaces() {
		command = append(command, "--interface", name)
	}
	t.weir = t.director.Start(t.programs.Weir, command...)
	return t.weir.WaitOutput("msg=ready", readyWithin)
}

func (t *changeTest) stop() error {
	t.client.Close() // idle connections to a socket that goes
	if err := t.weir.Stop(readyWithin); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(t.weir.Output()))
	}
	return nil
}

// weiradm runs a command, times it, and throws away what it prints.
func (t *changeTest) weiradm(ctx context.Context, stdin string, args ...string) (c Command, err error) {
	cmd := exec.CommandContext(ctx, t.programs.Weiradm, append([]string{"--socket", t.director.Socket()}, args...)...)
	var out counter
	var complaint strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &complaint
	cpu, began := threadTime([]int{t.weir.Pid}), time.Now()
	if err := cmd.Run(); err != nil || complaint.Len() > 0 {
		return c, fmt.Errorf("weiradm %s: %w: %s", strings.Join(args, " "), err, complaint.String())
	}
	c = Command{What: "weiradm " + strings.Join(args, " "), Took: time.Since(began), Bytes: int64(out), LoadAvg: loadAverage()}
	c.CPU = threadTime([]int{t.weir.Pid}) - cpu
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		c.MaxRSS = usage.Maxrss << 10
	}
	return c, nil
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

// vipOf is the address of a loaded service.
func vipOf(service int) netip.AddrPort { return netip.AddrPortFrom(plus(manyVIPs, service), 80) }

// serverOf is the address of its server.
func (t *changeTest) serverOf(first netip.Addr, service, server int) netip.AddrPort {
	return netip.AddrPortFrom(plus(first, 1+service*t.plan.Servers+server), 8080)
}

// plus counts an IPv4 address up.
func plus(a netip.Addr, n int) netip.Addr {
	v := lb.AddrFrom(a).V4() + uint32(n)
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}

// manyRules are the rules that are loaded.
func (t *changeTest) manyRules(first netip.Addr) string {
	var b strings.Builder
	for s := range t.plan.Services {
		fmt.Fprintf(&b, "-A -t %s -s wrr\n", vipOf(s))
		for v := range t.plan.Servers {
			fmt.Fprintf(&b, "-a -t %s -r %s -m -w 5\n", vipOf(s), t.serverOf(first, s, v))
		}
	}
	return b.String()
}

// lists times the big listings.
func (t *changeTest) lists(ctx context.Context, r *ChangeReport) error {
	for _, args := range [][]string{{"-Ln"}, {"-Ln", "--stats"}, {"-Sn"}, {"status"}} {
		t.progress("weiradm " + strings.Join(args, " "))
		c, err := t.weiradm(ctx, "", args...)
		if err != nil {
			return err
		}
		r.Lists = append(r.Lists, c)
	}
	t.progress("/metrics")
	c, err := t.scrape(ctx)
	r.Lists = append(r.Lists, c)
	return err
}

func (t *changeTest) scrape(ctx context.Context) (c Command, err error) {
	web := http.Client{Transport: &http.Transport{DialContext: t.director.DialContext, DisableKeepAlives: true}, Timeout: time.Minute}
	request, err := http.NewRequestWithContext(ctx, "GET", "http://"+metricsAddress+"/metrics", nil)
	if err != nil {
		return c, err
	}
	cpu, began := threadTime([]int{t.weir.Pid}), time.Now()
	answer, err := web.Do(request)
	if err != nil {
		return c, err
	}
	defer answer.Body.Close()
	n, err := io.Copy(io.Discard, answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = errors.New(answer.Status)
	}
	c = Command{What: "/metrics", Took: time.Since(began), Bytes: n, LoadAvg: loadAverage()}
	c.CPU = threadTime([]int{t.weir.Pid}) - cpu
	return c, err
}

// singles times changes of one server each, among all that are loaded; an answer says that workers have it.
func (t *changeTest) singles(ctx context.Context, r *ChangeReport) error {
	t.progress(fmt.Sprintf("%d changes, one after the other", t.plan.Singles))
	var all []time.Duration
	for i := range t.plan.Singles {
		service, server := i*7919%t.plan.Services, i%t.plan.Servers
		line := fmt.Sprintf("-e -t %s -r %s -m -w %d", vipOf(service), t.serverOf(behindRouter, service, server), 1+i%9)
		began := time.Now()
		if _, err := t.client.Change(ctx, change(line)); err != nil {
			return err
		}
		all = append(all, time.Since(began))
	}
	r.Single = spread(all)
	return nil
}

func change(lines ...string) api.Change {
	c := api.Change{Atomic: len(lines) > 1}
	for _, l := range lines {
		c.Commands = append(c.Commands, strings.Fields(l))
	}
	return c
}

// maxRSS returns the most memory that a process has had (proc(5), VmHWM), in bytes.
func maxRSS(pid int) (n int64) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			fmt.Sscan(value, &n)
		}
	}
	return n << 10
}
