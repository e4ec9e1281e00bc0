package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"weir/ipvsadm"
)

// fakeBackend remembers what it was asked.
type fakeBackend struct {
	commands []ipvsadm.Command
	atomic   bool
	filter   *Filter
	refuse   *Changed
	err      error
	capture  func(CaptureQuery, io.Writer) (Captured, error)
}

func (f *fakeBackend) Change(_ context.Context, commands []ipvsadm.Command, atomic bool) (Changed, error) {
	f.commands, f.atomic = commands, atomic
	if f.refuse != nil {
		return *f.refuse, f.err
	}
	return Changed{Applied: len(commands)}, f.err
}
func (f *fakeBackend) Listing() ipvsadm.Listing { return ipvsadm.Listing{Size: 7} }
func (f *fakeBackend) Status() Status           { return Status{Version: "test"} }
func (f *fakeBackend) Connections(from uint32, limit int, filter *Filter, countOnly bool) Connections {
	f.filter = filter
	return Connections{Matched: limit}
}
func (f *fakeBackend) Trace(q TraceQuery) (Trace, error) { return Trace{Found: q.Protocol}, nil }
func (f *fakeBackend) Drain(_ context.Context, a netip.AddrPort) (Drained, error) {
	return Drained{Services: []string{a.String()}}, nil
}
func (f *fakeBackend) Capture(_ context.Context, q CaptureQuery, w io.Writer) (Captured, error) {
	if f.capture == nil {
		return Captured{}, f.err
	}
	return f.capture(q, w)
}

func handle(b Backend, method, target, body string) (int, string) {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	w := httptest.NewRecorder()
	NewAdmin(b, slog.New(slog.DiscardHandler)).handler().ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestABadRequestIsOneLineThatSaysWhatIsAllowed(t *testing.T) {
	for _, row := range []struct {
		method, target, body string
		code                 int
		want                 string
	}{
		{"GET", "/v1/nothing", "", 404, `GET /v1/nothing: there is no such request; allowed: POST /v1/change, POST /v1/drain, GET /v1/services, `},
		{"GET", "/v2/services", "", 404, `GET /v2/services: there is no such request; allowed: POST /v1/change, POST /v1/drain, GET /v1/services, `},
		{"DELETE", "/v1/services", "", 404, `DELETE /v1/services: there is no such request; allowed: POST /v1/change, POST /v1/drain, GET /v1/services, `},
		{"GET", "/v1/services?all=1", "", 400, `parameter "all": this request takes none`},
		{"GET", "/v1/list", "", 400, `command: the line is empty`},
		{"GET", "/v1/list?command=-C", "", 400, `-C is not listed here; allowed: -L, -S`},
		{"GET", "/v1/list?command=-L+-c", "", 400, `-L is not listed here; allowed: -L, -S`},
		{"GET", "/v1/list?command=-L+--stat", "", 400, `command: `},
		{"GET", "/v1/list?command=-L&words=-L", "", 400, `parameter "words": allowed: command`},
		{"GET", "/v1/list?command=-L+-t+192.0.2.1:80", "", 422, `No such service`},
		{"GET", "/v1/status?x", "", 400, `parameter "x": this request takes none`},
		{"POST", "/v1/change", ``, 400, `JSON, byte 0: ends too early`},
		{"POST", "/v1/change", `{"commands":[["-C"]]`, 400, `JSON, byte 20: ends too early`},
		{"POST", "/v1/change", `{"comands":[]}`, 400, `JSON, byte 14: unknown field "comands"; allowed: commands, atomic`},
		{"POST", "/v1/change", `{"commands":5}`, 400, `JSON, byte 13: commands must be a list of lists of strings, not number`},
		{"POST", "/v1/change", `{"commands":[["-C",{}]]}`, 400, `JSON, byte 20: commands must be a string, not object`},
		{"POST", "/v1/change", `{"atomic":1}`, 400, `JSON, byte 11: atomic must be true or false, not number`},
		{"POST", "/v1/change", `[]`, 400, `JSON, byte 1: must be an object with commands, atomic, not array`},
		{"POST", "/v1/change", `{"commands":[]} {}`, 400, `JSON, byte 17: something follows the request`},
		{"POST", "/v1/change", `{"commands":["-C"]}`, 400, `JSON, byte 17: commands must be a list of strings, not string`},
		{"POST", "/v1/change?atomic=1", `{}`, 400, `parameter "atomic": this request takes none`},
		{"POST", "/v1/change", `{"commands":[["-C"],["-w","3"]]}`, 400, `command 2: "-w 3": must begin with a command`},
		{"POST", "/v1/change", `{"commands":[["-L"]]}`, 400, `command 1: -L changes nothing; allowed: -A -E -D -C -a -e -d --set -Z`},
		{"POST", "/v1/change", `{"commands":[[]]}`, 400, `command 1: "": must begin with a command`},
		{"POST", "/v1/change", `{"commands":[["--start-daemon","master"]]}`, 400, `command 1: --start-daemon master: weir has no IPVS sync daemon`},
		{"POST", "/v1/drain", `{"server":"web1"}`, 400, `server "web1": want ADDRESS or ADDRESS:PORT`},
		{"GET", "/v1/connections?from=x", "", 400, `from "x": allowed: 0 to 4294967295`},
		{"GET", "/v1/connections?limit=10001", "", 400, `limit "10001": allowed: 1 to 10000`},
		{"GET", "/v1/connections?count=2", "", 400, `count "2": allowed: 0 to 1`},
		{"GET", "/v1/connections?protocol=icmp", "", 400, `protocol "icmp": allowed: tcp, udp, sctp`},
		{"GET", "/v1/connections?state=open", "", 400, `state "OPEN": allowed: NONE, ESTABLISHED, `},
		{"GET", "/v1/connections?mode=masq", "", 400, `mode "masq": allowed: dr, nat, fullnat, tun, local`},
		{"GET", "/v1/connections?client=here", "", 400, `client "here": want ADDRESS, ADDRESS/LENGTH, ADDRESS:PORT or :PORT`},
		{"GET", "/v1/connections?from=1&from=2", "", 400, `parameter "from": given twice`},
		{"GET", "/v1/connections?clinet=10.0.0.1", "", 400, `parameter "clinet": allowed: from, limit, count, protocol, state, mode, templates, client, virtual, local, server`},
		{"GET", "/v1/capture?count=0", "", 400, `count "0": allowed: 1 to 1000000000`},
		{"GET", "/v1/capture?seconds=1e3", "", 400, `seconds "1e3": allowed: 1 to 86400`},
		{"GET", "/v1/capture?snaplen=1", "", 400, `snaplen "1": allowed: 14 to 65535`},
		{"GET", "/v1/capture?server=there", "", 400, `server "there": want ADDRESS`},
		{"GET", "/v1/capture?templates=only", "", 400, `templates "only": a persistence template has no packets`},
		{"GET", "/v1/capture?file=/etc/passwd", "", 400, `parameter "file": allowed: count, bytes, seconds, snaplen, protocol, `},
		{"GET", "/v1/trace?protocol=tcp&source=1.2.3.4:5", "", 400, `destination "": want ADDRESS:PORT`},
		{"GET", "/v1/trace?protocol=icmp&source=1.2.3.4:5&destination=1.2.3.4:6", "", 400, `protocol "icmp": allowed: tcp, udp, sctp`},
		{"GET", "/v1/trace?protocol=udp&source=1.2.3.4:5&destination=[::1]:6", "", 400, `source and destination are not of one IP version`},
		{"GET", "/v1/trace?protocol=tcp&source=1.2.3.4:5&destination=1.2.3.4:6&flags=X", "", 400, `flags "X": allowed: letters of FSRPAU`},
	} {
		code, body := handle(&fakeBackend{}, row.method, row.target, row.body)
		var f failure
		if err := json.Unmarshal([]byte(body), &f); err != nil || f.Error == nil {
			t.Errorf("%s %s %s: answered %q", row.method, row.target, row.body, body)
			continue
		}
		if code != row.code || !strings.Contains(f.Error.Error(), row.want) || strings.Contains(f.Error.Error(), "\n") {
			t.Errorf("%s %s %s:\n%d %s\nwant\n%d %s", row.method, row.target, row.body, code, f.Error, row.code, row.want)
		}
	}
}

func TestTheClientAndTheServer(t *testing.T) {
	b := &fakeBackend{}
	c := NewClient(serve(t, b, nil))
	defer c.Close()
	done, err := c.Change(t.Context(), Change{Commands: [][]string{{"-A", "-t", "192.0.2.1:80"}, {"-C"}}, Atomic: true})
	if err != nil || done.Applied != 2 || !b.atomic || len(b.commands) != 2 || b.commands[1].Op != ipvsadm.OpFlush {
		t.Errorf("%+v, %v; %+v", done, err, b)
	}
	refused := &Error{Text: "No such service", Detail: "-D: No such service", Status: 255}
	b.refuse = &Changed{Applied: 1, Refused: []Refusal{{1, refused}}}
	done, err = c.Change(t.Context(), Change{Commands: [][]string{{"-C"}, {"-D", "-t", "192.0.2.1:80"}}})
	if e := (*Error)(nil); !errors.As(err, &e) || *e != *refused || !reflect.DeepEqual(done, *b.refuse) {
		t.Errorf("%+v, %v", done, err)
	}
	b.refuse, b.err = nil, errors.New("worker 1 hangs")
	if done, err = c.Change(t.Context(), Change{Commands: [][]string{{"-C"}}}); err == nil || err.Error() != "worker 1 hangs" || done.Applied != 1 {
		t.Errorf("%+v, %v", done, err)
	}
	if s, err := c.Services(t.Context()); err != nil || s.TableSize != 7 {
		t.Errorf("%+v, %v", s, err)
	}
	var text strings.Builder
	if err := c.List(t.Context(), []string{"-L", "-n"}, &text); err != nil || !strings.HasPrefix(text.String(), "IP Virtual Server version 1.2.1 (size=7)\n") {
		t.Errorf("%q, %v", text.String(), err)
	}
	if err := c.List(t.Context(), []string{"-S"}, &text); err != nil {
		t.Error(err)
	}
	var none *Error
	if err := c.List(t.Context(), []string{"-L", "-f", "7"}, &text); !errors.As(err, &none) || none.Status != 1 {
		t.Errorf("%v", err)
	}
	if s, err := c.Status(t.Context()); err != nil || s.Version != "test" {
		t.Errorf("%+v, %v", s, err)
	}
	q := TraceQuery{Protocol: "udp", Source: netip.MustParseAddrPort("[2001:db8::1]:5"), Destination: netip.MustParseAddrPort("[2001:db8::2]:6"), Flags: "FA"}
	if tr, err := c.Trace(t.Context(), q); err != nil || tr.Found != "udp" {
		t.Errorf("%+v, %v", tr, err)
	}
	if d, err := c.Drain(t.Context(), "10.0.0.2"); err != nil || d.Services[0] != "10.0.0.2:0" {
		t.Errorf("%+v, %v", d, err)
	}
	end := func(s string) End {
		e, err := ParseEnd(s)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	f := Filter{Protocol: "tcp", State: "established", Mode: "nat", Templates: "no", Client: end("198.51.100.0/24"), Virtual: end(":80"),
		Server: end("10.0.0.2:8080"), Local: end("[2001:db8::1]:7")}
	if n, err := c.Count(t.Context(), f); err != nil || n != maxPage || *b.filter != f {
		t.Errorf("%d, %v; the filter came as %+v, want %+v", n, err, *b.filter, f)
	}
	gone := NewClient(t.TempDir() + "/nowhere")
	if _, err := gone.Services(t.Context()); err == nil || !strings.Contains(err.Error(), "/nowhere: no weir is listening there") {
		t.Errorf("nobody there: %v", err)
	}
}

// What -L and -S print does not change on its way through JSON.
func TestAListingSurvivesTheWay(t *testing.T) {
	var rules ipvsadm.Rules
	for _, line := range []string{
		"--set 600 45 30", "-A -t 192.0.2.1:80 -s sh -b sh-port,sh-fallback -p 600 -M 255.255.255.0", "-A -u 192.0.2.1:53 -s rr -o", "-A -f 7 -6 -s wlc",
		"-a -t 192.0.2.1:80 -r 10.0.0.1 -g -w 0 -x 10 -y 5", "-a -t 192.0.2.1:80 -r 10.0.0.2:8080 -m", "-a -t 192.0.2.1:80 -r 10.0.0.3:8080 -F",
		"-a -t 192.0.2.1:80 -r 10.0.0.4 -i", "-a -t 192.0.2.1:80 -r 10.0.0.5 -i --tun-type gue --tun-port 5 --tun-remcsum",
		"-a -t 192.0.2.1:80 -r 10.0.0.6 -i --tun-type gre --tun-csum", "-A -t [2001:db8::1]:80 -p -M 64", "-a -t [2001:db8::1]:80 -r [2001:db8::2]:80 -m",
	} {
		c, err := ipvsadm.ParseLine(line)
		if err == nil {
			err = rules.Apply(c)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	l := rules.Listing()
	l.Size = 4096
	n := uint64(1)
	count := func() ipvsadm.Traffic {
		n += 5
		return ipvsadm.Traffic{Conns: n, InPackets: n + 1, OutPackets: n + 2, InBytes: n + 3, OutBytes: 1<<60 + n}
	}
	for i := range l.Services {
		s := &l.Services[i]
		s.Total, s.Rate = count(), count()
		s.Servers = make([]ipvsadm.ServerLoad, len(s.Service.Servers))
		for k := range s.Servers {
			s.Servers[k] = ipvsadm.ServerLoad{Active: uint32(n), Inactive: 2, Persistent: 3, Total: count(), Rate: count(), Local: k == 1}
		}
	}
	text, err := json.Marshal(FromListing(l))
	if err != nil {
		t.Fatal(err)
	}
	var s Services
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprintf("%+v", s.Listing()), fmt.Sprintf("%+v", l); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if name := s.Services[0].Name(); name != "TCP 192.0.2.1:80" || s.Services[2].Name() != "FWM 7" || s.Services[0].PersistSeconds != int(10*time.Minute/time.Second) {
		t.Errorf("%q, %+v", name, s.Services[0])
	}
}

func TestFilters(t *testing.T) {
	c := Connection{Protocol: "TCP", State: "ESTABLISHED", Mode: "fullnat", Client: netip.MustParseAddrPort("198.51.100.7:4000"),
		Virtual: netip.MustParseAddrPort("192.0.2.1:80"), Local: netip.MustParseAddrPort("10.0.0.9:1024"), Server: netip.MustParseAddrPort("10.0.0.2:8080")}
	for query, want := range map[string]bool{
		"": true, "protocol=tcp": true, "protocol=udp": false, "state=established": true, "state=TIME_WAIT": false, "mode=fullnat": true, "mode=dr": false,
		"templates=no": true, "templates=only": false, "client=198.51.100.7": true, "client=198.51.100.8": false, "client=198.51.100.0/24": true,
		"client=198.51.100.7:4000": true, "client=198.51.100.7:4001": false, "client=:4000": true, "client=:80": false, "virtual=:80": true,
		"server=10.0.0.0/30": true, "server=10.0.0.4/30": false, "local=10.0.0.9": true, "local=10.0.0.8": false, "client=2001:db8::/32": false,
		"protocol=tcp&virtual=192.0.2.1:80&server=10.0.0.2": true, "protocol=tcp&virtual=192.0.2.1:80&server=10.0.0.3": false,
	} {
		r := httptest.NewRequest("GET", "/?"+query, nil)
		f, err := filterOf(r.URL.Query())
		if err != nil || f.Matches(&c) != want {
			t.Errorf("%q: %t, %v; want %t", query, f.Matches(&c), err, want)
		}
	}
	c.Local = netip.AddrPort{}
	if f := (Filter{Local: End{Port: 1024}}); f.Matches(&c) {
		t.Error("a connection without a local address has one")
	}
}

// Whatever the bytes, there is one JSON answer, and nothing that was not understood reaches the backend.
func FuzzChange(f *testing.F) {
	f.Add([]byte(`{"commands":[["-A","-t","192.0.2.1:80","-s","rr"],["-a","-t","192.0.2.1:80","-r","10.0.0.2:80","-m"]],"atomic":true}`))
	f.Add([]byte(`{"commands":[[""]]}`))
	f.Add([]byte(`{"commands":null}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, body []byte) {
		b := &fakeBackend{}
		code, answer := handle(b, "POST", "/v1/change", string(body))
		var v any
		if err := json.Unmarshal([]byte(answer), &v); err != nil || code != http.StatusOK && code != http.StatusBadRequest {
			t.Fatalf("%d %q", code, answer)
		}
		if code != http.StatusOK && b.commands != nil {
			t.Fatalf("refused, and done all the same: %v", b.commands)
		}
		var again Change
		if code == http.StatusOK && json.NewDecoder(bytes.NewReader(body)).Decode(&again) != nil {
			t.Fatalf("%q is no Change", body)
		}
		for _, c := range b.commands {
			if !c.Op.IsRule() && c.Op != ipvsadm.OpZero {
				t.Fatalf("%s", c)
			}
		}
	})
}

// Whatever is asked for, the answer is JSON, and a refusal is one line; what is understood says the same when it is asked again.
func FuzzQuery(f *testing.F) {
	f.Add("connections", "client=192.0.2.1:80&state=established&limit=3&count=1&from=7")
	f.Add("connections", "server=[2001:db8::1]:80&mode=tun&templates=only&protocol=sctp")
	f.Add("capture", "count=3&bytes=100&seconds=1&snaplen=64&virtual=:80")
	f.Add("trace", "protocol=tcp&source=192.0.2.1:1&destination=192.0.2.2:2&flags=SA")
	f.Add("status", "x;y=%zz")
	f.Add("services", "%")
	f.Add("\n", "\n")
	f.Fuzz(func(t *testing.T, path, query string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.Path, r.URL.RawQuery = "/v1/"+path, query
		b := &fakeBackend{capture: func(q CaptureQuery, _ io.Writer) (Captured, error) {
			again, err := captureOf(q.values())
			if err != nil || again != q {
				t.Errorf("%+v is asked for as %+v, %v", q, again, err)
			}
			return Captured{}, errors.New("no capture")
		}}
		w := httptest.NewRecorder()
		NewAdmin(b, slog.New(slog.DiscardHandler)).handler().ServeHTTP(w, r)
		if w.Code >= 300 && w.Code < 400 { // a path that is not clean is sent where it should have gone
			return
		}
		var answer failure
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || (w.Code == http.StatusOK) != (answer.Error == nil) {
			t.Fatalf("%d %q", w.Code, w.Body)
		}
		if answer.Error != nil && (strings.Contains(answer.Error.Error(), "\n") || answer.Error.Error() == "") {
			t.Errorf("%d %q", w.Code, answer.Error)
		}
	})
}

// What a filter is written as reads back as itself.
func FuzzParseEnd(f *testing.F) {
	for _, s := range []string{"10.0.0.1", "10.0.0.0/8", "10.0.0.1:80", ":80", "[2001:db8::1]:80", "2001:db8::/32", "::ffff:10.0.0.1", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e, err := ParseEnd(s)
		if err != nil {
			return
		}
		if again, err := ParseEnd(e.String()); err != nil || again != e {
			t.Fatalf("%q is %v, written %q, read back %v, %v", s, e, e.String(), again, err)
		}
	})
}
