package ipvsadm

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"weir/lb"
)

func tcp(addr string, port uint16) lb.ServiceKey {
	return lb.ServiceKey{Addr: lb.MustParseAddr(addr), Port: port, Proto: lb.TCP}
}

func server(addr string, port uint16, mode lb.Mode, weight int32) lb.Server {
	return lb.Server{Addr: lb.MustParseAddr(addr), Port: port, Mode: mode, Weight: weight}
}

func TestParseLine(t *testing.T) {
	web := tcp("192.0.2.10", 80)
	webOf := Service{Service: lb.Service{Key: web}}
	add := func(s lb.Service) Command {
		return Command{Op: OpAddService, HasService: true, Service: Service{Service: s}}
	}
	with := func(op Op, s lb.Server) Command { return Command{Op: op, HasService: true, Service: webOf, Server: s} }
	for _, row := range []struct {
		name, line string
		want       Command
	}{
		{"a service with its scheduler", "-A -t 192.0.2.10:80 -s wrr", add(lb.Service{Key: web, Scheduler: "wrr"})},
		{"without a scheduler it is wlc", "-A -t 192.0.2.10:80", add(lb.Service{Key: web, Scheduler: "wlc"})},
		{"as a script has it", "ipvsadm\t-A  -t 192.0.2.10:80\r\n", add(lb.Service{Key: web, Scheduler: "wlc"})},
		{"long options with equals signs", "--add-service --tcp-service=192.0.2.10:80 --scheduler=rr", add(lb.Service{Key: web, Scheduler: "rr"})},
		{"joined short options", "-At192.0.2.10:80 -s=rr -p60", add(lb.Service{Key: web, Scheduler: "rr", Persist: time.Minute})},
		{"a port by its name", "-A -t 192.0.2.10:http", add(lb.Service{Key: web, Scheduler: "wlc"})},
		{"a port by its alias", "-A -t 192.0.2.10:www", add(lb.Service{Key: web, Scheduler: "wlc"})},
		{"-p alone is 360 s", "-A -t 192.0.2.10:80 -p -s rr", add(lb.Service{Key: web, Scheduler: "rr", Persist: 360 * time.Second})},
		{"a netmask becomes a length", "-A -t 192.0.2.10:80 -p 5 -M 255.255.0.0", add(lb.Service{Key: web, Scheduler: "wlc", Persist: 5 * time.Second, PersistLen: 16})},
		{"the whole address is no length", "-A -t 192.0.2.10:80 -p 5 -M 255.255.255.255", add(lb.Service{Key: web, Scheduler: "wlc", Persist: 5 * time.Second})},
		{"-M without -p has no effect", "-A -t 192.0.2.10:80 -M 255.255.0.0", add(lb.Service{Key: web, Scheduler: "wlc"})},
		{"IPv6 takes a length", "-A -t [2001:db8::1]:443 -p 5 -M 64", add(lb.Service{Key: tcp("2001:db8::1", 443), Scheduler: "wlc", Persist: 5 * time.Second, PersistLen: 64})},
		{"scheduler flags are sorted", "-A -b sh-port,,flag-1 -t 192.0.2.10:80 -s sh", add(lb.Service{Key: web, Scheduler: "sh", SchedFlags: []string{"sh-fallback", "sh-port"}})},
		{"an IPv6 mark", "-A -f 7 -6 -s rr", add(lb.Service{Key: lb.ServiceKey{Mark: 7, Is6: true}, Scheduler: "rr"})},
		{"a mark as -S prints those from 2^31 on", "-A -f -1 -s rr", add(lb.Service{Key: lb.ServiceKey{Mark: 0xffffffff}, Scheduler: "rr"})},

		{"DR is the default and keeps the port", "-a -t 192.0.2.10:80 -r 10.0.0.2:8080", with(OpAddServer, server("10.0.0.2", 80, lb.DR, 1))},
		{"TUN keeps the port", "-a -t 192.0.2.10:80 -r 10.0.0.2:8080 -i", with(OpAddServer, server("10.0.0.2", 80, lb.TUN, 1))},
		{"NAT maps it", "-a -t 192.0.2.10:80 -r 10.0.0.2:8080 -m -w 3", with(OpAddServer, server("10.0.0.2", 8080, lb.NAT, 3))},
		{"FULLNAT maps it", "-a -t 192.0.2.10:80 -r 10.0.0.2:8080 -F", with(OpAddServer, server("10.0.0.2", 8080, lb.FULLNAT, 1))},
		{"FULLNAT in full", "-e -t 192.0.2.10:80 -r 10.0.0.2 --fullnat", with(OpEditServer, server("10.0.0.2", 80, lb.FULLNAT, 1))},
		{"a server to delete has the port that was said", "-d -t 192.0.2.10:80 -r 10.0.0.2:8080",
			with(OpDeleteServer, lb.Server{Addr: lb.MustParseAddr("10.0.0.2"), Port: 8080})},
		{"thresholds", "-a -t 192.0.2.10:80 -r 10.0.0.2 -x 10 -y 5", with(OpAddServer,
			lb.Server{Addr: lb.MustParseAddr("10.0.0.2"), Port: 80, Mode: lb.DR, Weight: 1, Upper: 10, Lower: 5})},
		{"a server before its service does not know the port", "-a -r 10.0.0.2 -t 192.0.2.10:80 -m", with(OpAddServer, server("10.0.0.2", 0, lb.NAT, 1))},

		{"timeouts", "--set 1 0 +3", Command{Op: OpSetTimeouts, Timeouts: Timeouts{TCP: 1, UDP: 3}}},
		{"flush", "-C", Command{Op: OpFlush}},
		{"list", "-Lnc", Command{Op: OpList, Options: Options{Numeric: true, Connections: true}}},
		{"list in full", "-LX --rate -t 192.0.2.10:80", Command{Op: OpList, HasService: true, Service: webOf, Options: Options{Exact: true, Rate: true}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := parseLine(row.line, testServices())
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, row.want) {
				t.Errorf("%s\n got %+v\nwant %+v", row.line, got, row.want)
			}
		})
	}
}

// A message names the option, its value and what is allowed, in one line.
func TestParseErrors(t *testing.T) {
	for _, row := range []struct {
		name, line string
		status     int
		want       []string
	}{
		{"a host name", "-A -t www.example.com:80", 2, []string{"-t", `"www.example.com:80"`, "numeric address", "not looked up"}},
		{"a server's host name", "-a -t 192.0.2.1:80 -r web1", 2, []string{"-r", `"web1"`, "192.0.2.1:80"}},
		{"IPv4 in brackets", "-A -t [192.0.2.1]:80", 2, []string{"-t", "ADDRESS"}},
		{"IPv6 in brackets without a port", "-A -t [2001:db8::1] -p", 2, []string{"-t", "[2001:db8::1]:80"}},
		{"IPv4-mapped IPv6", "-A -t [::ffff:192.0.2.1]:80", 2, []string{"IPv4", "192.0.2.1"}},
		{"a zone", "-A -t [fe80::1%eth0]:80", 2, []string{"-t"}},
		{"the unspecified IPv6 address", "-A -t [::]:80", 2, []string{"other than ::"}},
		{"an unknown port name", "-A -u 192.0.2.1:http", 2, []string{`"http"`, "0 to 65535", "UDP", "/etc/services"}},
		{"a port too large", "-A -u 192.0.2.1:65536", 2, []string{`"65536"`, "0 to 65535"}},
		{"a weight that is none", "-a -t 192.0.2.1:80 -r 10.0.0.1 -w many", 2, []string{"-w", `"many"`, "0 to 2147483647"}},
		{"a tunnel port of 0", "-a -t 192.0.2.1:80 -r 10.0.0.1 -i --tun-type gue --tun-port 0", 2, []string{"--tun-port", `"0"`, "1 to 65535"}},
		{"an unknown tunnel", "-a -t 192.0.2.1:80 -r 10.0.0.1 -i --tun-type vxlan", 2, []string{"--tun-type", `"vxlan"`, "ipip, gue or gre"}},
		{"a tunnel without its port", "-a -t 192.0.2.1:80 -r 10.0.0.1 -i --tun-type gue", 2, []string{"gue", "needs --tun-port"}},
		{"a scheduler's flag that it has not", "-A -t 192.0.2.1:80 -s rr -b sh-port", 2, []string{"-b", `"sh-port"`, `"rr"`, "flag-1"}},
		{"every port without -p", "-A -t 192.0.2.1", 2, []string{"TCP 192.0.2.1:0", "needs -p"}},
		{"-o for TCP", "-A -t 192.0.2.1:80 -o", 2, []string{"-o", "UDP"}},
		{"an option of another command", "-A -t 192.0.2.1:80 -w 3", 2, []string{"-w", "-A", "-s -p"}},
		{"two forwarding methods", "-a -t 192.0.2.1:80 -r 10.0.0.1 -m -F", 2, []string{"-F", "once"}},
		{"nothing to add", "-A", 2, []string{"-A", "-t|-u|-f"}},
		{"an option that is none", "-A -t 192.0.2.1:80 --weigth 3", 255, []string{`"--weigth"`, "unknown"}},
		{"an abbreviation", "-A -t 192.0.2.1:80 --sched rr", 255, []string{`"--sched"`, "unknown"}},
		{"no command", "-t 192.0.2.1:80", 255, []string{"-A -E -D"}},
		{"two commands", "-A -D -t 192.0.2.1:80", 2, []string{"-D", "already"}},
		{"an empty line", " ipvsadm ", 255, []string{"empty"}},
		{"a comment is for the reader of files", "-C # all", 2, []string{`"#"`}},
		{"a negative timeout", "--set -1 0 0", 255, []string{`"-1"`}},
		{"two timeouts", "--set 1 2", 2, []string{"three", "got 2"}},
		{"a timeout of 32 days", "--set 1 2 2764800", 2, []string{`"2764800"`, "2678400"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := parseLine(row.line, testServices())
			e := (*Error)(nil)
			if !errors.As(err, &e) {
				t.Fatalf("%s: got %v", row.line, err)
			}
			if e.Status != row.status || e.Text == "" {
				t.Errorf("status %d, text %q; want status %d", e.Status, e.Text, row.status)
			}
			for _, part := range row.want {
				if !strings.Contains(e.Error(), part) {
					t.Errorf("%s\n%s\nlacks %q", row.line, e, part)
				}
			}
			if strings.ContainsAny(e.Error(), "\n\r") {
				t.Errorf("more than one line: %q", e)
			}
		})
	}
}

// Facts from ipvsadm 1.31 itself, run on a kernel that says yes to everything: what it says first when several things are wrong.
func TestParseOrderOfChecks(t *testing.T) {
	for line, want := range map[string]string{
		"-A -b nosuch extra":            "unexpected argument extra",
		"-A -b nosuch":                  "invalid scheduler flag `nosuch'",
		"-A -b sh-port -t 192.0.2.1:80": "incompatible scheduler flag `sh-port'",
		"-At":                           "-At: missing argument",
		"-L -nQ":                        "-nQ: unknown option",
		"-L --stats=4":                  "--stats=4: option does not take an argument",
		"-Ln=3":                         "-Ln=3: option does not take an argument",
		"-L -- -x":                      "unexpected argument -x",
		"-L -":                          "unexpected argument -",
		"-A -t==192.0.2.1:80":           "illegal virtual server address[:port] specified",
		"-L --start-daemon x":           "invalid option `x'",
		"-ACt 192.0.2.1:80":             "invalid option `-ACt'",
		"-S --nosort":                   "Illegal 'nosort' option with the 'save' command",
		"-L --rate --daemon":            "options conflicts in the list command",
		"-L -c --daemon":                "The option 'daemon' conflicts with the 'connection' option in the 'list' command",
		"-a -t 1.1.1.1:1 -r 1.1.1.1 -i --tun-csum":        "Illegal 'tun-csum' option with the 'ipip' tunnel type",
		"-a -t 1.1.1.1:1 -r 1.1.1.1 -m --tun-type zz":     "illegal tunnel type specified",
		"-A --sctp-service 192.0.2.1:80 -o":               "One-Packet Scheduling is only for UDP virtual services",
		"-A -t 1.2.3.08:80":                               "illegal virtual server address[:port] specified",
		"--start-daemon master --sync-maxlen 65535":       "illegal sync-maxlen specified",
		"--start-daemon master --mcast-group 2001:db8::1": "invalid IPv6 mcast-group `2001:db8::1'",
	} {
		_, err := parseLine(line, testServices())
		if e := (*Error)(nil); !errors.As(err, &e) || e.Text != want {
			t.Errorf("%s: got %#v, want %q", line, err, want)
		}
	}
	const gue = "-a -t 1.1.1.1:1 -r 1.1.1.1 -i --tun-type gue --tun-port 1 --tun-csum --tun-nocsum"
	if _, err := parseLine(gue, nil); err == nil || !strings.Contains(err.Error(), "one of --tun-nocsum --tun-csum --tun-remcsum") {
		t.Errorf("%s: got %v", gue, err)
	}
}

// Numbers of an address as inet_aton(3) has them; ipvsadm 1.31 was seen to take each for the address beside it.
func TestParseIPv4(t *testing.T) {
	for s, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "10.1": "10.0.0.1", "0x0a.1": "10.0.0.1", "010.0.0.1": "8.0.0.1", "1.16777215": "1.255.255.255", "24": "0.0.0.24",
	} {
		if v, ok := parseIPv4(s); !ok || lb.AddrFrom4(v).String() != want {
			t.Errorf("%s: got %v %v, want %s", s, lb.AddrFrom4(v), ok, want)
		}
	}
	for _, s := range []string{"", ".", "1.2.3.", "1.2.3.4.5", "256.1", "1.16777216", "4294967296", "1.2.3.08", "0xg.1", "0x", "+1.2", "1_0.1", "1.2.3.4 "} {
		if v, ok := parseIPv4(s); ok {
			t.Errorf("%q: got %v", s, lb.AddrFrom4(v))
		}
	}
}

func TestUnsupported(t *testing.T) {
	for line, want := range map[string]string{
		"-A --sctp-service 192.0.2.1:80":             "",
		"-A -u 192.0.2.1:5060 -p --pe sip":           `--pe "sip"`,
		"-A -t 192.0.2.1:80 -p -M 24":                "-M 0.0.0.24",
		"-A -t 192.0.2.1:80 -p -M 0.0.0.0":           "-M 0.0.0.0",
		"--start-daemon master --mcast-interface d0": "sync daemon",
		"--stop-daemon backup":                       "sync daemon",
		"-A -t 192.0.2.1:80 -p -M 255.255.255.0":     "",
		"-A -t [2001:db8::1]:80 -p -M 1":             "",
		"-A -t 192.0.2.1:80 -M 0.0.0.255":            "", // without -p it means nothing
	} {
		c, err := parseLine(line, testServices())
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		c.Source = "rules:3"
		err = c.Unsupported()
		if (want == "") != (err == nil) || err != nil && !(strings.Contains(err.Error(), want) && strings.HasPrefix(err.Error(), "rules:3: -")) {
			t.Errorf("%s: got %v, want %q", line, err, want)
		}
		var r Rules
		if want != "" && !reflect.DeepEqual(r.Apply(c), err) {
			t.Errorf("%s: Apply said %v, Unsupported %v", line, r.Apply(c), err)
		}
	}
}

func TestParseWithoutWordsLists(t *testing.T) {
	if c, err := Parse(nil); err != nil || c.Op != OpList {
		t.Errorf("got %v, %v", c, err)
	}
}
