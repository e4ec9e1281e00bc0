package control_test

import (
	"net/netip"
	"testing"

	"weir/conntrack"
	"weir/control"
	"weir/dataplane/reason"
	"weir/internal/testpkt"
	"weir/lb"
)

func flowOf(src, dst netip.AddrPort) lb.Flow {
	return lb.Flow{Proto: lb.TCP, Src: lb.AddrFrom(src.Addr()), SrcPort: src.Port(), Dst: lb.AddrFrom(dst.Addr()), DstPort: dst.Port()}
}

// What a trace foretells is what then happens, and foretelling it twice changes nothing.
func TestATraceForetellsAndChangesNothing(t *testing.T) {
	for scheduler, want := range map[string]control.Foresight{
		"sh": control.ByHash, "dh": control.ByHash, "mh": control.ByHash, "maglev": control.ByHash,
		"lc": control.ByCounts, "wlc": control.ByCounts, "sed": control.ByCounts, "nq": control.ByCounts, "fo": control.ByCounts, "ovf": control.ByCounts,
		"rr": control.Unknown, "wrr": control.Unknown, "lblc": control.Unknown, "lblcr": control.Unknown, "twos": control.Unknown,
	} {
		t.Run(scheduler, func(t *testing.T) {
			d := newDirector(t, 1, "-A -t 192.0.2.10:80 -s "+scheduler, "-a -t 192.0.2.10:80 -r 10.0.0.2:80 -m -w 300",
				"-a -t 192.0.2.10:80 -r 10.0.0.3:80 -m -w 200", "-a -t 192.0.2.10:80 -r 10.0.0.4:80 -m -w 100")
			for port := uint16(1); port <= 50; port++ {
				f := flowOf(from(port), vip)
				before := d.conns.Stats()
				tr := d.store.Trace(f, conntrack.SYN)
				again := d.store.Trace(f, conntrack.SYN)
				if tr.Foresight != want || tr.Choice != again.Choice || len(tr.Candidates) != 3 || !tr.Opens || tr.Why != reason.None || d.conns.Stats() != before {
					t.Fatalf("%+v, then %+v", tr, again)
				}
				went := d.client(testpkt.TCP(from(port), vip, testpkt.SYN)).Dst.Addr()
				if want != control.Unknown && tr.Choice.Addr.Netip() != went {
					t.Fatalf("port %d: foretold %s, went to %s", port, tr.Choice.Addr, went)
				}
				if tr = d.store.Trace(f, conntrack.ACK); tr.Dir != conntrack.Forward || tr.Server.Addr.Netip() != went || tr.Opens {
					t.Fatalf("port %d, once connected: %+v", port, tr)
				}
			}
		})
	}
}

// Traces in between leave a scheduler's turn where it is.
func TestATraceTakesNoTurn(t *testing.T) {
	d := newDirector(t, 1, web("-m", "10.0.0.2:80", "10.0.0.3:80")...)
	var last netip.Addr
	for port := uint16(1); port <= 10; port++ {
		d.store.Trace(flowOf(from(port), vip), conntrack.SYN)
		went := d.client(testpkt.TCP(from(port), vip, testpkt.SYN)).Dst.Addr()
		if went == last {
			t.Fatalf("port %d went to %s again", port, went)
		}
		last = went
	}
}

// Whose turn it is does not matter to a trace when only one server takes connections, or none.
func TestATraceKnowsTheOnlyServer(t *testing.T) {
	for _, scheduler := range []string{"rr", "wrr", "twos"} {
		d := newDirector(t, 1, "-A -t 192.0.2.10:80 -s "+scheduler, "-a -t 192.0.2.10:80 -r 10.0.0.2:80 -m -w 0", "-a -t 192.0.2.10:80 -r 10.0.0.3:80 -m -x 1",
			"-a -t 192.0.2.10:80 -r 10.0.0.4:80 -m -w 0")
		f := flowOf(from(1), vip)
		if tr := d.store.Trace(f, conntrack.SYN); tr.Foresight != control.ByCounts || tr.Choice == nil || tr.Choice.Addr != lb.MustParseAddr("10.0.0.3") {
			t.Errorf("%s, one server: %+v", scheduler, tr)
		}
		d.client(testpkt.TCP(from(1), vip, testpkt.SYN)) // now that one is full
		if tr := d.store.Trace(flowOf(from(2), vip), conntrack.SYN); tr.Foresight != control.ByCounts || tr.Choice != nil || tr.Why != reason.NoServer {
			t.Errorf("%s, none: %+v", scheduler, tr)
		}
	}
}

func TestATraceSaysWhy(t *testing.T) {
	d := newDirector(t, 1, append(web("-m", "10.0.0.2:80"), "-A -t 192.0.2.10:443 -s wlc", "-A -t 192.0.2.10:8080 -s sh -p",
		"-a -t 192.0.2.10:8080 -r 10.0.0.5:80 -m", "-a -t 192.0.2.10:8080 -r 10.0.0.6:80 -m")...)
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(vip.Addr(), port) }
	for name, c := range map[string]struct {
		to    uint16
		flags uint8
		why   reason.Reason
	}{
		"nobody's port":             {81, conntrack.SYN, reason.NoService},
		"an ACK without connection": {80, conntrack.ACK, reason.NoConnection},
		"no server":                 {443, conntrack.SYN, reason.NoServer},
	} {
		if tr := d.store.Trace(flowOf(cip, at(c.to)), c.flags); tr.Why != c.why {
			t.Errorf("%s: %s, want %s", name, tr.Why, c.why)
		}
	}
	went := d.client(testpkt.TCP(cip, at(8080), testpkt.SYN)).Dst.Addr()
	tr := d.store.Trace(flowOf(from(5), at(8080)), conntrack.SYN)
	if !tr.Pinned || tr.Server.Addr.Netip() != went || tr.Opens {
		t.Errorf("a client that is tied to %s: %+v", went, tr)
	}
	d.paths.mac[lb.AddrFrom(went)] = [6]byte{}
	d.store.PathChanged(lb.AddrFrom(went))
	if tr = d.store.Trace(flowOf(from(5), at(8080)), conntrack.SYN); tr.Why != reason.ServerUnreachable {
		t.Errorf("a server out of reach: %s", tr.Why)
	}
	answer := flowOf(netip.AddrPortFrom(went, 80), cip)
	if tr = d.store.Trace(answer, conntrack.ACK); tr.Dir != conntrack.Reverse || tr.Conn.Client != lb.AddrFrom(cip.Addr()) {
		t.Errorf("an answer: %+v", tr)
	}
}
