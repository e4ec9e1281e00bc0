package web

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"weir/control/api"
)

func TestHistoryKeepsTheLatest(t *testing.T) {
	var h history
	start := time.Unix(1000, 0)
	for i := range historyLen + 10 {
		rates := map[string]api.Traffic{"a": {Conns: uint64(i)}, "idle": {}}
		h.add(start.Add(time.Duration(i)*time.Second), point{float32(i)}, rates)
	}
	c := h.chart("")
	if n := len(c.Times); n != historyLen || c.Times[0] != 1010_000 || c.Times[n-1] != int64(1000+historyLen+9)*1000 {
		t.Fatalf("%d points from %d on", n, c.Times[0])
	}
	for _, name := range []string{"", "a"} {
		got := h.chart(name).Series["connections"]
		if got[0] != 10 || got[historyLen-1] != historyLen+9 {
			t.Errorf("%q: %v to %v", name, got[0], got[historyLen-1])
		}
	}
	if len(h.services) != 1 {
		t.Errorf("%d services have a line; one has traffic", len(h.services))
	}
	if spark := h.spark("a"); len(spark) != sparkLen {
		t.Errorf("a spark line of %d", len(spark))
	}
}

// TestHistoryOfAServiceThatCameLate: before it was seen, nothing is known of it; without traffic, or when nobody looks, its line ends.
func TestHistoryOfAServiceThatCameLate(t *testing.T) {
	var h history
	h.add(time.Unix(1, 0), point{1}, map[string]api.Traffic{})
	h.add(time.Unix(2, 0), point{2}, map[string]api.Traffic{"a": {InBytes: 5}})
	text, err := json.Marshal(h.chart("a").Series["in_bits"])
	if err != nil || string(text) != "[null,40]" {
		t.Errorf("%s, %v", text, err)
	}
	for i := range historyLen + 1 {
		h.add(time.Unix(int64(3+i), 0), point{}, map[string]api.Traffic{"a": {}})
	}
	if len(h.services) != 0 {
		t.Error("a line without any traffic in it")
	}
	h.add(time.Unix(900, 0), point{}, map[string]api.Traffic{"a": {Conns: 1}})
	h.add(time.Unix(901, 0), point{}, nil)
	if len(h.services) != 0 {
		t.Error("lines that nobody looks at")
	}
}

func TestHistoryIsBounded(t *testing.T) {
	var h history
	rates := map[string]api.Traffic{}
	for i := range maxHistories + 100 {
		rates[fmt.Sprint(i)] = api.Traffic{Conns: 1}
	}
	h.add(time.Unix(1, 0), point{}, rates)
	if len(h.services) != maxHistories {
		t.Errorf("%d lines, want %d", len(h.services), maxHistories)
	}
}
