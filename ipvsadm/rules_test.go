package ipvsadm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"weir/lb"
)

// build applies lines, each of which must be good.
func build(t testing.TB, lines ...string) *Rules {
	t.Helper()
	r := &Rules{}
	for _, line := range lines {
		apply(t, r, line)
	}
	return r
}

func apply(t testing.TB, r *Rules, line string) {
	t.Helper()
	c, err := parseLine(line, testServices())
	if err == nil {
		err = r.Apply(c)
	}
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
}

func text(t testing.TB, r *Rules) string {
	t.Helper()
	var out bytes.Buffer
	n, err := r.WriteTo(&out)
	if err != nil || n != int64(out.Len()) {
		t.Fatalf("WriteTo: %d of %d bytes, %v", n, out.Len(), err)
	}
	return out.String()
}

var sample = []string{
	"--set 600 0 200",
	"-A -t 192.0.2.10:80 -s sh -p 60 -M 255.255.255.0 -b sh-port",
	"-a -t 192.0.2.10:80 -r 10.0.0.9:8080 -F -w 7 -x 100 -y 50",
	"-a -t 192.0.2.10:80 -r 10.0.0.1:80 -g -w 0 -x 5",
	"-A -u [2001:db8::1]:53 -s rr -o",
	"-a -u [2001:db8::1]:53 -r [2001:db8::2]:53 -i -w 1 --tun-type gue --tun-port 6080 --tun-remcsum",
	"-A -f 4294967295 -6 -s wlc",
	"-A -t 192.0.2.9:443 -s wlc",
}

func TestWriteToLosesNothing(t *testing.T) {
	r := build(t, sample...)
	if got, want := text(t, r), strings.Join(sample, "\n")+"\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	cmds, problems := ParseFile("saved", strings.NewReader(text(t, r)))
	if len(problems) != 0 {
		t.Fatal(problems)
	}
	var again Rules
	for _, c := range cmds {
		if err := again.Apply(c); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(again.Services(), r.Services()) || again.Timeouts() != (Timeouts{600, 120, 200}) {
		t.Errorf("read back: %+v\n%v", again.Services(), again.Timeouts())
	}
}

func TestServicesKeepTheOrderTheyWereAddedIn(t *testing.T) {
	r := build(t, sample...)
	apply(t, r, "-d -t 192.0.2.10:80 -r 10.0.0.9:8080")
	apply(t, r, "-a -t 192.0.2.10:80 -r 10.0.0.9:8080 -F")
	got := r.Services()
	if len(got) != 4 || r.Len() != 4 {
		t.Fatalf("%d services", len(got))
	}
	want := lb.Service{Key: tcp("192.0.2.10", 80), Scheduler: "sh", SchedFlags: []string{"sh-port"}, Persist: time.Minute, PersistLen: 24,
		Servers: []lb.Server{
			{Addr: lb.MustParseAddr("10.0.0.1"), Port: 80, Mode: lb.DR, Upper: 5},
			server("10.0.0.9", 8080, lb.FULLNAT, 1), // removed and back: at the end, with nothing of what it had
		}}
	if !reflect.DeepEqual(got[0], want) {
		t.Errorf("got  %+v\nwant %+v", got[0], want)
	}
}

func TestSaveIsIpvsadmsWithFullnat(t *testing.T) {
	var out bytes.Buffer
	if err := save(&out, build(t, sample...).Listing(), true, nil); err != nil {
		t.Fatal(err)
	}
	want := `-A -f -1 -6 -s wlc
-A -t 192.0.2.9:443 -s wlc
-A -t 192.0.2.10:80 -s sh -p 60 -M 255.255.255.0 -b sh-port
-a -t 192.0.2.10:80 -r 10.0.0.1:80 -g -w 0
-a -t 192.0.2.10:80 -r 10.0.0.9:8080 -F -w 7
-A -u [2001:db8::1]:53 -s rr -o
-a -u [2001:db8::1]:53 -r [2001:db8::2]:53 -i -w 1 --tun-type gue --tun-port 6080 --tun-remcsum
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
}

// -e says all there is to say about a server: what it does not say goes back to the default.
func TestEditReplacesAll(t *testing.T) {
	r := build(t, "-A -t 192.0.2.10:80 -s sh -p 60 -b sh-port", "-a -t 192.0.2.10:80 -r 10.0.0.1:80 -m -w 5 -x 9 -y 3")
	apply(t, r, "-e -t 192.0.2.10:80 -r 10.0.0.1")
	apply(t, r, "-E -t 192.0.2.10:80")
	if got, want := text(t, r), "-A -t 192.0.2.10:80 -s wlc\n-a -t 192.0.2.10:80 -r 10.0.0.1:80 -g -w 1\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// What is refused changes nothing, and the line says why.
func TestApplyRefuses(t *testing.T) {
	r := build(t, "-A -t 192.0.2.10:80", "-a -t 192.0.2.10:80 -r 10.0.0.1:8080 -m")
	before := text(t, r)
	for line, want := range map[string]string{
		"-A -t 192.0.2.10:80":                               "-A TCP 192.0.2.10:80: Service already exists",
		"-A -t 192.0.2.11:80 -s wlcc":                       `"wlcc"`,
		"-E -t 192.0.2.11:80":                               "No such service",
		"-E -t 192.0.2.10:80 -s nosuch":                     "one of [rr wrr",
		"-D -u 192.0.2.10:80":                               "No such service",
		"-Z -t 192.0.2.10:81":                               "No such service",
		"-a -t 192.0.2.10:81 -r 10.0.0.1":                   "Service not defined",
		"-a -t 192.0.2.10:80 -r 10.0.0.1:8080 -F":           "exists already",
		"-a -t 192.0.2.10:80 -r 10.0.0.2 -y 1":              "-y 1",
		"-a -t 192.0.2.10:80 -r 224.0.0.1":                  "unicast",
		"-a -t 192.0.2.10:80 -r 255.255.255.255":            "unicast",
		"-a -t 192.0.2.10:80 -r 0.0.0.0":                    "unicast",
		"-a -t 192.0.2.10:80 -r [fe80::1]:80 -i":            "unicast",
		"-a -t 192.0.2.10:80 -r [ff02::1]:80 -i":            "unicast",
		"-e -t 192.0.2.10:80 -r 10.0.0.1:8080":              "no such server", // DR: its port is 80
		"-d -t 192.0.2.10:80 -r 10.0.0.1":                   "no such server",
		"-e -t 192.0.2.10:80 -r 10.0.0.1:8080 -m -x 1 -y 2": "-y 2",
		"-L": "-L is no rule",
		"-R": "-R is no rule",
	} {
		c, err := parseLine(line, testServices())
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		c.Source = "rules:7"
		err = r.Apply(c)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "rules:7: -") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want %q", line, err, want)
		}
	}
	if got := text(t, r); got != before {
		t.Errorf("changed to\n%s", got)
	}
	for _, line := range []string{"-a -t 192.0.2.10:80 -r 169.254.1.1", "-a -t 192.0.2.10:80 -r 127.0.0.1", "-a -t 192.0.2.10:80 -r 240.0.0.1", "-Z", "-Z -t 192.0.2.10:80"} {
		apply(t, r, line)
	}
}

// A clone and its original, and what Services returned, do not see each other's changes.
func TestClonesAreIndependent(t *testing.T) {
	edits := []string{
		"-E -t 192.0.2.10:80 -s rr", "-D -u [2001:db8::1]:53", "-a -t 192.0.2.10:80 -r 10.0.0.2", "-d -t 192.0.2.10:80 -r 10.0.0.9:8080",
		"-e -t 192.0.2.10:80 -r 10.0.0.1 -w 9", "-A -t 192.0.2.11:80", "--set 1 2 3", "-C",
	}
	for _, edit := range edits {
		for _, onClone := range []bool{true, false} {
			a := build(t, sample...)
			before, services := text(t, a), a.Services()
			b := a.Clone()
			changed, kept := a, b
			if onClone {
				changed, kept = b, a
			}
			apply(t, changed, edit)
			if text(t, kept) != before || text(t, changed) == before {
				t.Errorf("%s (on the clone: %v): kept\n%schanged\n%s", edit, onClone, text(t, kept), text(t, changed))
			}
			if !reflect.DeepEqual(services, build(t, sample...).Services()) {
				t.Errorf("%s changed what Services had returned", edit)
			}
			apply(t, kept, "-A -t 203.0.113.1:80")
			apply(t, changed, "-A -t 203.0.113.1:80")
		}
	}
}

func TestCloneIsCheap(t *testing.T) {
	r := build(t)
	for i := range 1000 {
		apply(t, r, fmt.Sprintf("-A -t 10.1.%d.%d:80", i/250, i%250))
		apply(t, r, fmt.Sprintf("-a -t 10.1.%d.%d:80 -r 10.2.0.1", i/250, i%250))
	}
	if n := testing.AllocsPerRun(10, func() { r.Clone() }); n > 50 {
		t.Errorf("%v allocations for 1,000 services", n)
	}
}

// Whatever a change did, Rollback leaves the rules as they were and Commit as they would be without Begin; and who has a clone of before does not notice.
func TestRollbackLeavesWhatWas(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	command := func() string {
		service := fmt.Sprintf("-t 192.0.2.%d:80", 1+r.IntN(6))
		server := fmt.Sprintf(" -r 10.0.0.%d", 1+r.IntN(3))
		switch r.IntN(16) {
		case 0, 1, 2, 3:
			return "-A " + service
		case 4, 5, 6:
			return "-a " + service + server
		case 7, 8:
			return fmt.Sprintf("-e %s%s -w %d", service, server, r.IntN(9))
		case 9:
			return "-d " + service + server
		case 10:
			return "-E " + service + " -s rr"
		case 11, 12, 13:
			return "-D " + service
		case 14:
			return fmt.Sprintf("--set %d %d %d", 1+r.IntN(9), 1+r.IntN(9), 1+r.IntN(9))
		}
		return "-C"
	}
	var rules, model Rules // model: the same commands one by one, and copies of it instead of Begin
	done := 0
	for range 3000 {
		clone, before := rules.Clone(), text(t, &model)
		next := new(Rules)
		for _, s := range model.Services() {
			s.Servers = slices.Clone(s.Servers)
			next.add(Service{Service: s})
		}
		next.set = model.set
		rules.Begin()
		for range 1 + r.IntN(8) {
			c, err := ParseLine(command())
			if err != nil {
				t.Fatal(err)
			}
			got, want := rules.Apply(c), next.Apply(c)
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%s: %v, want %v", c, got, want)
			}
			if got == nil {
				done++
			}
		}
		if r.IntN(2) == 0 {
			rules.Rollback()
		} else {
			rules.Commit()
			model = *next
			if len(rules.list) > 2*rules.Len() {
				t.Fatalf("a list of %d for %d services", len(rules.list), rules.Len())
			}
		}
		if got, want := text(t, &rules), text(t, &model); got != want {
			t.Fatalf("the rules are\n%swant\n%s", got, want)
		}
		if got := text(t, clone); got != before {
			t.Fatalf("a clone became\n%swas\n%s", got, before)
		}
		if rules.Len() != model.Len() || len(rules.Services()) != model.Len() {
			t.Fatalf("%d services, want %d", rules.Len(), model.Len())
		}
	}
	if done < 3000 {
		t.Errorf("only %d commands were done", done)
	}
}

// A change of one service costs the same among many.
func TestChangeAmongManyIsCheap(t *testing.T) {
	r := build(t)
	for i := range 1000 {
		apply(t, r, fmt.Sprintf("-A -t 10.1.%d.%d:80", i/250, i%250))
	}
	n := testing.AllocsPerRun(10, func() {
		r.Begin()
		apply(t, r, "-E -t 10.1.1.1:80 -s rr")
		apply(t, r, "-D -t 10.1.1.1:80")
		r.Rollback()
	})
	if n > 100 {
		t.Errorf("%v allocations", n)
	}
}

func TestParseFile(t *testing.T) {
	rules, problems := ParseFile("rules", strings.NewReader(strings.Join([]string{
		"# weir's rules",                      // 1
		"",                                    // 2
		"   \t",                               // 3
		"-A -t 192.0.2.10:80 -s rr # the web", // 4
		"ipvsadm -a -t 192.0.2.10:80 -r 10.0.0.1 -m", // 5
		"-A -t nowhere:80",                           // 6
		"-a -t 192.0.2.10:80 -r 10.0.0.2 -w 1#2",     // 7: no comment
		strings.Repeat("x", 5000),                    // 8
		"-L",                                         // 9
		"-C " + strings.Repeat(" ", maxLine-10),      // 10: long, not too long
		"--set 1 2 3",                                // 11, without a line end
	}, "\n")))
	var got []string
	for _, c := range rules {
		got = append(got, c.Source+" "+c.String())
	}
	if want := []string{"rules:4 -A TCP 192.0.2.10:80", "rules:5 -a TCP 192.0.2.10:80 10.0.0.1:80", "rules:10 -C", "rules:11 --set"}; !reflect.DeepEqual(got, want) {
		t.Errorf("rules %q, want %q", got, want)
	}
	if len(problems) != 4 {
		t.Fatalf("problems %v", problems)
	}
	for i, want := range []string{`rules:6: -t "nowhere:80"`, `rules:7: -w "1#2"`, "rules:8: the line is longer than 4096 bytes", "rules:9: -L is no rule"} {
		if !strings.HasPrefix(problems[i].Error(), want) {
			t.Errorf("problem %q, want %q", problems[i], want)
		}
	}
}

func TestParseFileIsBounded(t *testing.T) {
	_, problems := ParseFile("rules", strings.NewReader(strings.Repeat("junk\n", 1_000_000)))
	if len(problems) != maxProblems || !strings.Contains(problems[maxProblems-1].Error(), "not read further") {
		t.Errorf("%d problems, last %v", len(problems), problems[len(problems)-1])
	}
	_, problems = ParseFile("rules", io.LimitReader(endless{}, 64<<20)) // one line of 64 MiB
	if len(problems) != 1 || problems[0].Error() != "rules:1: the line is longer than 4096 bytes" {
		t.Errorf("got %v", problems)
	}
	broken := errors.New("broken")
	_, problems = ParseFile("rules", iotest.ErrReader(broken))
	if len(problems) != 1 || !errors.Is(problems[0], broken) {
		t.Errorf("got %v", problems)
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

func BenchmarkLoad10000Services(b *testing.B) {
	var file bytes.Buffer
	for i := range 10_000 {
		fmt.Fprintf(&file, "-A -t 10.1.%d.%d:80 -s wlc\n", i/250, i%250)
		for j := range 10 {
			fmt.Fprintf(&file, "-a -t 10.1.%d.%d:80 -r 10.2.0.%d:80 -m -w 1\n", i/250, i%250, j)
		}
	}
	for b.Loop() {
		rules, problems := ParseFile("rules", bytes.NewReader(file.Bytes()))
		if len(problems) != 0 {
			b.Fatal(problems)
		}
		var r Rules
		for _, c := range rules {
			if err := r.Apply(c); err != nil {
				b.Fatal(err)
			}
		}
	}
}
