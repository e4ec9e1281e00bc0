package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"weir/internal/lab"
	"weir/lb"
)

// held is a connection that is used again and again.
type held struct {
	client *http.Client
	url    string
	dials  int
	server string // that answered first
}

func (d *director) hold(t *testing.T, s lab.Service) *held {
	t.Helper()
	h := &held{url: fmt.Sprintf("http://%s/", s.VIP)}
	h.client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			h.dials++
			return d.Client.DialContext(ctx, network, address)
		},
	}}
	t.Cleanup(h.client.CloseIdleConnections)
	var err error
	if h.server, err = h.ask(); err != nil {
		t.Fatalf("%s %s: %v", s.Mode, s.VIP, err)
	}
	return h
}

func (h *held) ask() (server string, err error) {
	r, err := h.client.Get(h.url)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	server, _, _ = strings.Cut(string(body), " ")
	return server, err
}

// wantAlive fails the test unless the connection is still the same one, to the same server.
func (h *held) wantAlive(t *testing.T, when string) {
	t.Helper()
	server, err := h.ask()
	if err != nil || server != h.server || h.dials != 1 {
		t.Errorf("%s: a connection to %s was answered by %q after %d dials, %v", when, h.server, server, h.dials, err)
	}
}

func TestReloadKeepsConnections(t *testing.T) {
	d := newLab(t, arms["two arms"])
	file := filepath.Join(t.TempDir(), "rules")
	services := func(weights ...int) (all []lab.Service) {
		for _, mode := range lab.Modes {
			all = append(all, service(lb.TCP, mode, 8000, lab.HTTPAltPort, weights...))
		}
		return all
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	rules := func(all []lab.Service, drop string) (text string) {
		for _, s := range all {
			for _, r := range d.Rules(s) {
				if drop == "" || !strings.Contains(r, "-r "+drop) {
					text += r + "\n"
				}
			}
		}
		return text
	}
	// reload sends SIGHUP and waits for the answer in the log.
	answers := map[string]int{}
	reload := func(answer string) {
		t.Helper()
		answers[answer]++
		d.weir.Signal(syscall.SIGHUP)
		for limit := time.Now().Add(10 * time.Second); strings.Count(d.weir.Output(), answer) < answers[answer]; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(limit) {
				t.Fatalf("no %q after SIGHUP", answer)
			}
		}
	}
	// spread counts the answers of n new connections.
	spread := func(s lab.Service, n int) (got []int) {
		t.Helper()
		tally := d.Requests(t.Context(), s.VIP, n)
		if tally.Errors > 0 {
			t.Errorf("%s: %d errors, the first: %v", s.Mode, tally.Errors, tally.First)
		}
		for _, host := range d.Servers {
			got = append(got, tally.PerServer[host.Role])
		}
		return got
	}
	wantSpread := func(when string, all []lab.Service, n int, want ...int) {
		t.Helper()
		for _, s := range all {
			if got := spread(s, n); !slices.Equal(got, want) {
				t.Errorf("%s, %s: the servers got %d, want %d", when, s.Mode, got, want)
			}
		}
	}

	before := services(1, 1)
	write(rules(before, ""))
	d.start(nil, "--rules", file, "--local-address", lab.LIP.String())
	var all []*held
	for _, s := range before {
		for range 4 {
			all = append(all, d.hold(t, s))
		}
	}
	wantAlive := func(when, butOf string) {
		t.Helper()
		for _, h := range all {
			if h.server != butOf {
				h.wantAlive(t, when)
			}
		}
	}
	wantSpread("at first", before, 20, 10, 10, 0)

	// Server 2 goes, server 3 comes, and server 1 gets more. As in IPVS, what is sent to a removed server is dropped, and goes on
	// when the server comes back.
	after := services(3, 1, 2)
	write(rules(after, d.Servers[1].IP.String()+":"))
	reload("msg=reloaded")
	wantAlive("after a reload", "server2")
	wantSpread("after a reload", after, 20, 12, 0, 8)

	write("-A -t 192.0.2.101:80 -s wrr\n-a -t 192.0.2.101:80 -r nowhere -g\n")
	reload("reload refused")
	if !strings.Contains(d.weir.Output(), file+":2:") {
		t.Error("the refusal does not name the line")
	}
	wantAlive("after a bad file", "server2")
	wantSpread("after a bad file", after, 20, 12, 0, 8)

	// A server without weight keeps what it has.
	drained := services(0, 1, 0)
	write(rules(drained, ""))
	reload("msg=reloaded")
	wantAlive("after draining, and the return of a server", "")
	wantSpread("after draining", drained, 20, 0, 20, 0)

	// A service that goes, while another keeps its VIP, leaves its port to the host; when it comes back, so do its connections.
	var others []lab.Service
	for _, mode := range lab.Modes {
		others = append(others, service(lb.UDP, mode, 8007, lab.EchoAltPort, 1))
	}
	write(rules(others, ""))
	reload("msg=reloaded")
	for _, s := range drained {
		if c, err := dial(d.Client.Namespace, s.VIP.String()); err == nil {
			c.Close()
			t.Errorf("%s: a removed service takes connections", s.Mode)
		} else if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: the host should refuse what is for a removed service: %v", s.Mode, err)
		}
	}
	write(rules(drained, ""))
	reload("msg=reloaded")
	wantAlive("after the service's return", "")
}
