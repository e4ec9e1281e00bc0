package main

import (
	"compress/gzip"
	"encoding/json"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"weir/internal/testpkt"
)

// The recording of ipvsadm 1.31 on a real IPVS; package ipvsadm replays it against its Rules, here it goes through the whole of
// weiradm, its socket, and a real Store.
type recordedGroup struct {
	Name     string   `json:"name"`
	Setup    []string `json:"setup"`
	Commands []struct {
		Args   string `json:"args"`
		Exit   int    `json:"exit"`
		Stdout string `json:"stdout"`
		Stderr string `json:"stderr"`
	} `json:"commands"`
}

func readRecording(t *testing.T) []recordedGroup {
	t.Helper()
	f, err := os.Open("../../ipvsadm/testdata/ipvsadm.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		Groups []recordedGroup `json:"groups"`
	}
	if err := json.NewDecoder(z).Decode(&r); err != nil {
		t.Fatal(err)
	}
	return r.Groups
}

// otherwise are the recorded commands that weiradm answers otherwise, each with the reason. Keys are "group: args".
var otherwise = map[string]string{
	"add-service: -A -u 10.9.0.20:5060 -s rr -p --pe nosuch": "persistence engines are refused, whatever their name",
	"empty: -h":                "weir's own help",
	"empty: --help":            "weir's own help",
	"empty: -v":                "weir's own version",
	"empty: --version":         "weir's own version",
	"list-mixed: -Ln --nosort": "the kernel's order is that of a hash with a random key",
	"empty: -V":                "the version: what weir and weirlab take for it, ipvsadm refuses",

	"daemon: --start-daemon master":                                 "no sync daemon",
	"daemon: --start-daemon master --mcast-interface d0":            "no sync daemon",
	"daemon: --start-daemon backup --mcast-interface d1 --syncid 7": "no sync daemon",
	"daemon: --stop-daemon master":                                  "no sync daemon",
	"daemon: --stop-daemon backup":                                  "no sync daemon",
	"daemon: --start-daemon master --mcast-interface nosuch0":       "no sync daemon",
	"daemon: -L --daemon":                                           "no sync daemon",
	"daemon: -Ln --daemon":                                          "no sync daemon",
	"daemon: --start-daemon master --mcast-interface d0 --syncid 255 --sync-maxlen 1000 --mcast-group 224.0.1.99 --mcast-port 9000 --mcast-ttl 4": "no sync daemon",
}

// refused are the commands that weir cannot do: it must say so in one line, exit 255, and change nothing.
func refused(args string) bool {
	for _, what := range []string{"--pe ", " -M 0.0.0.255", " -M 24"} {
		if strings.Contains(args, what) {
			return true
		}
	}
	return false
}

func TestReplay(t *testing.T) {
	unused := maps.Clone(otherwise)
	for _, g := range readRecording(t) {
		t.Run(g.Name, func(t *testing.T) {
			r := newRig(t)
			run := func(args string) (int, string, string) {
				exit, stdout, stderr := r.weiradm(args, "")
				return exit, stdout, withoutDetail(stderr)
			}
			for _, line := range g.Setup {
				if exit, _, stderr := run(line); exit != 0 && !refused(line) {
					t.Fatalf("setup %q: %s", line, stderr)
				}
			}
			gone := map[string]bool{} // addresses of services that weir refused
			if g.Name == "list-mixed" {
				r.traffic()
			}
			for _, c := range g.Commands {
				key := g.Name + ": " + c.Args
				if _, skip := otherwise[key]; skip && !(strings.HasSuffix(c.Args, "--daemon") && c.Stdout == "") {
					delete(unused, key)
					continue
				}
				if c.Args == "-Ln --rate -t 10.9.0.1:80" { // recorded two seconds later
					r.estimate()
				}
				exit, stdout, stderr := run(c.Args)
				if strings.HasPrefix(stdout, "IPVS connection entries") {
					stdout, c.Stdout = sorted(stdout), sorted(c.Stdout)
				}
				if c.Exit == 0 && refused(c.Args) && !strings.HasPrefix(c.Args, "-L") {
					if exit != 255 || stdout != "" || strings.Count(stderr, "\n") != 1 {
						t.Errorf("weiradm %s: exit %d, %q, want a refusal in one line", c.Args, exit, stderr)
					}
					if f := strings.Fields(c.Args); f[0] == "-A" {
						gone[f[2][:strings.LastIndex(f[2], ":")+1]] = true
					}
					continue
				}
				want := without(c.Stdout, gone)
				wantErr := strings.ReplaceAll(c.Stderr, "ipvsadm", "weiradm")
				if exit != c.Exit || stdout != want || stderr != wantErr {
					t.Errorf("weiradm %s\n got exit %d\n%s%s\nwant exit %d\n%s%s", c.Args, exit, stdout, stderr, c.Exit, want, wantErr)
				}
			}
		})
	}
	for key, reason := range unused {
		t.Errorf("%q is excused (%s) but was not recorded so", key, reason)
	}
}

// without takes the services that weir refused out of a listing, or out of saved rules.
func without(listing string, gone map[string]bool) string {
	var b strings.Builder
	skipping := false
	for line := range strings.Lines(listing) {
		if !strings.HasPrefix(line, "  ->") {
			skipping = false
			for addr := range gone {
				skipping = skipping || strings.Contains(line, " "+addr)
			}
		}
		if !skipping {
			b.WriteString(line)
		}
	}
	return b.String()
}

// sorted brings the lines of -Lnc into an order: the kernel's is that of a hash with a random key.
func sorted(listing string) string {
	lines := strings.SplitAfter(listing, "\n")
	if len(lines) > 2 {
		slices.Sort(lines[2:])
	}
	return strings.Join(lines, "")
}

// traffic is what the group list-mixed was recorded with: what its counters and connections say, packet by packet.
func (r *rig) traffic() {
	http := netip.MustParseAddrPort("10.9.0.1:80")
	for i := byte(1); i <= 12; i++ {
		client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, i}), 4999+uint16(i))
		r.client(testpkt.TCP(client, http, testpkt.SYN))
		if i%2 == 0 {
			r.client(testpkt.TCP(client, http, testpkt.ACK))
		}
		if i == 12 {
			r.client(testpkt.TCP(client, http, testpkt.FIN, testpkt.ACK))
		}
	}
	other := netip.MustParseAddr("10.1.3.9")
	r.client(testpkt.TCP(netip.AddrPortFrom(other, 7000), netip.MustParseAddrPort("10.9.0.1:443"), testpkt.SYN))
	r.client(testpkt.TCP(netip.AddrPortFrom(other, 7001), netip.MustParseAddrPort("10.9.0.1:9999"), testpkt.SYN))
	r.client(testpkt.TCP(netip.MustParseAddrPort("[2001:db8:1::5]:7002"), netip.MustParseAddrPort("[2001:db8:9::1]:80"), testpkt.SYN))
	for port := uint16(6000); port < 6003; port++ {
		r.client(testpkt.UDP(netip.AddrPortFrom(other, port), netip.MustParseAddrPort("10.9.0.1:53")).Text("x"))
	}
	r.estimate()
	r.sleep(5)
}

// withoutDetail takes away the lines by which weiradm explains what ipvsadm says.
func withoutDetail(stderr string) string {
	var b strings.Builder
	for line := range strings.Lines(stderr) {
		if !strings.HasPrefix(line, "weiradm: ") {
			b.WriteString(line)
		}
	}
	return b.String()
}
