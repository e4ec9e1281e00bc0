package web

import (
	"strings"
	"testing"
	"time"

	"weir/control/api"
	"weir/ipvsadm"
)

// told is a director that says what a test wants, and counts how often it is asked.
type told struct {
	status   api.Status
	listing  ipvsadm.Listing
	totals   Totals
	statuses int
}

func (d *told) Status() api.Status       { d.statuses++; return d.status }
func (d *told) Listing() ipvsadm.Listing { return d.listing }
func (d *told) Totals() Totals           { return d.totals }

func TestProblems(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*api.Status)
		want   string // the beginning of the only problem's text; "": none
		bad    bool
	}{
		"all is well": {func(*api.Status) {}, "", false},
		"a server is lost": {func(s *api.Status) {
			s.Unreachable = []api.Unreachable{{Server: "10.0.0.2:80", Service: "TCP 192.0.2.1:80"}}
		}, "Server 10.0.0.2 (1 service) cannot be reached", true},
		"a host of two services": {func(s *api.Status) {
			s.Unreachable = []api.Unreachable{{Server: "10.0.0.2:80"}, {Server: "10.0.0.2:81"}}
		}, "Server 10.0.0.2 (2 services)", true},
		"two hosts": {func(s *api.Status) {
			s.Unreachable = []api.Unreachable{{Server: "10.0.0.3:80"}, {Server: "10.0.0.2:81"}}
		}, "2 servers cannot be reached: 10.0.0.2 (1 service), 10.0.0.3", true},
		"the table at 79 %": {func(s *api.Status) { s.Table.Used, s.Table.Capacity = 79, 100 }, "", false},
		"the table at 80 %": {func(s *api.Status) { s.Table.Used, s.Table.Capacity = 80, 100 }, "The connection table is 80 % full", false},
		"the table at 95 %": {func(s *api.Status) { s.Table.Used, s.Table.Capacity = 95, 100 }, "The connection table is 95 % full", true},
		"a few drops": {func(s *api.Status) {
			s.PerSecond.Received = 10_000
			s.Stops = []api.Stop{{Reason: "bad-ip-header", PerSecond: 99}}
		}, "99 packets a second are dropped: bad-ip-header", false},
		"one in a hundred drops": {func(s *api.Status) {
			s.PerSecond.Received = 999_900
			s.Stops = []api.Stop{{Reason: "no-server", PerSecond: 9_999}}
		}, "9,999 packets a second are dropped: no-server", true},
		"drops of yesterday":      {func(s *api.Status) { s.Stops = []api.Stop{{Reason: "no-server", Packets: 5}} }, "", false},
		"the kernel's packets":    {func(s *api.Status) { s.Stops = []api.Stop{{Reason: "no-service", ToHost: true, PerSecond: 5}} }, "", false},
		"a worker without a rest": {func(s *api.Status) { s.Workers = []api.Worker{{Number: 3, CPU: 0.95}, {Number: 4, CPU: 0.5}} }, "A CPU is used up: worker 3 (95 %)", false},
		"rules that are not kept": {func(s *api.Status) { s.SaveError = "no space" }, "Rules are not saved: no space", true},
	} {
		d := &told{}
		c.change(&d.status)
		list := newSnapshot(d, nil).problems
		if c.want == "" {
			if len(list) != 0 {
				t.Errorf("%s: %+v", name, list)
			}
			continue
		}
		if len(list) != 1 || !strings.HasPrefix(list[0].Text, c.want) || list[0].Bad != c.bad {
			t.Errorf("%s: %+v, want %q, bad: %v", name, list, c.want, c.bad)
		}
	}
}

func TestTheWorstProblemIsFirst(t *testing.T) {
	d := &told{}
	d.status.Table.Used, d.status.Table.Capacity = 85, 100
	d.status.Workers = []api.Worker{{CPU: 1}}
	d.status.SaveError = "no space"
	if list := newSnapshot(d, nil).problems; len(list) != 3 || !list[0].Bad || list[1].Bad || list[2].Bad {
		t.Errorf("%+v", list)
	}
}

// TestNobodyLooks: the director is asked for its status only while somebody does, and its rates are there when somebody does again.
func TestNobodyLooks(t *testing.T) {
	d := &told{}
	p := New(Options{Source: d})
	now := time.Now()
	second := func() {
		now = now.Add(time.Second)
		d.totals.Conns += 70
		d.totals.Dropped += 3
		p.recorder.tick(now)
	}
	second()
	second()
	if d.statuses != 0 {
		t.Errorf("asked %d times, and nobody looks", d.statuses)
	}
	if p.recorder.now.Conns != 70 || p.recorder.droppedNow != 3 {
		t.Errorf("%+v and %d drops a second, want 70 connections and 3", p.recorder.now, p.recorder.droppedNow)
	}
	p.recorder.look(now)
	if d.statuses != 1 {
		t.Errorf("asked %d times, when somebody looks", d.statuses)
	}
	for range 3 {
		p.recorder.look(now)
	}
	if d.statuses != 1 {
		t.Errorf("asked %d times by looks at one moment", d.statuses)
	}
	now = now.Add(patience)
	second()
	if p.recorder.latest != nil {
		t.Error("what nobody looks at is kept")
	}
	d.totals.Conns = 0
	if second(); p.recorder.now.Conns != 0 {
		t.Errorf("%d connections a second, of a counter that was set to zero", p.recorder.now.Conns)
	}
}
