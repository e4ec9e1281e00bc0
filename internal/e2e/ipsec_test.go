package e2e

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"weir/internal/lab"
	"weir/internal/testnet"
	"weir/internal/testpkt"
	"weir/lb"
)

// TestIPsecGoesWhereItsKeysAre sends ESP and AH by raw sockets: each client's must reach the server that its ISAKMP exchange went to, and by
// NAT come back from there.
func TestIPsecGoesWhereItsKeysAre(t *testing.T) {
	d := newLab(t, testnet.Plan{})
	const isakmp = 500
	var all []lab.Service
	for _, mode := range []lb.Mode{lb.DR, lb.NAT, lb.TUN} {
		s := service(lb.UDP, mode, isakmp, isakmp, 1, 1, 1)
		s.Scheduler = "rr"
		all = append(all, s)
	}
	for _, host := range d.Servers {
		for _, at := range []netip.Addr{host.IP, vips[lb.DR], vips[lb.TUN]} {
			for _, network := range []string{"udp", "ip4:50", "ip4:51"} {
				address := at.String()
				if network == "udp" {
					address = netip.AddrPortFrom(at, isakmp).String()
				}
				c, err := host.ListenPacket(network, address)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				go answerByName(c, host.Role)
			}
		}
	}
	var clients []netip.Addr
	for i := range 6 {
		clients = append(clients, netip.AddrFrom4([4]byte{192, 0, 2, byte(20 + i)}))
		d.Client.AddAddr(d.Client.Dev.Name, clients[i].String()+"/24")
	}
	d.start(all)
	for _, s := range all {
		t.Run(s.Mode.String(), func(t *testing.T) {
			servers := map[string]int{}
			for _, from := range clients {
				keys := ask(t, d.Client.Namespace, "udp", netip.AddrPortFrom(from, isakmp).String(), &net.UDPAddr{IP: s.VIP.Addr().AsSlice(), Port: isakmp})
				servers[keys]++
				for _, network := range []string{"ip4:50", "ip4:51"} {
					if got := ask(t, d.Client.Namespace, network, from.String(), &net.IPAddr{IP: s.VIP.Addr().AsSlice()}); got != keys {
						t.Errorf("%s: %s to %s, its keys to %s", from, network, got, keys)
					}
				}
			}
			if len(servers) != 3 {
				t.Errorf("the exchanges went to %v, want all servers", servers)
			}
		})
	}
}

// answerByName sends back what comes, behind the host's name.
func answerByName(c net.PacketConn, name string) {
	b := make([]byte, 2048)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		c.WriteTo(append([]byte(name+"\n"), b[:n]...), from)
	}
}

// ask sends packets of several sizes from a local address and returns who answered all of them, from the address that was asked.
func ask(t *testing.T, ns *testnet.Namespace, network, local string, to net.Addr) (server string) {
	t.Helper()
	c, err := ns.ListenPacket(network, local)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := make([]byte, 2048)
	for _, size := range []int{8, 101, 1400} {
		want := testpkt.Pattern(size)
		c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.WriteTo(want, to); err != nil {
			t.Fatal(err)
		}
		n, from, err := c.ReadFrom(b)
		if err != nil {
			t.Fatalf("%s from %s to %s, %d bytes: %v", network, local, to, size, err)
		}
		name, payload, _ := bytes.Cut(b[:n], []byte("\n"))
		if !bytes.Equal(payload, want) || fmt.Sprint(from) != fmt.Sprint(to) || server != "" && server != string(name) {
			t.Fatalf("%s from %s: %s answered by %s with %d bytes, the one before by %s", network, local, from, name, len(payload), server)
		}
		server = string(name)
	}
	return server
}
