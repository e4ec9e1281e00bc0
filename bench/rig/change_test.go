package rig

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// A few hundred changes a second lose no packet of an established connection, and neither does somebody who lists the whole table. How fast
// anything is, is not asked here.
func TestChangesLoseNoPacket(t *testing.T) {
	plan := QuickChangePlan()
	r, err := Changes(t.Context(), programs, plan, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	var table bytes.Buffer
	r.Print(&table)
	for what, s := range map[string]Stretch{"quiet": r.Quiet, "changing": r.Changing, "paging": r.Paging.Stretch} {
		if s.Sent == 0 || s.Sent != s.Received || s.Received != s.Forwarded || s.Forwarded != s.Arrived {
			t.Errorf("%s: %+v", what, s)
		}
	}
	if r.Changing.Changes < 20 || r.Changing.Answer.Count != r.Changing.Changes || r.Single.Count != plan.Singles {
		t.Errorf("%d changes under load, %d before", r.Changing.Changes, r.Single.Count)
	}
	if len(r.Restores) != 3 || r.Paging.Connections < plan.Connections {
		t.Errorf("%d restores; %d connections", len(r.Restores), r.Paging.Connections)
	}
	for _, c := range append(r.Lists, r.Paging.Commands...) {
		if c.Bytes == 0 {
			t.Errorf("%s printed nothing", c.What)
		}
	}
	for _, want := range []string{"300 services × 10 servers", "weiradm -Ln", "/metrics", "with changes", "weiradm connections --count"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("no %q in\n%s", want, table.String())
		}
	}
}

func TestSpread(t *testing.T) {
	var all []time.Duration
	for i := range 1000 {
		all = append(all, time.Duration(1000-i)*time.Millisecond)
	}
	if got, want := spread(all), (Spread{1000, 501 * time.Millisecond, 991 * time.Millisecond, time.Second, time.Second}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := spread(nil); got != (Spread{}) {
		t.Errorf("of nothing: %+v", got)
	}
}

// What a client of the storm does is possible in this order, whatever the others do.
func TestStormLeavesWhatItFound(t *testing.T) {
	test := &changeTest{setting: &setting{listed: serverList(8), Load: Load{Traffic: TCPACK}}, plan: QuickChangePlan()}
	there := map[string]bool{}
	for _, line := range strings.Split(test.manyRules(behindRouter), "\n") {
		if f := strings.Fields(line); len(f) > 4 && f[0] == "-a" {
			there[f[2]+" "+f[4]] = true
		}
	}
	for _, line := range test.trafficRules() {
		if f := strings.Fields(line); f[0] == "-a" {
			there[f[2]+" "+f[4]] = true
		}
	}
	before := len(there)
	for i := range 500 {
		for c := range stormClients {
			for _, line := range test.stormChange(c, i) {
				f := strings.Fields(line)
				server := f[2]
				if len(f) > 4 {
					server += " " + f[4]
				}
				switch f[0] {
				case "-D":
					for s := range there {
						if strings.HasPrefix(s, f[2]+" ") {
							delete(there, s)
						}
					}
				case "-a":
					if there[server] {
						t.Fatalf("client %d, change %d: %s: is there", c, i, line)
					}
					there[server] = true
				case "-e", "-d":
					if !there[server] {
						t.Fatalf("client %d, change %d: %s: is not there", c, i, line)
					}
					if f[0] == "-d" {
						delete(there, server)
					}
				}
			}
		}
	}
	if len(there) != before {
		t.Errorf("%d servers at first, %d in the end", before, len(there))
	}
}
