package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"weir/conntrack"
	"weir/control"
	"weir/control/admin"
	"weir/control/api"
	"weir/dataplane"
	"weir/dataplane/forward"
	"weir/dataplane/memqueue"
	"weir/internal/testpkt"
	"weir/ipvsadm"
	"weir/lb"
)

// rig is a director without a kernel behind a real socket: rules, store, table and one worker over queues in memory. Interface 0
// is the clients' side, interface 1 the servers'.
type rig struct {
	t      testing.TB
	socket string
	store  *control.Store
	conns  *conntrack.Table
	admin  *admin.Director
	worker *dataplane.Worker
	queues [2]*memqueue.Queue
	paths  *paths
	now    uint32

	addresses map[lb.Addr]bool // of services, on the host
}

func newRig(t testing.TB) *rig {
	t.Helper()
	conns, err := conntrack.New(conntrack.Options{Capacity: 4096})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conns.Close)
	r := &rig{t: t, conns: conns, socket: filepath.Join(t.TempDir(), "weir.sock"), paths: &paths{strange: lb.MustParseAddr("203.0.113.66")}, now: 1, addresses: map[lb.Addr]bool{}}
	locals := []lb.Addr{lb.MustParseAddr("10.20.0.200")}
	if err := conns.SetLocals(locals); err != nil {
		t.Fatal(err)
	}
	shared := dataplane.NewShared(conns, func() uint32 { return r.now })
	var marks []lb.MarkRule
	mark := func(format string, args ...any) {
		m, err := lb.ParseMarkRule(fmt.Sprintf(format, args...))
		if err != nil {
			t.Fatal(err)
		}
		marks = append(marks, m)
	}
	mark("7 tcp 10.9.0.1:9999")
	for _, n := range []uint32{1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 4294967295} {
		mark("%d any 203.0.113.0/24", n)
		mark("%d any 2001:db8:113::/64", n)
	}
	r.store = control.NewStore(shared, conns, steer{}, r.paths, control.Options{Locals: locals, Marks: marks, Sysctls: lb.DefaultSysctls()})
	r.store.SetIfaces([]dataplane.Iface{
		{Name: "client0", MAC: [6]byte(testpkt.DirectorMAC), MTU: 1500, Addr: lb.MustParseAddr("198.51.100.1")},
		{Name: "server0", MAC: [6]byte(testpkt.MAC(0x21)), MTU: 1500, Addr: lb.MustParseAddr("10.20.0.254")},
	})
	r.queues = [2]*memqueue.Queue{memqueue.New(512), memqueue.New(512)}
	r.worker = dataplane.NewWorker(shared, 0, 1, []dataplane.IfaceQueue{{Iface: 0, Queue: r.queues[0]}, {Iface: 1, Queue: r.queues[1]}}, nil)
	r.admin = admin.New(admin.Options{Store: r.store, Shared: shared, Conns: conns, Rules: new(ipvsadm.Rules),
		AddAddresses: func(list ...lb.Addr) error {
			for _, a := range list {
				if r.addresses[a] {
					t.Errorf("%s was put on the host twice", a)
				}
				r.addresses[a] = true
			}
			return nil
		},
		RemoveAddresses: func(list ...lb.Addr) error {
			for _, a := range list {
				if !r.addresses[a] {
					t.Errorf("%s was taken off the host twice", a)
				}
				delete(r.addresses, a)
			}
			return nil
		}})
	socket, err := api.Listen(r.socket)
	if err != nil {
		t.Fatal(err)
	}
	server := api.NewAdmin(r.admin, slog.New(slog.DiscardHandler))
	var done sync.WaitGroup
	done.Go(func() {
		if err := server.Serve(socket); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		done.Wait()
	})
	return r
}

// estimate is a step of all services' rates.
func (r *rig) estimate() {
	for part := range control.EstimateParts {
		r.store.Estimate(part)
	}
}

// weiradm runs a command line, its words separated by spaces.
func (r *rig) weiradm(line, stdin string) (exit int, stdout, stderr string) {
	return r.words(strings.Fields(line), stdin)
}

func (r *rig) words(args []string, stdin string) (exit int, stdout, stderr string) {
	var out, err bytes.Buffer
	p := program{
		ctx: r.t.Context(), stdin: strings.NewReader(stdin), stdout: &out, stderr: &err,
		env: func(name string) string { return map[string]string{"WEIR_SOCKET": r.socket}[name] },
	}
	exit = p.run(args)
	return exit, out.String(), err.String()
}

// must runs command lines that have nothing to say but what they print, and returns that.
func (r *rig) must(lines ...string) (printed string) {
	r.t.Helper()
	for _, line := range lines {
		exit, stdout, stderr := r.weiradm(line, "")
		if exit != 0 || stderr != "" {
			r.t.Fatalf("weiradm %s: exit %d: %s", line, exit, stderr)
		}
		printed += stdout
	}
	return printed
}

// client sends a client's packet and returns the frame that went to a server, nil if none did.
func (r *rig) client(p testpkt.Packet) *testpkt.View {
	r.t.Helper()
	return r.send(0, p)
}

func (r *rig) send(iface int, p testpkt.Packet) *testpkt.View {
	r.t.Helper()
	if !r.queues[iface].Inject(p.Bytes()) {
		r.t.Fatal("queue full")
	}
	r.worker.Turn()
	out := slices.Concat(r.queues[0].Sent(), r.queues[1].Sent())
	if len(out) == 0 {
		return nil
	}
	return testpkt.Decode(r.t, out[0])
}

// sleep lets the worker's clock go on and its housekeeping finish.
func (r *rig) sleep(seconds uint32) {
	for range seconds {
		r.now++
		for done := false; !done; {
			_, done = r.worker.Turn()
		}
	}
}

// steer is a redirect program that takes everything.
type steer struct{}

func (steer) AddServices([]lb.Endpoint) error    { return nil }
func (steer) RemoveServices([]lb.Endpoint) error { return nil }
func (steer) AddServers([]lb.Endpoint) error     { return nil }
func (steer) RemoveServers([]lb.Endpoint) error  { return nil }
func (steer) AddTunnel(lb.Addr) error            { return nil }
func (steer) RemoveTunnel(lb.Addr) error         { return nil }

// paths reaches everything through interface 1, but for local, which is the director itself, and lost, which nobody answers for.
// strange is behind an interface that weir was not given.
type paths struct{ local, lost, strange lb.Addr }

func (p *paths) Watch(lb.Addr)         {}
func (p *paths) Unwatch(lb.Addr)       {}
func (p *paths) Hold([]lb.Addr) func() { return func() {} }
func (p *paths) Check(a lb.Addr) error {
	if a == p.strange {
		return fmt.Errorf("is reached through eth7, which weir was not given: add --interface eth7")
	}
	return nil
}
func (p *paths) Path(a lb.Addr) (*forward.Path, bool) {
	if a == p.local || a == p.lost {
		return nil, a == p.local
	}
	return &forward.Path{Iface: 1, DstMAC: [6]byte(testpkt.MAC(0x31)), SrcMAC: [6]byte(testpkt.MAC(0x21)), Source: lb.MustParseAddr("10.20.0.254"), MTU: 1500}, false
}

var (
	cip = netip.MustParseAddr("198.51.100.7")
	vip = netip.MustParseAddrPort("10.9.0.1:80")
)

func from(port uint16) netip.AddrPort { return netip.AddrPortFrom(cip, port) }
