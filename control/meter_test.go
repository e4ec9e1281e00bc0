package control_test

import (
	"testing"

	"weir/conntrack"
	"weir/control"
	"weir/internal/testpkt"
	"weir/ipvsadm"
	"weir/lb"
)

// read returns a service's listing entry, for the servers that are configured.
func read(d *director, key lb.ServiceKey) ipvsadm.ListedService {
	d.t.Helper()
	for _, s := range d.store.Services() {
		if s.Key == key {
			l := ipvsadm.ListedService{Service: ipvsadm.Service{Service: s}}
			d.store.Read(&l)
			return l
		}
	}
	d.t.Fatalf("no service %s", key)
	return ipvsadm.ListedService{}
}

var webKey = lb.ServiceKey{Proto: lb.TCP, Addr: lb.AddrFrom(vip.Addr()), Port: vip.Port()}

func TestCountersOfServersAndServices(t *testing.T) {
	d := newDirectorWith(t, 2, conntrack.Options{Capacity: 4096}, control.Options{Sysctls: lb.Sysctls{ExpireNodestConn: lb.NodestNone}},
		"-A -t 192.0.2.10:80 -s rr", "-a -t 192.0.2.10:80 -r 10.0.0.2:80 -m", "-a -t 192.0.2.10:80 -r 10.0.0.3:80 -m")
	syn := func(port uint16) *testpkt.View { return d.client(testpkt.TCP(from(port), vip, testpkt.SYN)) }
	for port := uint16(1); port <= 6; port++ {
		server := syn(port).Dst
		d.server(1, testpkt.TCP(server, from(port), testpkt.SYN|testpkt.ACK))
		d.client(testpkt.TCP(from(port), vip, testpkt.ACK))
	}
	each := ipvsadm.Traffic{Conns: 3, InPackets: 6, OutPackets: 3, InBytes: 240, OutBytes: 120}
	both := ipvsadm.Traffic{Conns: 6, InPackets: 12, OutPackets: 6, InBytes: 480, OutBytes: 240}
	l := read(d, webKey)
	if l.Total != both || l.Servers[0].Total != each || l.Servers[1].Total != each || l.Servers[0].Active != 3 {
		t.Fatalf("six connections over two servers: %+v", l)
	}

	// A removed server takes nothing of the service's count along, and its answers still count for the service.
	d.apply("-A -t 192.0.2.10:80 -s rr", "-a -t 192.0.2.10:80 -r 10.0.0.2:80 -m")
	l = read(d, webKey)
	if l.Total != both || len(l.Servers) != 1 || l.Servers[0].Total != each {
		t.Fatalf("after a removal: %+v", l)
	}
	d.sleep(901) // the removed server's connections have ended, and it is forgotten
	if l = read(d, webKey); l.Total != both {
		t.Fatalf("after the removed server was forgotten: %+v", l)
	}

	// One that comes back then is another server; the service goes on counting.
	d.apply("-A -t 192.0.2.10:80 -s rr", "-a -t 192.0.2.10:80 -r 10.0.0.2:80 -m", "-a -t 192.0.2.10:80 -r 10.0.0.3:80 -m")
	if l = read(d, webKey); l.Total != both || l.Servers[1].Total != (ipvsadm.Traffic{}) {
		t.Fatalf("after it came back: %+v", l)
	}

	d.store.Zero(webKey)
	if l = read(d, webKey); l.Total != (ipvsadm.Traffic{}) || l.Servers[0].Total != (ipvsadm.Traffic{}) {
		t.Fatalf("after -Z: %+v", l)
	}
	syn(100)
	if l = read(d, webKey); l.Total.Conns != 1 {
		t.Errorf("one connection after -Z: %+v", l)
	}

	// A service that is removed and added again begins at zero, though its server has connections still.
	d.apply()
	d.apply("-A -t 192.0.2.10:80 -s rr", "-a -t 192.0.2.10:80 -r 10.0.0.2:80 -m")
	if l = read(d, webKey); l.Total != (ipvsadm.Traffic{}) || l.Servers[0].Total != (ipvsadm.Traffic{}) {
		t.Errorf("a service added again: %+v", l)
	}
}

// The numbers are those of the recording ipvsadm.json, group list-mixed: 12 connections, 19 packets, 760 bytes, then a pause.
func TestRatesAreIPVSs(t *testing.T) {
	d := newDirector(t, 1, "-A -t 192.0.2.10:80 -s rr", "-a -t 192.0.2.10:80 -r 10.0.0.2:80 -g")
	for port := uint16(1); port <= 12; port++ {
		d.client(testpkt.TCP(from(port), vip, testpkt.SYN))
	}
	for port := uint16(1); port <= 7; port++ {
		d.client(testpkt.TCP(from(port), vip, testpkt.ACK))
	}
	for i, bps := range []uint64{95, 71} {
		estimate(d.store)
		l := read(d, webKey)
		if i == 0 && (l.Total.InBytes != 760 || l.Rate.Conns != 1 || l.Rate.InPackets != 2) || l.Rate.InBytes != bps || l.Servers[0].Rate != l.Rate {
			t.Errorf("step %d: %+v, want 1 connection, 2 packets, %d bytes a second", i+1, l, bps)
		}
	}
	for range 60 {
		estimate(d.store)
	}
	if l := read(d, webKey); l.Rate != (ipvsadm.Traffic{}) {
		t.Errorf("after two minutes without a packet: %+v", l.Rate)
	}
}

func TestAnEditLooksAtItsServicesOnly(t *testing.T) {
	d := newDirector(t, 1, "-A -t 192.0.2.10:80 -s rr", "-a -t 192.0.2.10:80 -r 10.0.0.2:80 -m", "-A -u 192.0.2.10:53 -s rr", "-A -u 192.0.2.11:53 -s rr")
	d.client(testpkt.TCP(cip, vip, testpkt.SYN))
	other := lb.ServiceKey{Proto: lb.UDP, Addr: lb.MustParseAddr("192.0.2.10"), Port: 53}
	set := services(t, "-A -t 192.0.2.10:80 -s rr", "-a -t 192.0.2.10:80 -r 10.0.0.3:80 -m")
	if err := d.store.Edit([]lb.ServiceKey{other}, set); err != nil {
		t.Fatal(err)
	}
	if n := len(d.store.Services()); n != 2 {
		t.Errorf("%d services, want the edited one and the one that was not named", n)
	}
	if v := d.client(testpkt.TCP(from(1), vip, testpkt.SYN)); v.Dst.Addr().String() != "10.0.0.3" {
		t.Errorf("a new connection went to %s", v.Dst)
	}
	if l := read(d, webKey); l.Total.Conns != 2 {
		t.Errorf("an edited service counts on: %+v", l.Total)
	}
	if err := d.store.Edit([]lb.ServiceKey{webKey}, set); err != nil { // removed and added in one go
		t.Fatal(err)
	}
	if l := read(d, webKey); l.Total.Conns != 0 {
		t.Errorf("a service that begins anew: %+v", l.Total)
	}
	d.client(testpkt.TCP(from(1), vip, testpkt.ACK))
	d.paths.mac[lb.MustParseAddr("10.0.0.3")] = [6]byte{}
	if list := d.store.Unreachable(); len(list) != 1 || list[0].Server.Addr != lb.MustParseAddr("10.0.0.3") {
		t.Errorf("unreachable: %+v", list)
	}
}

// estimate is a whole step of all services' rates.
func estimate(s *control.Store) {
	for part := range control.EstimateParts {
		s.Estimate(part)
	}
}
