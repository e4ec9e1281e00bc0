package paths

import (
	"fmt"
	"net"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weir/lb"
)

// oracle asks for one route by the library, a request and an answer at a time.
func oracle(h *netlink.Handle, a lb.Addr) route {
	found, err := h.RouteGet(net.IP(a.Netip().AsSlice()))
	if err != nil {
		return route{refused: refusal(err)}
	}
	r := found[0]
	if r.Type != unix.RTN_UNICAST && r.Type != unix.RTN_LOCAL {
		return route{refused: "the route to it is of type " + routeType(r.Type)}
	}
	out := route{local: r.Type == unix.RTN_LOCAL, iface: r.LinkIndex, gateway: addrFrom(r.Gw), source: addrFrom(r.Src), mtu: r.MTU}
	if via, ok := r.Via.(*netlink.Via); ok {
		out.gateway = addrFrom(via.Addr)
	}
	return out
}

// Whatever the host's routes are, many at once get the same answers as each by itself.
func TestRoutesAtOnceAreThoseOneByOne(t *testing.T) {
	r := newRig(t)
	for _, c := range []string{
		"route add 10.9.0.0/16 via 10.0.0.3 mtu 1400", "route add fd09::/16 via fd00::2 mtu 1300", "route add 10.8.0.0/16 via inet6 fd00::2 dev eth0",
		"route add unreachable 10.1.0.0/16", "route add prohibit 10.2.0.0/16", "route add blackhole 10.3.0.0/16", "route add prohibit fd02::/16",
		"route add 10.5.0.0/16 nexthop via 10.0.0.2 nexthop via 10.0.1.2",
		"nexthop add id 7 via 10.0.0.2 dev eth0", "route add 10.6.0.0/16 nhid 7",
		"route add 10.7.0.0/16 via 10.0.1.2 table 77", "rule add to 10.7.0.0/24 lookup 77",
		"route add default via 10.0.1.2",
	} {
		r.ip(r.director, c)
	}
	var q *inquiry
	var h *netlink.Handle
	if err := r.director.Do(func() (err error) {
		if q, err = newInquiry(); err == nil {
			h, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	defer q.close()
	var addrs []lb.Addr
	for i := range 3 * atOnce {
		addrs = append(addrs, addr(fmt.Sprintf("10.%d.%d.%d", i%12, i%3, i%256)), addr(fmt.Sprintf("fd%02d::%x", i%11, i)))
	}
	addrs = append(addrs, addr("127.0.0.1"), addr("::1"), addr("203.0.113.1"), addr("2001:db8::1"), addr("255.255.255.255"), addr("224.0.0.1"))
	kinds := map[string]bool{}
	for i, got := range q.routes(addrs) {
		want := oracle(h, addrs[i])
		// A multipath route's next hop is the kernel's choice of the moment.
		if got != want && !slices.Contains([]string{"10.5."}, addrs[i].String()[:5]) {
			t.Errorf("%s: %+v, the library says %+v", addrs[i], got, want)
		}
		kinds[got.refused] = true
	}
	for _, refused := range []string{"", "no route", "no route (unreachable)", "no route (prohibited)", "no route (blackhole)", "the route to it is of type broadcast"} {
		if !kinds[refused] {
			t.Errorf("no answer is %q, so this test proves less than it should: %v", refused, kinds)
		}
	}
	if got := q.route(addr("fe80::1")); got.refused == "" {
		t.Errorf("link-local: %+v", got)
	}
	q.close()
	if got := q.route(addr("10.0.0.2")); got.refused == "" {
		t.Errorf("closed: %+v", got)
	}
}

// Answers that find no room in the socket's buffer are asked for again.
func TestRoutesWhenAnswersAreLost(t *testing.T) {
	r := newRig(t)
	var q *inquiry
	if err := r.director.Do(func() (err error) { q, err = newInquiry(); return err }); err != nil {
		t.Fatal(err)
	}
	defer q.close()
	if err := unix.SetsockoptInt(q.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1); err != nil { // the least there is, some answers
		t.Fatal(err)
	}
	addrs := make([]lb.Addr, atOnce)
	for i := range addrs {
		addrs[i] = addr(fmt.Sprintf("10.0.0.%d", 2+i))
	}
	for i, got := range q.routes(addrs) {
		if want := (route{iface: r.eth0.Index, source: addr("10.0.0.1")}); got != want {
			t.Fatalf("%s: %+v", addrs[i], got)
		}
	}
}

func BenchmarkRoutes(b *testing.B) {
	q, err := newInquiry()
	if err != nil {
		b.Fatal(err)
	}
	defer q.close()
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close()
	addrs := make([]lb.Addr, 4096)
	for i := range addrs {
		addrs[i] = addr(fmt.Sprintf("127.1.%d.%d", i>>8, i&255))
	}
	b.Run("at once", func(b *testing.B) {
		for i := 0; i < b.N; i += len(addrs) {
			q.routes(addrs)
		}
	})
	b.Run("one by one", func(b *testing.B) {
		for i := range b.N {
			oracle(h, addrs[i%len(addrs)])
		}
	})
}
