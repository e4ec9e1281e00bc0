package dataplane_test

import (
	"net/netip"
	"testing"

	"weir/conntrack"
	"weir/dataplane"
	"weir/dataplane/forward"
	"weir/dataplane/memqueue"
	"weir/dataplane/reason"
	"weir/internal/testpkt"
	"weir/lb"
	"weir/sched"
)

// schedulerFunc is a scheduler that runs a test's code in the middle of a worker's turn.
type schedulerFunc func() *sched.Server

func (schedulerFunc) Update(*sched.List)                  {}
func (f schedulerFunc) Pick(*sched.Request) *sched.Server { return f() }

// TestAServerThatCameDuringTheTurn: between two looks of one worker, control publishes a new server and another worker opens a
// connection to it. The first worker's table does not know the server yet.
func TestAServerThatCameDuringTheTurn(t *testing.T) {
	client, vip := netip.MustParseAddrPort("198.51.100.7:40000"), netip.MustParseAddrPort("192.0.2.10:80")
	rip := lb.MustParseAddr("10.0.0.2")
	for name, other := range map[string]bool{"picked here": false, "opened by another worker meanwhile": true} {
		t.Run(name, func(t *testing.T) {
			conns, err := conntrack.New(conntrack.Options{Capacity: 64})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(conns.Close)
			shared := dataplane.NewShared(conns, func() uint32 { return 1 })
			id, load, err := conns.Servers().Acquire(rip)
			if err != nil {
				t.Fatal(err)
			}
			pick := func() *sched.Server {
				shared.Meter(id)
				edit := shared.Table().Edit()
				edit.SetServer(&dataplane.Server{ID: id, Mode: lb.DR, Addr: rip, Port: 80, Load: load,
					Path: &forward.Path{DstMAC: [6]byte(testpkt.MAC(7)), MTU: 1500}})
				shared.Publish(edit.Table())
				if other {
					c := conntrack.Conn{Client: lb.AddrFrom(client.Addr()), ClientPort: client.Port(), Virtual: lb.AddrFrom(vip.Addr()),
						VirtualPort: vip.Port(), Proto: lb.UDP, Mode: lb.DR, ServerID: id, Server: rip, ServerPort: 80}
					conns.Open(&c, 0)
					if _, result := conns.Insert(&c, 1); result != conntrack.OK {
						t.Fatal(result)
					}
				}
				return &sched.Server{ID: id, Addr: rip, Port: 80, Load: load}
			}
			edit := shared.Table().Edit()
			edit.SetIfaces([]dataplane.Iface{{Name: "mem0", MTU: 1500}})
			edit.SetService(&dataplane.Service{
				Key:    lb.ServiceKey{Addr: lb.AddrFrom(vip.Addr()), Port: vip.Port(), Proto: lb.UDP},
				Picker: dataplane.NewPicker(schedulerFunc(pick)), Versions: dataplane.AppendVersion(nil, &sched.List{}),
			})
			shared.Publish(edit.Table())
			q := memqueue.New(64)
			w := dataplane.NewWorker(shared, 0, 1, []dataplane.IfaceQueue{{Iface: 0, Queue: q}}, nil)
			q.Inject(testpkt.UDP(client, vip).Bytes())
			q.Inject(testpkt.UDP(client, vip).Bytes())
			w.Turn()
			c := w.Counters()
			if c.ToServer != 2 || len(q.Sent()) != 2 || q.Outstanding() != 0 {
				t.Errorf("%d of 2 packets reached the server; stopped: %v", c.ToServer, c.Stops())
			}
			if c.Reasons[reason.ServerRemoved] != 0 {
				t.Error("the server that came was taken for removed")
			}
		})
	}
}
