package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/sctp"

	"weir/control/api"
	"weir/dataplane/reason"
	"weir/internal/lab"
	"weir/internal/testnet"
	"weir/internal/testpkt"
	"weir/lb"
)

// sctpPort is where the servers take associations; services on another port have it translated.
const sctpPort = 2905

// TestSCTPByEveryMode sets up associations between two real SCTP implementations, exchanges messages of every size and shuts them down.
func TestSCTPByEveryMode(t *testing.T) { testSCTP(t, testnet.Plan{}, 1191) }

// TestSCTPInFragmentsByEveryMode has both ends send packets of up to 4,000 bytes, which their kernels cut to 1,500, and then by two queues. The
// port changes in NAT and FULLNAT: there, first fragments have to wait for the last to arrive with the right checksum.
func TestSCTPInFragmentsByEveryMode(t *testing.T) {
	for name, plan := range map[string]testnet.Plan{"one queue": {}, "two queues": {Queues: 2}} {
		t.Run(name, func(t *testing.T) { testSCTP(t, plan, 4000) })
	}
}

// testSCTP is TestSCTPByEveryMode with packets of up to mtu bytes.
func testSCTP(t *testing.T, plan testnet.Plan, mtu uint32) {
	ways := map[string]struct {
		vip   string
		mode  lb.Mode
		cross bool
	}{
		"DR": {"192.0.2.101", lb.DR, false}, "NAT": {"192.0.2.102", lb.NAT, false}, "FULLNAT": {"192.0.2.103", lb.FULLNAT, false},
		"TUN": {"192.0.2.104", lb.TUN, false}, "IPv4 in IPv6": {"192.0.2.105", lb.TUN, true},
		"DR of IPv6": {"2001:db8::101", lb.DR, false}, "NAT of IPv6": {"2001:db8::102", lb.NAT, false},
		"FULLNAT of IPv6": {"2001:db8::103", lb.FULLNAT, false}, "TUN of IPv6": {"2001:db8::104", lb.TUN, false},
		"FULLNAT of IPv6 to IPv4": {"2001:db8::110", lb.FULLNAT, true}, "FULLNAT of IPv4 to IPv6": {"192.0.2.110", lb.FULLNAT, true},
	}
	for _, way := range ways {
		if way.mode != lb.NAT && way.mode != lb.FULLNAT && !strings.HasSuffix(way.vip, "2.101") && !strings.HasSuffix(way.vip, "2.104") { // newLab has those
			plan.VIPs = append(plan.VIPs, way.vip)
		}
	}
	d := newLab(t, plan)
	var damaged atomic.Int64
	var serving sync.WaitGroup
	for _, host := range d.Servers {
		// The servers' own network carries more than the client's, which an unconnected raw socket never learns (net/ipv6/raw.c, rawv6_err).
		host.Route(lab.LIP.String()+"/32", host.Dev.Name)
		host.Route(lab.LIP6.String()+"/128", host.Dev.Name)
		at := []netip.Addr{host.IP, host.IP6, vips[lb.DR], vips[lb.TUN]}
		for _, vip := range plan.VIPs {
			at = append(at, netip.MustParseAddr(vip))
		}
		for _, addr := range at {
			listenSCTP(t, host.Namespace, addr, &damaged, func(c *sctpConn) {
				serving.Go(func() { serveSCTP(c, host.Role, sctp.WithMTU(mtu)) })
			})
		}
	}
	clients := map[bool]*sctpSocket{
		false: listenSCTP(t, d.Client.Namespace, d.Client.IP, &damaged, nil),
		true:  listenSCTP(t, d.Client.Namespace, d.Client.IP6, &damaged, nil),
	}
	var all []lab.Service
	services := map[string]lab.Service{}
	for what, way := range ways {
		s := lab.Service{Proto: lb.SCTP, VIP: netip.AddrPortFrom(netip.MustParseAddr(way.vip), sctpPort), Mode: way.mode, Weights: []int{1, 2, 1}, Cross: way.cross}
		if way.mode == lb.NAT || way.mode == lb.FULLNAT {
			s.VIP, s.ServerPort = netip.AddrPortFrom(s.VIP.Addr(), 3868), sctpPort
		}
		services[what] = s
		all = append(all, s)
	}
	d.start(all)
	admin := api.NewClient(d.Socket())
	defer admin.Close()
	port := uint16(20000)
	for what, s := range services {
		t.Run(what, func(t *testing.T) {
			const n = 8
			tally := &lab.Tally{PerServer: map[string]int{}, Saw: map[netip.Addr]int{}}
			associations := make([]*sctp.Association, n)
			for i := range associations { // one after the other, so that the scheduler's choice is what it would be
				port++
				a, server, client, err := talkSCTP(t.Context(), clients[s.VIP.Addr().Is6()].dial(port, s.VIP), sctp.WithMTU(mtu))
				if err != nil {
					t.Fatal(err)
				}
				associations[i] = a
				tally.PerServer[server]++
				tally.Saw[client]++
			}
			d.wantTally(t, s, n, tally)
			wantSCTPStates(t, admin, s.VIP, "ESTABLISHED", n)
			for _, a := range associations {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				if err := a.Shutdown(ctx); err != nil {
					t.Errorf("shutdown: %v", err)
				}
				cancel()
			}
			wantSCTPStates(t, admin, s.VIP, "CLOSED", n)
		})
	}
	if t.Failed() {
		return // associations that were not shut down are served on
	}
	serving.Wait()
	wantFragmentsHeld(t, admin, mtu > 1500)
	if n := damaged.Load(); n != 0 {
		t.Errorf("%d packets arrived with a wrong checksum", n)
	}
}

// serveSCTP sends every message of an association back, and before the first who it is and whom it sees.
func serveSCTP(c *sctpConn, name string, o sctp.AssociationOption) {
	a, err := sctp.ServerWithOptions(sctp.WithNetConn(c), o)
	if err != nil {
		return
	}
	defer a.Close()
	s, err := a.AcceptStream()
	if err != nil {
		return
	}
	b := make([]byte, 64<<10)
	for first := true; ; first = false {
		n, err := s.Read(b)
		if err != nil {
			return
		}
		if first {
			s.WriteSCTP([]byte(fmt.Sprintf("%s saw %s", name, c.peer.addr)), sctp.PayloadTypeWebRTCBinary)
		}
		if _, err := s.WriteSCTP(b[:n], sctp.PayloadTypeWebRTCBinary); err != nil {
			return
		}
	}
}

// talkSCTP sets up an association and compares what comes back on it; it returns who served and whom that server saw.
func talkSCTP(ctx context.Context, c *sctpConn, o sctp.AssociationOption) (a *sctp.Association, server string, client netip.Addr, err error) {
	limited, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if a, err = sctp.ClientContext(limited, sctp.WithNetConn(c), o); err != nil {
		return nil, "", client, fmt.Errorf("no association: %w", err)
	}
	s, err := a.OpenStream(1, sctp.PayloadTypeWebRTCBinary)
	if err != nil {
		return nil, "", client, err
	}
	s.SetDeadline(time.Now().Add(20 * time.Second))
	var sent [][]byte
	for size := 1; size < 1400; size += 97 { // chunks of every length modulo four
		sent = append(sent, testpkt.Pattern(size))
	}
	sent = append(sent, testpkt.Pattern(60_000)) // SCTP cuts it to what fits
	failed := make(chan error, 1)
	go func() {
		for _, m := range sent {
			if _, err := s.WriteSCTP(m, sctp.PayloadTypeWebRTCBinary); err != nil {
				failed <- err
				return
			}
		}
		failed <- nil
	}()
	b := make([]byte, 64<<10)
	n, err := s.Read(b)
	if err != nil {
		return nil, "", client, fmt.Errorf("no answer: %w", err)
	}
	server, saw, _ := strings.Cut(string(b[:n]), " saw ")
	if client, err = netip.ParseAddr(saw); err != nil {
		return nil, "", client, err
	}
	for i, m := range sent {
		if n, err = s.Read(b); err != nil {
			return nil, "", client, fmt.Errorf("message %d: %w", i, err)
		}
		if !bytes.Equal(b[:n], m) {
			return nil, "", client, fmt.Errorf("message %d: %d bytes came back, or others than the %d that were sent", i, n, len(m))
		}
	}
	return a, server, client, <-failed
}

// wantFragmentsHeld wants some fragments to have waited, and none to have been given up; or no fragments at all.
func wantFragmentsHeld(t *testing.T, admin *api.Client, some bool) {
	t.Helper()
	status, err := admin.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	held := false
	for _, stop := range status.Stops {
		if stop.Reason == reason.FragmentHeld.String() {
			held = true
		} else if strings.HasPrefix(stop.Reason, "fragment-") {
			t.Errorf("%d times %s", stop.Packets, stop.Reason)
		}
	}
	if held != some {
		t.Errorf("fragments waited: %t, want %t; %+v", held, some, status.Stops)
	}
}

// wantSCTPStates waits until a service's n connections are all in a state, as weiradm shows them.
func wantSCTPStates(t *testing.T, admin *api.Client, vip netip.AddrPort, state string, n int) {
	t.Helper()
	var seen []string
	deadline := time.Now().Add(5 * time.Second)
	for {
		seen = nil
		matching := 0
		for c, err := range admin.Connections(t.Context(), api.Filter{Protocol: "sctp"}) {
			if err != nil {
				t.Fatal(err)
			}
			if c.Virtual != vip {
				continue
			}
			seen = append(seen, c.State)
			if c.State == state {
				matching++
			}
		}
		if matching == n && len(seen) == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("connections are %s, want %d %s", seen, n, state)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
