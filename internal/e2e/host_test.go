package e2e

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"weir/internal/lab"
	"weir/internal/testnet"
	"weir/internal/testpkt"
	"weir/lb"
)

func TestTheHostKeepsItsOwnTraffic(t *testing.T) {
	for name, plan := range arms {
		t.Run(name, func(t *testing.T) {
			d := newLab(t, plan)
			d.start(append(everyMode(8000, lab.HTTPAltPort), service(lb.UDP, lb.NAT, 8007, 7070, 1, 1, 1)))
			wantHostTraffic(t, d)

			// The VIP is an address of the host like any other, but for the service's port.
			accept(t, &testnet.Host{Namespace: d.Director}, 2222, func(c net.Conn) { io.WriteString(c, "SSH-2.0-vip\r\n") })
			for _, vip := range d.vipList() {
				if got := banner(t, d.Client.Namespace, netip.AddrPortFrom(vip, 2222).String()); got != "SSH-2.0-vip\r\n" {
					t.Errorf("port 2222 of %s says %q", vip, got)
				}
			}

			// What a NAT server sends by itself from the very port it serves on is not a reply, and is routed as it is.
			server := d.Servers[1]
			own, err := server.ListenPacket("udp", netip.AddrPortFrom(server.IP, 7070).String())
			if err != nil {
				t.Fatal(err)
			}
			defer own.Close()
			client, err := d.Client.ListenPacket("udp", netip.AddrPortFrom(d.Client.IP, 5353).String())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			client.SetDeadline(time.Now().Add(3 * time.Second))
			if _, err := own.WriteTo([]byte("unasked"), client.LocalAddr()); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 100)
			n, from, err := client.ReadFrom(b)
			if err != nil || string(b[:n]) != "unasked" || from.String() != own.LocalAddr().String() {
				t.Errorf("got %q from %v, %v", b[:n], from, err)
			}
		})
	}
}

// A segment of no connection, to a service: the host answers RST, as it would without weir.
func TestAStrayACKIsAnsweredByRST(t *testing.T) {
	d := newLab(t, arms["two arms"])
	services := everyMode(8000, lab.HTTPAltPort)
	d.start(services)
	wire := d.Client.Dev.Wire()
	for _, s := range services {
		src := netip.AddrPortFrom(d.Client.IP, 1023) // a port the client's own kernel gives nobody
		stray := testpkt.TCP(src, s.VIP, testpkt.ACK).From(d.Client.Dev.MAC).To(d.Front.MAC).Seq(7).Ack(4711)
		if err := wire.Send(stray.Bytes()); err != nil {
			t.Fatal(err)
		}
		frame, ok := wire.Recv(3*time.Second, func(f []byte) bool {
			v, err := testpkt.Parse(f)
			return err == nil && v.Src == s.VIP && v.Dst == src
		})
		if !ok {
			t.Errorf("%s: no answer", s.Mode)
			continue
		}
		if v := testpkt.Decode(t, frame).MustHold(t); v.Flags != testpkt.RST || v.Seq != 4711 {
			t.Errorf("%s: answered with flags %#x, sequence number %d", s.Mode, v.Flags, v.Seq)
		}
	}
}

func TestAServerOnTheDirectorItself(t *testing.T) {
	d := newLab(t, arms["two arms"])
	accept(t, &testnet.Host{Namespace: d.Director}, lab.HTTPPort, func(c net.Conn) { io.WriteString(c, "served at home") })
	vip := netip.AddrPortFrom(vips[lb.DR], lab.HTTPPort)
	d.start(nil, "--rule", "-A -t "+vip.String()+" -s rr", "--rule", "-a -t "+vip.String()+" -r "+testnet.DIP+" -g")
	for range 10 {
		if got := banner(t, d.Client.Namespace, vip.String()); got != "served at home" {
			t.Fatalf("got %q", got)
		}
	}
}

// Another machine takes a server's address over: connections go on to where the address now is.
func TestAServersMACChanges(t *testing.T) {
	for name, plan := range arms {
		t.Run(name, func(t *testing.T) {
			d := newLab(t, plan)
			serveLines(t, d)
			services := everyMode(8002, linePort)
			for i := range services {
				services[i].Weights = []int{1}
			}
			d.start(services)
			lines := d.lines(t, services, 1)
			for _, l := range lines {
				l.wantEcho(t, "at first", 5*time.Second)
			}
			s := d.Servers[0]
			s.Sysctl("net.ipv4.conf.all.arp_notify", "1")
			before := bytes.Clone(s.Dev.MAC)
			s.Dev.SetMAC(testpkt.MAC(0x77)) // a veth takes it while it is up, and announces it
			if bytes.Equal(before, s.Dev.MAC) {
				t.Fatal("the MAC address is the same")
			}
			for _, l := range lines {
				l.wantEcho(t, "after the change", 10*time.Second)
			}
			for _, l := range d.lines(t, services, 1) {
				l.wantEcho(t, "a new connection", 5*time.Second)
			}
		})
	}
}
