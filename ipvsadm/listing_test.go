package ipvsadm

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"weir/lb"
)

// Large numbers, as ipvsadm 1.31 printed them when a kernel's answer with these counters was put before it.
func TestListLargeNumbers(t *testing.T) {
	r := build(t, "-A -u 203.0.113.250:53 -s wlc -o -b flag-1,flag-3", "-a -u 203.0.113.250:53 -r 192.168.100.200:65535 -m",
		"-a -u 203.0.113.250:53 -r 192.168.100.201:65534 -i -w 2147483647 -x 1000000000 -y 1")
	l := r.Listing()
	l.Size = 4096
	s := &l.Services[0]
	s.Total = Traffic{4294967295, 100000000, 99999999, 1000000000, 123456789012345}
	s.Rate = Traffic{1, 2, 3, 4294967295, 5}
	s.Servers = []ServerLoad{{Active: 1, Inactive: 2, Persistent: 3, Total: Traffic{7, 99999999999, 100000000000, 99999999999999, 100000000000000},
		Rate: Traffic{100000000, 2000000000, 3, 4294967295, 5}}, {Active: 1234567890}}
	for line, want := range map[string]string{
		"-Ln": `UDP  203.0.113.250:53 wlc (flag-1,flag-3) ops
  -> 192.168.100.200:65535        Masq    1      1          2         
  -> 192.168.100.201:53           Tunnel  2147483647 1234567890 0         
`,
		"-Ln --stats": `UDP  203.0.113.250:53                4294M  100000K 99999999    1000M     123T
  -> 192.168.100.200:65535               7   99999M     100G   99999G     100T
  -> 192.168.100.201:53                  0        0        0        0        0
`,
		"-Ln --stats --exact": `UDP  203.0.113.250:53             4294967295 100000000 99999999 1000000000 123456789012345
  -> 192.168.100.200:65535               7 99999999999 100000000000 99999999999999 100000000000000
  -> 192.168.100.201:53                  0        0        0        0        0
`,
		"-Ln --rate": `UDP  203.0.113.250:53                    1        2        3    4294M        5
  -> 192.168.100.200:65535        100000000 2000000000        3    4294M        5
  -> 192.168.100.201:53                  0        0        0        0        0
`,
		"-Ln --thresholds --persistent-conn": `UDP  203.0.113.250:53 wlc (flag-1,flag-3) ops
  -> 192.168.100.200:65535        0          0          1          2         
  -> 192.168.100.201:53           1000000000 1          1234567890 0         
`,
		"-Ln --persistent-conn --tun-info": `UDP  203.0.113.250:53 wlc (flag-1,flag-3) ops
  -> 192.168.100.200:65535        1         3           1          2         
  -> 192.168.100.201:53           2147483647 0           1234567890 0         
`,
	} {
		if got := listed(t, l, line); !strings.HasSuffix(got, ":Port\n"+want) && !strings.HasSuffix(got, "InActConn\n"+want) {
			t.Errorf("%s\n got\n%s\nwant\n%s", line, got, want)
		}
	}
}

func listed(t *testing.T, l Listing, line string) string {
	t.Helper()
	c, err := parseLine(line, testServices())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := list(&out, l, c, testServices()); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestListWeirsOwn(t *testing.T) {
	l := build(t, "-A -t 203.0.113.250:9999 -s rr", "-a -t 203.0.113.250:9999 -r 192.168.100.200 -F", "-a -t 203.0.113.250:9999 -r 10.0.0.1").Listing()
	l.Services[0].Servers = []ServerLoad{{}, {Local: true, Active: 3}}
	want := `IP Virtual Server version 1.2.1 (size=0)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  203.0.113.250:a-very-long-po rr
  -> 10.0.0.1:a-very-long-port-na Local   1      3          0         
  -> 192.168.100.200:a-very-long- FullNat 1      0          0         
`
	if got := listed(t, l, "-L"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestListConnectionsByName(t *testing.T) {
	var out bytes.Buffer
	conns := []Connection{{Proto: "UDP", State: "UDP", Expires: 3725e9, Client: netip.MustParseAddrPort("[2001:db8::9]:1"),
		Virtual: netip.MustParseAddrPort("192.0.2.1:53"), Server: netip.MustParseAddrPort("10.0.0.1:65535")}}
	if err := listConnections(&out, slices.Values(conns), Options{}, testServices()); err != nil {
		t.Fatal(err)
	}
	want := `IPVS connection entries
pro expire state       source             virtual            destination
UDP 62:05  UDP         [2001:db8::9]:1    192.0.2.1:domain   10.0.0.1:65535
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
}

// The order is total, so that -S is stable, and is that of the numbers.
func TestSortedOrder(t *testing.T) {
	addrs := []string{"10.0.0.1", "10.0.0.2", "2001:db8::1", "127.0.0.1", "192.168.0.1", "fd00::1", "255.0.0.1"}
	for i, a := range addrs {
		for j, b := range addrs {
			if got := compareAddrs(lb.MustParseAddr(a), lb.MustParseAddr(b)); (got < 0) != (i < j) || (got == 0) != (i == j) {
				t.Errorf("%s and %s: %d", a, b, got)
			}
		}
	}
}
