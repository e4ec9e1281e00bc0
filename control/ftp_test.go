package control_test

import (
	"net/netip"
	"strings"
	"testing"

	"weir/dataplane/reason"
	"weir/internal/testpkt"
)

func ftpPort(port uint16) netip.AddrPort { return netip.AddrPortFrom(vip.Addr(), port) }

func TestAPersistentFTPServiceGetsItsClientsOtherConnections(t *testing.T) {
	d := newDirector(t, 1, "-A -t 192.0.2.10:21 -s rr -p 300", "-a -t 192.0.2.10:21 -r 10.0.0.2:21 -m", "-a -t 192.0.2.10:21 -r 10.0.0.3:21 -m")
	first := d.client(testpkt.TCP(cip, ftpPort(21), testpkt.SYN)).Dst
	if first.Port() != 21 {
		t.Errorf("the control connection goes to %s", first)
	}
	for _, port := range []uint16{20, 1024, 40000} {
		if v := d.client(testpkt.TCP(cip, ftpPort(port), testpkt.SYN)); v.Dst != netip.AddrPortFrom(first.Addr(), port) {
			t.Errorf("a data connection to port %d goes to %s, the control connection to %s", port, v.Dst, first)
		}
	}
	d.stopped(testpkt.TCP(cip, ftpPort(80), testpkt.SYN), reason.NoService)
	d.stopped(testpkt.UDP(cip, ftpPort(40000)), reason.NoService)
}

func TestOtherConnectionsToAnFTPServiceAreTheKernels(t *testing.T) {
	for name, rules := range map[string][]string{
		"without persistence": {"-A -t 192.0.2.10:21 -s rr", "-a -t 192.0.2.10:21 -r 10.0.0.2:21 -g"},
		"without a server":    {"-A -t 192.0.2.10:21 -s rr -p 300"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDirector(t, 1, rules...)
			if out := d.stopped(testpkt.TCP(cip, ftpPort(40000), testpkt.SYN), reason.NoConnection); len(out.toClients) != 0 || len(d.host.frames) != 1 {
				t.Errorf("answered %v, %d frames for the kernel", out.toClients, len(d.host.frames))
			}
		})
	}
}

func TestFTPsAnyPortKeyIsSharedWithTheAnyPortService(t *testing.T) {
	anyPort := []string{"-A -t 192.0.2.10:0 -s rr -p 300", "-a -t 192.0.2.10:0 -r 10.0.0.2:0 -g"}
	ftp := []string{"-A -t 192.0.2.10:21 -s rr -p 300", "-a -t 192.0.2.10:21 -r 10.0.0.3:21 -g"}
	d := newDirector(t, 1, append(append([]string{}, anyPort...), ftp...)...)
	steered := func(want string) {
		t.Helper()
		if err := d.store.Reap(); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(d.steer.services, ", "); got != want {
			t.Errorf("redirected: %s, want %s", got, want)
		}
	}
	steered("TCP 192.0.2.10:0, TCP 192.0.2.10:21")
	d.apply(ftp...)
	steered("TCP 192.0.2.10:0, TCP 192.0.2.10:21")
	d.client(testpkt.TCP(cip, ftpPort(40000), testpkt.SYN))
	d.apply("-A -t 192.0.2.10:21 -s rr", ftp[1]) // no longer persistent
	steered("TCP 192.0.2.10:0, TCP 192.0.2.10:21")
	d.sleep(400) // the data connection and the client's template have ended
	steered("TCP 192.0.2.10:21")
	d.apply(ftp...)
	steered("TCP 192.0.2.10:21, TCP 192.0.2.10:0")
	d.apply()
	steered("")
}

func TestAnFTPServerKeepsItsClientsPorts(t *testing.T) {
	d := newDirector(t, 1)
	err := d.store.Apply(services(t, "-A -t 192.0.2.10:21 -s rr -p 300", "-a -t 192.0.2.10:21 -r 10.0.0.2:2121 -m"))
	if err == nil || !strings.Contains(err.Error(), "must be 21 too") {
		t.Errorf("error %v, want one about the server's port", err)
	}
}

func TestASYNLeavesARemovedServersOldConnection(t *testing.T) {
	d := newDirector(t, 1, web("-g", "10.0.0.2:80", "10.0.0.3:80")...) // expire_nodest_conn is udp: TCP connections stay
	d.client(testpkt.TCP(cip, vip, testpkt.SYN))
	d.client(testpkt.TCP(cip, vip, testpkt.ACK))
	d.client(testpkt.TCP(cip, vip, testpkt.RST))
	d.apply(web("-g", "10.0.0.2:80")...)
	d.stopped(testpkt.TCP(cip, vip, testpkt.ACK), reason.ServerRemoved)
	if v := d.client(testpkt.TCP(cip, vip, testpkt.SYN)); v.DstMAC.String() != testpkt.MAC(0x1002).String() {
		t.Errorf("to %s, want the server that is left", v.DstMAC)
	}
}
