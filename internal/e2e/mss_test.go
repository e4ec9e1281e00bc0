package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"weir/internal/testnet"
	"weir/lb"
)

// Where no ICMP comes through, what the routes say of a narrow way reaches both ends by the MSS: in NAT and FULLNAT by --mss-clamp alone, in
// TUN, where the servers' SYN/ACK passes weir by, with advmss on the servers' routes (README, TUN). Without both, uploads hang.
func TestTheMSSReplacesICMP(t *testing.T) {
	for _, mode := range []lb.Mode{lb.NAT, lb.FULLNAT, lb.TUN} {
		for _, clamp := range []bool{true, false} {
			t.Run(fmt.Sprint(mode, " clamped ", clamp), func(t *testing.T) {
				var flags []string
				if clamp {
					flags = []string{"--mss-clamp"}
				}
				d, near, server := remoteServer(t, mode, narrowMTU, flags...)
				for _, ns := range []*testnet.Namespace{near, d.far, server, d.Client.Namespace} {
					for _, args := range []string{
						"add table inet hole", "add chain inet hole in { type filter hook input priority 0; }", "add chain inet hole out { type filter hook output priority 0; }",
						"add rule inet hole in icmp type destination-unreachable drop", "add rule inet hole in icmpv6 type packet-too-big drop",
						"add rule inet hole out icmp type destination-unreachable drop", "add rule inet hole out icmpv6 type packet-too-big drop",
					} {
						if out, err := ns.Run("nft", args); err != nil {
							t.Fatalf("%v: %s", err, out)
						}
					}
				}
				if clamp && mode == lb.TUN { // 20 and 40 bytes of outer header, 40 and 60 of IP and TCP
					for gateway, advmss := range map[string]int{"10.9.0.1": narrowMTU - 60, "fd00:9::1": narrowMTU - 100} {
						if out, err := server.Run("ip", "route", "change", "default", "via", gateway, "advmss", fmt.Sprint(advmss)); err != nil {
							t.Fatalf("%v: %s", err, out)
						}
					}
				}
				limit := time.Second
				if clamp {
					limit = 20 * time.Second
				}
				results := make(chan error, 10)
				accept(t, &testnet.Host{Namespace: server}, bulkPort, func(c net.Conn) {
					c.SetDeadline(time.Now().Add(limit))
					results <- exchange(c, 'S', 'C', bulkBytes)
				})
				for _, vip := range []netip.Addr{vips[mode], vip6s[mode]} {
					c, err := d.Client.Dial("tcp", netip.AddrPortFrom(vip, bulkPort).String())
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					c.SetDeadline(time.Now().Add(limit))
					here, there := exchange(c, 'C', 'S', bulkBytes), <-results
					if clamp && (here != nil || there != nil) {
						t.Errorf("%s: %v; %v", vip, here, there)
					} else if !clamp && there == nil {
						t.Errorf("%s: an upload came through a hole: the test shows nothing", vip)
					}
				}
			})
		}
	}
}
