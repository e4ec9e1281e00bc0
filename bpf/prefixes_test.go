package bpf

import (
	"net/netip"
	"testing"

	"weir/internal/testpkt"
	"weir/lb"
)

func prefix(s string) lb.Prefix {
	p := netip.MustParsePrefix(s)
	return lb.Prefix{Addr: lb.AddrFrom(p.Addr()), Bits: p.Bits()}
}

// judge returns a function that wants a packet redirected or passed on.
func judge(t *testing.T, a *Attachment) func(what string, p testpkt.Packet, want bool) {
	return func(what string, p testpkt.Packet, want bool) {
		t.Helper()
		action, _, err := a.objects.Steer.Test(p.Bytes())
		must(t, err)
		if redirected := action == xdpRedirect; redirected != want {
			t.Errorf("%s: redirected %v, want %v", what, redirected, want)
		}
	}
}

func TestPrefixesOfMarks(t *testing.T) {
	s, a := configured(t)
	judge := judge(t, a)
	tcp := func(to string, port uint16) testpkt.Packet {
		return testpkt.TCP(at(client, 1000), at(netip.MustParseAddr(to), port), testpkt.SYN)
	}
	udp := func(to string, port uint16) testpkt.Packet {
		return testpkt.UDP(at(client, 1000), at(netip.MustParseAddr(to), port))
	}
	wide, narrow, six := prefix("203.0.112.0/23"), prefix("203.0.113.0/24"), prefix("2001:db8:9::/48")

	must(t, s.AddPrefix(lb.TCP, wide, 80, 89))
	judge("first port", tcp("203.0.113.5", 80), true)
	judge("last port", tcp("203.0.113.5", 89), true)
	judge("port below", tcp("203.0.113.5", 79), false)
	judge("port above", tcp("203.0.113.5", 90), false)
	judge("port in the other byte order", tcp("203.0.113.5", 80<<8), false)
	judge("another protocol", udp("203.0.113.5", 80), false)
	judge("address below", tcp("203.0.111.255", 80), false)
	judge("address above", tcp("203.0.114.0", 80), false)
	judge("prefix as source", testpkt.TCP(at(netip.MustParseAddr("203.0.113.5"), 80), at(client, 80), testpkt.SYN), false)

	must(t, s.AddPrefix(0, narrow, 443, 443))
	judge("the longer prefix, TCP", tcp("203.0.113.5", 443), true)
	judge("the longer prefix, UDP", udp("203.0.113.5", 443), true)
	judge("the longer prefix has the shorter one's ports too", tcp("203.0.113.5", 85), true)
	judge("and its own only inside itself", tcp("203.0.112.5", 443), false)

	must(t, s.AddPrefix(lb.UDP, wide, 53, 53))
	judge("what the shorter one gets later, the longer one gets too", udp("203.0.113.5", 53), true)
	must(t, s.RemovePrefix(lb.TCP, wide, 80, 89))
	judge("and what it loses", tcp("203.0.113.5", 80), false)
	judge("nothing else", udp("203.0.113.5", 53), true)
	must(t, s.RemovePrefix(lb.UDP, wide, 53, 53))
	must(t, s.RemovePrefix(lb.UDP, wide, 53, 53))
	judge("the shorter prefix is gone", udp("203.0.112.5", 53), false)
	judge("from the longer one as well", udp("203.0.113.5", 53), false)
	judge("whose own rule stays", udp("203.0.113.5", 443), true)
	must(t, s.RemovePrefix(0, narrow, 443, 443))
	judge("until it goes", udp("203.0.113.5", 443), false)

	must(t, s.AddPrefix(0, six, 0, 65535))
	syn6 := testpkt.TCP(at(client6, 1), at(netip.MustParseAddr("2001:db8:9::1"), 0), testpkt.SYN)
	judge("IPv6", syn6, true)
	judge("another IPv6 prefix", testpkt.TCP(at(client6, 1), at(netip.MustParseAddr("2001:db8:a::1"), 0), testpkt.SYN), false)
	must(t, s.RemovePrefix(0, six, 0, 65535))
	judge("IPv6, removed", syn6, false)

	must(t, s.AddPrefix(0, prefix("2000::/3"), 0, 65535))
	must(t, s.AddPrefix(0, prefix("0.0.0.0/0"), 7, 7))
	judge("most of IPv6", syn6, true)
	judge("is nothing of IPv4", udp("203.0.113.5", 443), false)
	judge("all of IPv4", udp("203.0.113.5", 7), true)
	judge("is nothing of IPv6", testpkt.UDP(at(client6, 1), at(netip.MustParseAddr("fd00::1"), 7)), false)
	must(t, s.RemovePrefix(0, prefix("2000::/3"), 0, 65535))
	must(t, s.RemovePrefix(0, prefix("0.0.0.0/0"), 7, 7))
	must(t, s.AddPrefix(lb.UDP, lb.Prefix{}, 7, 7))
	judge("everywhere, IPv4", udp("203.0.113.5", 7), true)
	judge("everywhere, IPv6", testpkt.UDP(at(client6, 1), at(client6, 7)), true)
	judge("everywhere, another port", udp("203.0.113.5", 8), false)

	if err := s.AddPrefix(lb.TCP, wide, 2, 1); err == nil {
		t.Error("a range of ports that ends before it starts was taken")
	}
}

func TestMoreRangesThanFitAreJoined(t *testing.T) {
	s, a := configured(t)
	judge := judge(t, a)
	block := prefix("203.0.113.0/24")
	to := func(port uint16) testpkt.Packet {
		return testpkt.TCP(at(client, 1000), at(netip.MustParseAddr("203.0.113.9"), port), testpkt.SYN)
	}
	ports := []uint16{100, 200, 300, 400, 405, 600, 700, 800, 900}
	for _, p := range ports {
		must(t, s.AddPrefix(lb.TCP, block, p, p))
	}
	for _, p := range ports {
		judge("a port of a rule", to(p), true)
	}
	judge("between the two nearest", to(402), true)
	judge("between others", to(500), false)
	judge("below all", to(99), false)
	judge("above all", to(901), false)
	must(t, s.RemovePrefix(lb.TCP, block, 900, 900))
	judge("between the two nearest, when all fit again", to(402), false)
}
