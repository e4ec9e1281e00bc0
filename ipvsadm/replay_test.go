package ipvsadm

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// The recording: what ipvsadm 1.31 answered, command by command, on a Linux 6.1 with IPVS.
type (
	recording struct {
		Groups []recordedGroup `json:"groups"`
	}
	recordedGroup struct {
		Name     string            `json:"name"`
		Setup    []string          `json:"setup"`
		Commands []recordedCommand `json:"commands"`
	}
	recordedCommand struct {
		Args   string `json:"args"`
		Stdin  string `json:"stdin"`
		Exit   int    `json:"exit"`
		Stdout string `json:"stdout"`
		Stderr string `json:"stderr"`
	}
)

func readRecording(t testing.TB) (r recording) {
	t.Helper()
	f, err := os.Open("testdata/ipvsadm.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(z).Decode(&r); err != nil {
		t.Fatal(err)
	}
	return r
}

// testServices are the port names of the recording's machine, so that tests do not depend on /etc/services.
var testServices = sync.OnceValue(func() *serviceNames {
	f, err := os.Open("testdata/services")
	if err != nil {
		panic(err)
	}
	defer f.Close()
	return readServices(f)
})

// notOurs are the recorded commands whose answer weir does not give, each with the reason. Keys are "group: args"; all
// occurrences of a command in a group are meant, but for those of -L --daemon that print nothing, which are compared.
var notOurs = map[string]string{
	"empty: -h":        "usage: weir prints its own, with -F and without what it cannot do",
	"empty: --help":    "usage",
	"empty: -v":        "version: weir prints its own",
	"empty: --version": "version",

	"daemon: --start-daemon master":                                 "sync daemon: refused when applied, see Unsupported",
	"daemon: --start-daemon master --mcast-interface d0":            "sync daemon",
	"daemon: --start-daemon backup --mcast-interface d1 --syncid 7": "sync daemon",
	"daemon: --stop-daemon master":                                  "sync daemon",
	"daemon: --stop-daemon backup":                                  "sync daemon",
	"daemon: --start-daemon master --mcast-interface nosuch0":       "sync daemon",
	"daemon: -L --daemon":                                           "sync daemon: none ever runs",
	"daemon: -Ln --daemon":                                          "sync daemon: none ever runs",
	"daemon: --start-daemon master --mcast-interface d0 --syncid 255 --sync-maxlen 1000 --mcast-group 224.0.1.99 --mcast-port 9000 --mcast-ttl 4": "sync daemon",
}

func TestReplay(t *testing.T) {
	unused := maps.Clone(notOurs)
	for _, g := range readRecording(t).Groups {
		t.Run(g.Name, func(t *testing.T) {
			d := director{group: g.Name}
			for _, line := range g.Setup {
				if exit, _, stderr := d.run(recordedCommand{Args: line}); exit != 0 {
					t.Fatalf("setup %q: %s", line, stderr)
				}
			}
			for _, c := range g.Commands {
				key := g.Name + ": " + c.Args
				if _, skip := notOurs[key]; skip && !(strings.HasSuffix(c.Args, "--daemon") && c.Stdout == "") {
					delete(unused, key)
					continue
				}
				exit, stdout, stderr := d.run(c)
				if exit != c.Exit || stdout != c.Stdout || stderr != c.Stderr {
					t.Errorf("ipvsadm %s\n got exit %d\n%s%s\nwant exit %d\n%s%s", c.Args, exit, stdout, stderr, c.Exit, c.Stdout, c.Stderr)
				}
			}
		})
	}
	for key, reason := range unused {
		t.Errorf("%q is excused (%s) but was not recorded so", key, reason)
	}
}

// director does what the operator's command will do with this package: one command line, against rules of its own.
type director struct {
	group string
	rules Rules
}

func (d *director) run(r recordedCommand) (exit int, stdout, stderr string) {
	args := strings.Fields(r.Args)
	c, err := Command{Op: OpList}, error(nil)
	if len(args) > 0 {
		c, err = parse(args, 1, testServices())
	}
	var out bytes.Buffer
	if err == nil {
		err = d.do(c, r, &out)
	}
	if e := (*Error)(nil); errors.As(err, &e) {
		return e.Status, out.String(), e.Text + "\n"
	} else if err != nil {
		return -1, out.String(), err.Error()
	}
	return 0, out.String(), ""
}

func (d *director) do(c Command, r recordedCommand, out *bytes.Buffer) error {
	switch c.Op {
	case OpList:
		if c.Options.Connections {
			return listConnections(out, slices.Values(recordedConnections(r.Stdout)), c.Options, testServices())
		}
		l := d.rules.Listing()
		l.Size = 4096
		if d.group == "list-mixed" {
			giveTraffic(&l, r.Args)
		}
		return list(out, l, c, testServices())
	case OpSave:
		return save(out, d.rules.Listing(), c.Options.Numeric, testServices())
	case OpRestore:
		for line := range strings.Lines(r.Stdin) {
			c, err := parseLine(line, testServices())
			if err == nil {
				err = d.rules.apply(c)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	return d.rules.apply(c)
}

// giveTraffic fills in what the traffic of the group list-mixed had left in the kernel's counters when a command was run.
func giveTraffic(l *Listing, args string) {
	type numbers struct {
		active, inactive, persistent uint32
		conns, packets, bytes        uint64
		cps, pps, bps                uint64
	}
	table := map[string]numbers{
		"TCP 10.9.0.1:80":        {conns: 12, packets: 19, bytes: 760, cps: 1, pps: 2, bps: 95},
		"10.20.0.1:80":           {5, 1, 0, 6, 10, 400, 1, 1, 50},
		"10.20.0.2:80":           {4, 0, 0, 4, 6, 240, 0, 1, 30},
		"10.20.0.3:80":           {2, 0, 0, 2, 3, 120, 0, 0, 15},
		"TCP 10.9.0.1:443":       {conns: 1, packets: 1, bytes: 40, bps: 5},
		"10.20.0.7:443":          {1, 0, 1, 1, 1, 40, 0, 0, 5},
		"UDP 10.9.0.1:53":        {conns: 3, packets: 3, bytes: 87, bps: 11},
		"10.20.0.9:53":           {0, 0, 0, 3, 3, 87, 0, 0, 11},
		"TCP [2001:db8:9::1]:80": {conns: 1, packets: 1, bytes: 60, bps: 7},
		"[2001:db8:20::1]:80":    {1, 0, 0, 1, 1, 60, 0, 0, 7},
		"FWM 7":                  {conns: 1, packets: 1, bytes: 40, bps: 5},
		"10.20.0.8:0":            {1, 0, 0, 1, 1, 40, 0, 0, 5},
		"SCTP 10.9.0.1:99":       {},
		"10.20.0.4:99":           {},
		"FWM 8":                  {},
		"[2001:db8:20::8]:0":     {},
	}
	if args == "-Ln --rate -t 10.9.0.1:80" { // two seconds later: the estimator has moved on
		for name, bps := range map[string]uint64{"TCP 10.9.0.1:80": 71, "10.20.0.1:80": 37, "10.20.0.2:80": 22, "10.20.0.3:80": 11} {
			n := table[name]
			n.bps = bps
			table[name] = n
		}
	}
	traffic := func(n numbers) (total, rate Traffic) {
		return Traffic{Conns: n.conns, InPackets: n.packets, InBytes: n.bytes}, Traffic{Conns: n.cps, InPackets: n.pps, InBytes: n.bps}
	}
	for i := range l.Services {
		s := &l.Services[i]
		s.Total, s.Rate = traffic(table[s.Service.Key.String()])
		for _, srv := range s.Service.Servers {
			n := table[addrPort(srv.Addr, srv.Port)]
			load := ServerLoad{Active: n.active, Inactive: n.inactive, Persistent: n.persistent}
			load.Total, load.Rate = traffic(n)
			s.Servers = append(s.Servers, load)
		}
	}
	if args == "-Ln --nosort" { // the order of the kernel's hash, which has a random key: only given, not reproduced
		order := []string{"SCTP 10.9.0.1:99", "TCP [2001:db8:9::1]:80", "TCP 10.9.0.1:443", "TCP 10.9.0.1:80", "UDP 10.9.0.1:53", "FWM 7", "FWM 8"}
		slices.SortFunc(l.Services, func(a, b ListedService) int {
			return slices.Index(order, a.Service.Key.String()) - slices.Index(order, b.Service.Key.String())
		})
	}
}

// recordedConnections reads the entries out of a recorded listing (their order is that of a random hash, their timers those of
// the moment): what is held to the recording is how they are printed.
func recordedConnections(stdout string) (conns []Connection) {
	for _, line := range strings.Split(stdout, "\n") {
		f := strings.Fields(line)
		if len(f) != 6 || !strings.Contains(f[1], ":") {
			continue
		}
		minutes, _ := strconv.Atoi(f[1][:2])
		seconds, _ := strconv.Atoi(f[1][3:])
		conns = append(conns, Connection{Proto: f[0], State: f[2], Expires: time.Duration(60*minutes+seconds)*time.Second + 999*time.Millisecond,
			Client: netip.MustParseAddrPort(f[3]), Virtual: netip.MustParseAddrPort(f[4]), Server: netip.MustParseAddrPort(f[5])})
	}
	return conns
}

// What -S printed, read back, prints the same again, and so does what it reads.
func TestSaveIsAFixedPoint(t *testing.T) {
	for _, g := range readRecording(t).Groups {
		for _, c := range g.Commands {
			if strings.HasPrefix(c.Args, "-S") && c.Exit == 0 {
				var r Rules
				for line := range strings.Lines(c.Stdout) {
					cmd, err := parseLine(line, testServices())
					if err != nil {
						t.Fatalf("%s: %s: %v", g.Name, line, err)
					}
					if err := r.apply(cmd); err != nil {
						t.Fatalf("%s: %s: %v", g.Name, line, err)
					}
				}
				var out bytes.Buffer
				if err := save(&out, r.Listing(), c.Args == "-Sn", testServices()); err != nil || out.String() != c.Stdout {
					t.Errorf("%s: %s read back:\n%s\nwant\n%s (%v)", g.Name, c.Args, &out, c.Stdout, err)
				}
			}
		}
	}
}
