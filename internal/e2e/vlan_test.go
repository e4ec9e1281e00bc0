package e2e

import (
	"fmt"
	"testing"

	"weir/bpf"
	"weir/internal/lab"
	"weir/internal/testnet"
	"weir/lb"
)

// The client is in a VLAN, the servers are in none: its packets come tagged, and so do the answers. Where a server answers past the
// director, its answers have no tags.
func TestAClientBehindATrunk(t *testing.T) {
	one := lb.VLANs(0).Push(lb.CustomerTag, 100)
	for name, plan := range arms {
		for _, vlans := range []lb.VLANs{one, lb.VLANs(0).Push(lb.ServiceTag, 200).Push(lb.CustomerTag, 4094)} {
			t.Run(fmt.Sprintf("%s %s", name, vlans), func(t *testing.T) {
				d := newLab(t, plan)
				serveEchoes(t, d)
				bulk := serveBulk(t, d, bulkBytes)
				// A veth carries frames of its MTU with one tag (net/core/dev.c, is_skb_forwardable), so two take from the packet.
				if out, err := d.Client.Run("ip", "route", "change", testnet.ClientNet, "dev", "eth0", "src", testnet.ClientIP, "mtu", "1496"); err != nil {
					t.Fatal(err, out)
				}
				var tags *bpf.Tags
				if err := d.Client.Do(func() (err error) {
					tags, err = bpf.AttachTags(d.Client.Dev.Index, d.Front.MAC, vlans)
					return err
				}); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { tags.Close() })
				web, echo, big, streams := map[lb.Mode]lab.Service{}, map[lb.Mode]lab.Service{}, map[lb.Mode]lab.Service{}, map[lb.Mode]lab.Service{}
				var all []lab.Service
				for _, mode := range lab.Modes {
					web[mode] = service(lb.TCP, mode, 8000, lab.HTTPAltPort, 1, 2, 3)
					echo[mode] = service(lb.UDP, mode, 8007, lab.EchoAltPort, 5, 0, 1)
					big[mode] = service(lb.UDP, mode, 8008, echoPort, 1, 1, 1)
					streams[mode] = service(lb.TCP, mode, 8001, bulkPort, 1, 1, 1)
					all = append(all, web[mode], echo[mode], big[mode], streams[mode])
				}
				d.start(all)
				for _, mode := range lab.Modes {
					t.Run(mode.String(), func(t *testing.T) {
						_, before, _ := counts(t, tags)
						d.wantTally(t, web[mode], 100, d.Requests(t.Context(), web[mode].VIP, 100))
						d.wantTally(t, echo[mode], 100, d.Echoes(t.Context(), echo[mode].VIP, 100))
						wantEchoes(t, d, big[mode].VIP, 29, 46, 1490, 1496)
						wantBulk(t, d, streams[mode].VIP, bulk)
						_, popped, refused := counts(t, tags)
						if both := mode == lb.NAT || mode == lb.FULLNAT; refused != 0 || both != (popped > before+500) {
							t.Errorf("the client got %d packets with the right tags, %d with others", popped-before, refused)
						}
					})
				}
			})
		}
	}
}

func counts(t *testing.T, tags *bpf.Tags) (pushed, popped, refused uint64) {
	t.Helper()
	pushed, popped, refused, err := tags.Counts()
	if err != nil {
		t.Fatal(err)
	}
	return pushed, popped, refused
}
