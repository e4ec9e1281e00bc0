package sched

import (
	"slices"
	"strings"
	"testing"
)

func TestNamesHasEverySchedulerOfIPVSAndMaglev(t *testing.T) {
	want := strings.Fields("dh fo lblc lblcr lc maglev mh nq ovf rr sed sh twos wlc wrr")
	if got := Names(); !slices.Equal(got, want) {
		t.Errorf("Names() = %v, want %v", got, want)
	}
}

func TestNewWithoutANameIsWLC(t *testing.T) {
	s, err := New("", nil)
	if _, ok := s.(*wlc); !ok || err != nil {
		t.Errorf(`New("") = %T, %v`, s, err)
	}
}

func TestNewChecksFlags(t *testing.T) {
	for _, row := range []struct {
		name, flags string
		err         string // what the error must name; "": none
	}{
		{"sh", "sh-fallback sh-port", ""},
		{"sh", "flag-1 flag-2 flag-3", ""},
		{"mh", "mh-port", ""},
		{"rr", "flag-2", ""},
		{"sh", "mh-port", "sh-fallback, sh-port, flag-1"},
		{"mh", "sh-fallback", "mh-fallback, mh-port, flag-1"},
		{"rr", "sh-port", "it takes flag-1"},
		{"sh", "flag-4", `"flag-4"`},
		{"sh", "", `""`},
		{"wrrr", "flag-1", "dh, fo, lblc"},
	} {
		s, err := New(row.name, strings.Split(row.flags, " "))
		switch {
		case row.err == "" && (err != nil || s == nil):
			t.Errorf("%s with %q: %v", row.name, row.flags, err)
		case row.err != "" && (err == nil || !strings.Contains(err.Error(), row.err) || strings.Contains(err.Error(), "\n")):
			t.Errorf("%s with %q: error %v, want one line that names %q", row.name, row.flags, err, row.err)
		}
	}
}

func TestFlagNumbersMeanTheSchedulersOwn(t *testing.T) {
	s, _ := New("sh", []string{"flag-2"})
	if got := *s.(*sh); got.fallback || !got.port {
		t.Errorf("sh with flag-2: fallback %v, port %v", got.fallback, got.port)
	}
	m, _ := New("mh", []string{"flag-1"})
	if got := m.(*mh); !got.fallback || got.port {
		t.Errorf("mh with flag-1: fallback %v, port %v", got.fallback, got.port)
	}
}
