package control_test

import (
	"slices"
	"strings"
	"testing"

	"weir/internal/testpkt"
	"weir/lb"
)

// What a server's mode needed of the redirect program it keeps, in another mode, while connections of the first may live.
func TestAServersOldModeIsForgottenWithItsConnections(t *testing.T) {
	d := newDirector(t, 1, tcpWeb("-m", "10.0.0.2:80", "10.0.0.3:80")...)
	reaped := func(when string, servers, tunnels []string) {
		t.Helper()
		if err := d.store.Reap(); err != nil {
			t.Fatal(err)
		}
		got := slices.Concat(d.steer.servers, d.steer.tunnels)
		var want []string
		for _, s := range servers {
			want = append(want, "TCP "+s+":80")
		}
		want = append(want, tunnels...)
		slices.Sort(got)
		if slices.Sort(want); !slices.Equal(got, want) {
			t.Errorf("%s: steered %q, want %q", when, got, want)
		}
	}
	first := d.client(testpkt.TCP(cip, vip, testpkt.SYN)).Dst // one server has a connection, the other none
	busy, idle := "10.0.0.2", "10.0.0.3"
	if first.Addr().String() != busy {
		busy, idle = idle, busy
	}
	both := []string{busy, idle}
	reaped("NAT", both, nil)
	d.apply(tcpWeb("-i", "10.0.0.2:80", "10.0.0.3:80")...)
	reaped("the idle one needs the tunnel's only", []string{busy}, both)
	if v := d.client(testpkt.TCP(cip, vip, testpkt.ACK)); v.Dst != first {
		t.Errorf("the connection goes to %s, was %s", v.Dst, first)
	}
	d.apply(tcpWeb("-m", "10.0.0.2:80", "10.0.0.3:80")...) // back before it was forgotten
	d.apply(tcpWeb("-g", "10.0.0.2:80", "10.0.0.3:80")...)
	reaped("two edits later", []string{busy}, []string{busy})
	d.sleep(1000)
	reaped("the connection has ended", nil, nil)
	d.apply(tcpWeb("-m", "10.0.0.2:80")...)
	reaped("NAT again", []string{"10.0.0.2"}, nil)
	d.apply()
	reaped("no service", nil, nil)
}

// A worker in a turn with the table of before a server was removed may give it a connection: until that turn is over, nothing is let go of.
func TestReapWaitsForTurnsWithAnOlderTable(t *testing.T) {
	d := newDirector(t, 1, tcpWeb("-m", "10.0.0.2:80")...)
	d.inTurn(func() {
		d.apply()
		if err := d.store.Reap(); err != nil {
			t.Error(err)
		}
		if len(d.steer.servers) != 1 || len(d.paths.watch) != 1 {
			t.Errorf("while a worker has the old table: NAT servers %q, %d watched", d.steer.servers, len(d.paths.watch))
		}
	})
	if err := d.store.Reap(); err != nil {
		t.Fatal(err)
	}
	if len(d.steer.servers) != 0 || d.paths.watch[lb.MustParseAddr("10.0.0.2")] != 0 {
		t.Errorf("afterwards: NAT servers %q, watched %v", d.steer.servers, d.paths.watch)
	}
}

// tcpWeb is web without the UDP service.
func tcpWeb(mode string, servers ...string) []string {
	return slices.DeleteFunc(web(mode, servers...), func(rule string) bool { return strings.Contains(rule, " -u ") })
}
