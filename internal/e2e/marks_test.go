package e2e

import (
	"net/netip"
	"slices"
	"testing"

	"weir/internal/lab"
)

// One service for two VIPs, both protocols and a range of ports, by a firewall mark; what lies beside the range is the director's own.
func TestAMarkCoversAddressesPortsAndProtocols(t *testing.T) {
	d := newLab(t, arms["two arms"])
	marked := []netip.Addr{netip.MustParseAddr("192.0.2.120"), netip.MustParseAddr("192.0.2.121")}
	for _, vip := range marked {
		d.Director.AddAddr(d.Front.Name, vip.String()+"/32")
	}
	flags := []string{"--local-address", lab.LIP.String(), "--mark", "1 any 192.0.2.120/31:7-80", "--rule", "-A -f 1 -s rr"}
	for _, s := range d.Servers {
		flags = append(flags, "--rule", "-a -f 1 -r "+s.IP.String()+" -F")
	}
	d.start(nil, flags...)
	for _, vip := range marked {
		for what, tally := range map[string]*lab.Tally{
			"TCP": d.Requests(t.Context(), netip.AddrPortFrom(vip, lab.HTTPPort), 30),
			"UDP": d.Echoes(t.Context(), netip.AddrPortFrom(vip, lab.EchoPort), 30),
		} {
			var shares []int
			for _, s := range d.Servers {
				shares = append(shares, tally.PerServer[s.Role])
			}
			if tally.Errors != 0 || !slices.Equal(shares, []int{10, 10, 10}) {
				t.Errorf("%s to %s: shares %v, %d errors, the first: %v", what, vip, shares, tally.Errors, tally.First)
			}
		}
	}
	// Above the range the director itself is asked, where nothing listens.
	if tally := d.Requests(t.Context(), netip.AddrPortFrom(marked[0], lab.HTTPAltPort), 1); tally.Errors != 1 {
		t.Errorf("port %d: %d errors of 1, want the director to refuse", lab.HTTPAltPort, tally.Errors)
	}
}
