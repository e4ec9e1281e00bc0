// Package e2e tests the weir binary as a whole: on AF_XDP, in namespaces, between real clients and real servers. It needs root.
package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/internal/lab"
	"weir/internal/testnet"
	"weir/lb"
)

// weir is the path of the binary under test.
var weir string

func TestMain(m *testing.M) {
	if os.Getenv(serveLinesOnly) != "" {
		lineServer()
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "weir-e2e")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		weir = filepath.Join(dir, "weir")
		build := exec.Command("go", "build", "-o", weir, "weir/cmd/weir")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "build weir:", err)
			return 1
		}
		return m.Run()
	}())
}

// vips are the service addresses, one for each mode.
var vips = map[lb.Mode]netip.Addr{
	lb.DR:      netip.MustParseAddr("192.0.2.101"),
	lb.NAT:     netip.MustParseAddr("192.0.2.102"),
	lb.FULLNAT: netip.MustParseAddr("192.0.2.103"),
	lb.TUN:     netip.MustParseAddr("192.0.2.104"),
}

// arms are the two ways a director is connected.
var arms = map[string]testnet.Plan{"two arms": {}, "one arm": {OneArm: true}}

// director is a lab whose director runs weir.
type director struct {
	*lab.Lab
	t    *testing.T
	weir *testnet.Process
	far  *testnet.Namespace // the router behind the narrow link, if there is one: see behind
}

// newLab builds a lab for every mode, with the VIPs of the plan beside the modes' own.
func newLab(t *testing.T, plan testnet.Plan) *director {
	t.Helper()
	plan.VIPs = slices.Clone(plan.VIPs)
	for _, mode := range lab.Modes {
		plan.VIPs = append(plan.VIPs, vips[mode].String())
	}
	return &director{Lab: lab.New(t, testnet.New(t), plan), t: t}
}

// start runs weir until the test ends, and then wants it to end well.
func (d *director) start(services []lab.Service, flags ...string) {
	d.t.Helper()
	d.began(d.StartWeir(context.Background(), weir, nil, services, flags...))
}

func (d *director) began(p *testnet.Process, err error) {
	d.t.Helper()
	d.weir = p
	d.t.Cleanup(func() {
		if d.weir == p {
			d.stop()
		}
		if d.t.Failed() {
			d.t.Logf("weir wrote:\n%s", p.Output())
		}
	})
	if err != nil {
		d.t.Fatal(err)
	}
}

// stop ends weir and looks whether it took away all that it had added.
func (d *director) stop() {
	d.t.Helper()
	p := d.weir
	d.weir = nil
	if err := p.Stop(10 * time.Second); err != nil {
		d.t.Errorf("weir stopped with: %v", err)
	}
	if !strings.Contains(p.Output(), "msg=stopped") {
		d.t.Error("weir stopped without a summary")
	}
	if left := d.added(); len(left) > 0 {
		d.t.Errorf("weir left addresses: %s", left)
	}
	d.wantDetached()
}

// added returns the director's addresses that weir has put there.
func (d *director) added() (list []string) {
	out, err := d.Director.Run("ip", "-o", "addr")
	if err != nil {
		d.t.Fatal(err)
	}
	for _, a := range append(d.vipList(), lab.LIP, lab.LIP6) {
		if strings.Contains(out, " "+a.String()+"/") {
			list = append(list, a.String())
		}
	}
	return list
}

// vipList returns the service addresses in the modes' order.
func (d *director) vipList() (list []netip.Addr) {
	for _, mode := range lab.Modes {
		list = append(list, vips[mode])
	}
	return list
}

// wantDetached fails the test when an XDP program is left on the director.
func (d *director) wantDetached() {
	d.t.Helper()
	out, err := d.Director.Run("ip", "-d", "link")
	if err != nil {
		d.t.Fatal(err)
	}
	if strings.Contains(out, "prog/xdp") {
		d.t.Errorf("an XDP program is left on the director:\n%s", out)
	}
}

// wantTally fails the test unless n answers came without an error, spread as the scheduler should have.
func (d *director) wantTally(t *testing.T, s lab.Service, n int, tally *lab.Tally) {
	t.Helper()
	want, err := d.Want(s, n)
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, host := range d.Servers {
		got = append(got, tally.PerServer[host.Role])
	}
	if tally.Errors != 0 || !slices.Equal(got[:len(want)], want) {
		t.Errorf("%s %s: the servers got %d, want %d; %d errors, the first: %v", s.Mode, s.VIP, got, want, tally.Errors, tally.First)
	}
	client := d.ClientFor(s.VIP.Addr())
	if s.Mode == lb.FULLNAT {
		client = d.LIPFor(s)
	}
	if tally.Saw[client] != n {
		t.Errorf("%s %s: the servers saw %v, want %s only", s.Mode, s.VIP, tally.Saw, client)
	}
}

// service returns a service of the lab's mode; one whose mode can translates to serverPort, the others keep the server's port.
func service(proto lb.Proto, mode lb.Mode, port, serverPort uint16, weights ...int) lab.Service {
	s := lab.Service{Proto: proto, VIP: netip.AddrPortFrom(vips[mode], serverPort), Mode: mode, Weights: weights}
	if mode == lb.NAT || mode == lb.FULLNAT {
		s.VIP, s.ServerPort = netip.AddrPortFrom(vips[mode], port), serverPort
	}
	return s
}
