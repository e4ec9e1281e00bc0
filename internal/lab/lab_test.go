package lab

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"weir/internal/testnet"
	"weir/lb"
)

// Without weir, by plain routing to one server: what the client finds out is what there is to find out.
func TestTrafficTellsWhoAnsweredAndWhoWasSeen(t *testing.T) {
	l := New(t, testnet.New(t), testnet.Plan{VIPs: []string{"192.0.2.100"}})
	s := l.Servers[2]
	client := netip.MustParseAddr(testnet.ClientIP)
	const size = 4 << 20
	for name, tally := range map[string]*Tally{
		"requests": l.Requests(t.Context(), netip.AddrPortFrom(s.IP, HTTPPort), 50),
		"echoes":   l.Echoes(t.Context(), netip.AddrPortFrom(s.IP, EchoAltPort), 50),
	} {
		if tally.Errors != 0 || tally.PerServer["server3"] != 50 || tally.Saw[client] != 50 {
			t.Errorf("%s: %+v", name, tally)
		}
	}
	before := l.Replies()
	tally := l.Download(t.Context(), netip.AddrPortFrom(s.IP, HTTPAltPort), size)
	if tally.Errors != 0 || tally.Bytes != size {
		t.Errorf("download: %+v", tally)
	}
	if now := l.Replies(); now.ViaDirector-before.ViaDirector < size || now.Direct-before.Direct > size/100 {
		t.Errorf("replies before %+v, after %+v", before, now)
	}
	if tally := l.Requests(t.Context(), netip.AddrPortFrom(s.IP, 81), 3); tally.Errors != 3 || tally.First == nil {
		t.Errorf("requests to a closed port: %+v", tally)
	}
}

func TestRulesAreIpvsadms(t *testing.T) {
	l := &Lab{Topology: &testnet.Topology{}}
	for _, ip := range []string{"10.0.0.11", "10.0.0.12"} {
		l.Servers = append(l.Servers, &testnet.Host{IP: netip.MustParseAddr(ip)})
	}
	s := Service{Proto: lb.UDP, VIP: netip.MustParseAddrPort("192.0.2.100:7"), Mode: lb.FULLNAT, Weights: []int{1, 2}, ServerPort: 7007}
	want := []string{"-A -u 192.0.2.100:7 -s wrr", "-a -u 192.0.2.100:7 -r 10.0.0.11:7007 -F -w 1", "-a -u 192.0.2.100:7 -r 10.0.0.12:7007 -F -w 2"}
	if got := l.Rules(s); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	// The bar of wrr begins at the first server's weight, 1, and the server added last comes first.
	if got, err := l.Want(s, 1); err != nil || !slices.Equal(got, []int{0, 1}) {
		t.Errorf("want of 1: %d, %v", got, err)
	}
	if got, err := l.Want(s, 300); err != nil || !slices.Equal(got, []int{100, 200}) {
		t.Errorf("want of 300: %d, %v", got, err)
	}
}

func TestProblemNamesWhatIsWrong(t *testing.T) {
	cip := netip.MustParseAddr(testnet.ClientIP)
	direct, through := Replies{ViaDirector: 100, Direct: 9000}, Replies{ViaDirector: 9000, Direct: 100}
	dr := Row{Mode: lb.DR, Traffic: "requests", Count: 6, Want: []int{1, 2, 3}, Got: []int{1, 2, 3}, Bytes: 5000, Saw: []netip.Addr{cip}, Replies: direct}
	with := func(change func(*Row)) Row { r := dr; change(&r); return r }
	for name, c := range map[string]struct {
		row  Row
		want string // part of the reason; "" is none
	}{
		"DR as it should be":      {dr, ""},
		"TUN as it should be":     {with(func(r *Row) { r.Mode, r.Decaps = lb.TUN, 60 }), ""},
		"NAT as it should be":     {with(func(r *Row) { r.Mode, r.Replies = lb.NAT, through }), ""},
		"FULLNAT as it should be": {with(func(r *Row) { r.Mode, r.Replies, r.Saw = lb.FULLNAT, through, []netip.Addr{LIP} }), ""},
		"any server may download": {with(func(r *Row) { r.Want, r.Got, r.Count = nil, []int{0, 1, 0}, 1 }), ""},
		"IPv6 as it should be":    {with(func(r *Row) { r.Is6, r.Saw = true, []netip.Addr{netip.MustParseAddr(testnet.ClientIP6)} }), ""},
		"FULLNAT of IPv6":         {with(func(r *Row) { r.Mode, r.Is6, r.Replies, r.Saw = lb.FULLNAT, true, through, []netip.Addr{LIP6} }), ""},
		"IPv6 that came as IPv4":  {with(func(r *Row) { r.Is6 = true }), "DR IPv6, requests: the servers saw [192.0.2.10]"},
		"an error":                {with(func(r *Row) { r.Errors, r.First = 1, errors.New("refused") }), "1 errors, the first: refused"},
		"an answer missing":       {with(func(r *Row) { r.Got = []int{1, 2, 2} }), "5 of 6"},
		"another share":           {with(func(r *Row) { r.Got = []int{2, 1, 3} }), "should give [1 2 3]"},
		"NAT that hides clients":  {with(func(r *Row) { r.Saw = []netip.Addr{netip.MustParseAddr(testnet.DIP)} }), "saw [10.0.0.1]"},
		"FULLNAT that hides none": {with(func(r *Row) { r.Mode, r.Replies = lb.FULLNAT, through }), "want 10.0.0.201"},
		"two addresses seen":      {with(func(r *Row) { r.Saw = []netip.Addr{cip, LIP} }), "saw"},
		"DR through the director": {with(func(r *Row) { r.Replies = through }), "through the director"},
		"NAT past the director":   {with(func(r *Row) { r.Mode = lb.NAT }), "past it"},
		"TUN without a tunnel":    {with(func(r *Row) { r.Mode = lb.TUN }), "took 0 packets out of a tunnel"},
		"DR with a tunnel":        {with(func(r *Row) { r.Decaps = 6 }), "took 6 packets"},
	} {
		err := c.row.Problem()
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
}

func TestTableShowsWhatCameBesideWhatShould(t *testing.T) {
	var b strings.Builder
	Print(&b, []Row{
		{Mode: lb.DR, Traffic: "1,000 HTTP requests", Want: []int{166, 333, 501}, Got: []int{166, 333, 501}, Bytes: 32 << 10,
			Saw: []netip.Addr{netip.MustParseAddr(testnet.ClientIP)}, Replies: Replies{42, 600 << 10}},
		{Mode: lb.DR, Traffic: "64 MiB download", Got: []int{0, 0, 1}, Bytes: 64 << 20, Saw: []netip.Addr{LIP}},
	})
	want := `MODE  TRAFFIC              SERVER1     SERVER2     SERVER3     ERRORS  BYTES     SERVERS SAW       REPLIES THROUGH DIRECTOR  PAST IT
DR    1,000 HTTP requests  166 of 166  333 of 333  501 of 501  0       32.0 KiB  192.0.2.10 (CIP)  42 B                      600.0 KiB
      64 MiB download      0           0           1           0       64.0 MiB  10.0.0.201 (LIP)  0 B                       0 B
`
	if table, _, _ := strings.Cut(b.String(), "\n\n"); table+"\n" != want {
		t.Errorf("got\n%s\nwant\n%s", table, want)
	}
}
