package control_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"weir/conntrack"
	"weir/lb"
)

// stateTree is a tree of conntrack/testdata/tcp-states: what a real IPVS showed after each packet of every sequence of packets.
type stateTree struct {
	Name, Forward, Set string
	Sysctls            map[string]int
	Rows               []struct {
		Sequence []string // "c:S" is the client's SYN, "s:FA" the server's FIN
		After    [][]any  // state, timer, and what happened to a packet that was not forwarded
	}
}

// TestRecordedStates plays all recorded sequences with real frames: each packet goes where it went, and leaves the same state and timer.
func TestRecordedStates(t *testing.T) {
	var rec struct{ Trees []stateTree }
	readRecording(t, "../conntrack/testdata/tcp-states.json.gz", &rec)
	if len(rec.Trees) != 9 {
		t.Fatalf("%d trees", len(rec.Trees))
	}
	for _, tree := range rec.Trees {
		t.Run(tree.Name, func(t *testing.T) {
			t.Parallel()
			r, err := newReplay(t, tree.Sysctls, "-A -t 10.9.0.1:80 -s rr", "-a -t 10.9.0.1:80 -r 10.20.0.1:80 "+tree.Forward)
			if err == nil && tree.Set != "" {
				err = r.ipvsadm("--set " + tree.Set)
			}
			if err != nil {
				t.Fatal(err)
			}
			for n, row := range tree.Rows {
				client := netip.AddrPortFrom(netip.MustParseAddr("10.1.0.5"), uint16(5000+n))
				for i, packet := range row.Sequence {
					if err := r.sequel(client, packet, row.After[i]); err != nil {
						t.Fatalf("packet %d of %v: %v", i, row.Sequence, err)
					}
				}
			}
		})
	}
}

// sequel sends one packet of a sequence and compares what came of it.
func (r *replay) sequel(client netip.AddrPort, packet string, after []any) error {
	virtual, server := netip.MustParseAddrPort("10.9.0.1:80"), netip.MustParseAddrPort("10.20.0.1:80")
	side, flags, _ := strings.Cut(packet, ":")
	iface, from, to := 0, client, virtual
	if side == "s" {
		iface, from, to = 1, server, client
	}
	servers, clients, err := r.arrive(iface, segment("tcp", flags, from, to).Bytes())
	if err != nil {
		return err
	}
	state, timer := r.entry(client, virtual)
	recorded := int(after[1].(float64))
	if state != after[0] || timer < recorded-1 || timer > recorded+1 {
		return fmt.Errorf("%s leaves %s for %d s, in IPVS %v", packet, state, timer, after)
	}
	fate := ""
	switch {
	case len(servers) == 1 && len(clients) == 0 && side == "c":
	case len(servers) == 0 && len(clients) == 1 && clients[0].Src == virtual && side == "s":
	case len(servers) == 0 && len(clients) == 1 && clients[0].Src == server && side == "s":
		fate = "passed unchanged"
	case len(servers) == 0 && len(clients) == 1:
		fate = fmt.Sprintf("dropped client got %v", frameOf(&clients[0].IP)["flags"])
	default:
		fate = "dropped"
	}
	if wanted := append(after[2:len(after):len(after)], "")[0]; fate != wanted {
		return fmt.Errorf("%s: %q, in IPVS %q", packet, fate, wanted)
	}
	return nil
}

// entry returns the state and the timer of a client's connection.
func (r *replay) entry(client, virtual netip.AddrPort) (state string, timer int) {
	flow := lb.Flow{Src: lb.AddrFrom(client.Addr()), Dst: lb.AddrFrom(virtual.Addr()), SrcPort: client.Port(), DstPort: virtual.Port(), Proto: lb.TCP}
	var c conntrack.Conn
	if _, dir := r.conns.Lookup(&flow, r.conns.Hash(&flow), &c); dir == conntrack.None {
		return "none", 0
	}
	return c.State.String(), int(c.Expires(r.now))
}
