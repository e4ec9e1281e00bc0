package e2e

import (
	"testing"

	"weir/internal/lab"
	"weir/internal/testnet"
	"weir/lb"
)

// A reply is hashed on its own addresses, so it may arrive on another queue, and so at another worker, than the request did.
func TestRepliesArriveOnTheOtherQueue(t *testing.T) {
	for name, plan := range arms {
		t.Run(name, func(t *testing.T) {
			plan.Queues = 2
			d := newLab(t, plan)
			bulk := serveBulk(t, d, bulkBytes)
			var all []lab.Service
			for _, mode := range []lb.Mode{lb.NAT, lb.FULLNAT} {
				all = append(all, service(lb.TCP, mode, 8000, lab.HTTPAltPort, 1, 2, 3), service(lb.UDP, mode, 8007, lab.EchoAltPort, 1, 2, 3),
					service(lb.TCP, mode, 8001, bulkPort, 1, 1, 1))
			}
			d.start(all)
			ports := []*testnet.Device{d.FrontPort, d.BackPort}
			if plan.OneArm {
				// One port for both directions: the kernel spreads them by hash, and among so many flows are some of either kind.
				ports = nil
			}
			for i, p := range ports {
				p.SendBy(i) // requests by queue 0, replies by queue 1
			}
			front, back := d.Front.Stats(), d.Back.Stats()
			for i := 0; i < len(all); i += 3 {
				d.wantTally(t, all[i], 200, d.Requests(t.Context(), all[i].VIP, 200))
				d.wantTally(t, all[i+1], 200, d.Echoes(t.Context(), all[i+1].VIP, 200))
				wantBulk(t, d, all[i+2].VIP, bulk)
			}
			took := func(device *testnet.Device, before map[string]uint64) (n [2]uint64) {
				now := device.Stats()
				for q, name := range []string{"rx_queue_0_xdp_packets", "rx_queue_1_xdp_packets"} {
					n[q] = now[name] - before[name]
				}
				return n
			}
			f, b := took(d.Front, front), took(d.Back, back)
			switch {
			case plan.OneArm && (f[0] < 1000 || f[1] < 1000):
				t.Errorf("the queues got %d packets: not spread", f)
			case !plan.OneArm && (f[0] < 1000 || f[1] > f[0]/10 || b[1] < 1000 || b[0] > b[1]/10):
				t.Errorf("requests arrived on the queues %d, replies on %d: want them apart", f, b)
			}
		})
	}
}
