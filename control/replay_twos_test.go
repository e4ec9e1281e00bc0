package control_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// twosRun is a recorded run of twos, which draws at random: how many of the connections each server got.
type twosRun struct {
	Name, Kind, Service string
	Weights             []int
	Connections, None   int
	Received            map[string]int
	FinalState          [][]any `json:"final_state"`
}

// TestTwosSharesAsRecorded makes the connections of every recorded run with real frames and asks whether both runs may come from
// one distribution, and whether each server ends up with what it got.
func TestTwosSharesAsRecorded(t *testing.T) {
	var rec struct {
		Format        string
		Distributions []twosRun
	}
	readRecording(t, "../sched/testdata/twos.json.gz", &rec)
	if rec.Format != "ipvs-twos-1" || len(rec.Distributions) == 0 {
		t.Fatalf("format %q", rec.Format)
	}
	for _, run := range rec.Distributions {
		t.Run(run.Name, func(t *testing.T) {
			t.Parallel()
			if err := run.play(t); err != nil {
				t.Error(err)
			}
		})
	}
}

func (run *twosRun) play(t *testing.T) error {
	command, proto := "-A "+run.Service+" -s twos", "udp"
	switch {
	case run.Kind == "ops":
		command += " -o"
	case strings.HasPrefix(run.Service, "-t"):
		proto = "tcp"
	}
	r, err := newReplay(t, nil, command)
	if err != nil {
		return err
	}
	virtual := netip.MustParseAddrPort("10.9.0.1:80")
	port := uint16(1024)
	send := func(flags string) (server string, err error) {
		out, _, err := r.arrive(0, segment(proto, flags, netip.AddrPortFrom(netip.MustParseAddr("10.1.0.5"), port), virtual).Bytes())
		if err != nil || len(out) != 1 {
			return "", err
		}
		return out[0].Dst.String(), nil
	}
	for i, weight := range run.Weights {
		if err := r.ipvsadm(fmt.Sprintf("-a %s -r 10.20.0.%d:80 -m -w %d", run.Service, i+1, weight)); err != nil {
			return err
		}
		for ; run.Name == "one-busy" && i == 0 && port < 1024+100; port++ { // what it has before the others come
			if _, err := send("S"); err != nil {
				return err
			}
		}
	}
	got := map[string]int{}
	for i := range run.Connections {
		port++
		server, err := send("S")
		if err != nil {
			return err
		}
		got[server]++
		if run.Name == "reset-every-second" && i%2 == 1 {
			for _, flags := range []string{"A", "R"} {
				if again, err := send(flags); err != nil || again != server {
					return fmt.Errorf("%s of a connection to %s goes to %s, %v", flags, server, again, err)
				}
			}
		}
	}
	if got[""] != run.None {
		return fmt.Errorf("%d connections without a server, in IPVS %d", got[""], run.None)
	}
	// Two samples of one distribution: with at most four servers, a chi-square above 35 comes once in ten million runs.
	chi := 0.0
	for server, recorded := range run.Received {
		if n := got[server] + recorded; n > 0 {
			d := float64(got[server] - recorded)
			chi += d * d / float64(n)
		}
	}
	if chi > 35 {
		return fmt.Errorf("shares %v, in IPVS %v: chi-square %.1f", got, run.Received, chi)
	}
	return run.sameState(r, got)
}

// sameState compares servers, order and weights, and the counts with what was sent.
func (run *twosRun) sameState(r *replay, got map[string]int) error {
	for _, rows := range r.servers() {
		if len(rows) != len(run.FinalState) {
			return same("servers", rows, run.FinalState)
		}
		for i, row := range rows {
			row, recorded := row.([]any), run.FinalState[i]
			server := row[0].(string)
			carries := int(row[2].(float64) + row[3].(float64))
			wanted := int(recorded[2].(float64)+recorded[3].(float64)) - run.Received[server] + got[server]
			if run.Kind == "ops" {
				wanted = 0
			}
			if row[0] != recorded[0] || row[1] != recorded[1] || carries != wanted {
				return fmt.Errorf("%v in place %d after %d connections, in IPVS %v after %d", row, i, got[server], recorded, run.Received[server])
			}
		}
	}
	return nil
}
