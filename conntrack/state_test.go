package conntrack

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"weir/lb"
)

// recordedTree is one tree of testdata/tcp-states.json.gz: what a real IPVS showed after each packet of every sequence of packets.
type recordedTree struct {
	Name    string         `json:"name"`
	Forward string         `json:"forward"`
	Sysctls map[string]int `json:"sysctls"`
	Set     string         `json:"set"`
	Rows    []struct {
		Sequence []string `json:"sequence"`
		After    [][]any  `json:"after"`
	} `json:"rows"`
}

func recordedTrees(t *testing.T) []recordedTree {
	t.Helper()
	f, err := os.Open("testdata/tcp-states.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Format string         `json:"format"`
		Trees  []recordedTree `json:"trees"`
	}
	if err := json.NewDecoder(z).Decode(&file); err != nil {
		t.Fatal(err)
	}
	if file.Format != "ipvs-tcp-states-1" || len(file.Trees) != 9 {
		t.Fatalf("format %q with %d trees", file.Format, len(file.Trees))
	}
	return file.Trees
}

func flagsOf(letters string) (f uint8) {
	for _, l := range letters {
		f |= map[rune]uint8{'S': SYN, 'A': ACK, 'F': FIN, 'R': RST, 'P': PSH, 'U': URG}[l]
	}
	return f
}

// TestRecordedTCPStates replays all sequences: state and timer must be IPVS's after every packet, and the server's counts must follow.
func TestRecordedTCPStates(t *testing.T) {
	modes := map[string]lb.Mode{"-m": lb.NAT, "-g": lb.DR, "-i": lb.TUN}
	for _, tree := range recordedTrees(t) {
		t.Run(tree.Name, func(t *testing.T) {
			v := DefaultTimeouts()
			v.Secure = tree.Sysctls["net.ipv4.vs.secure_tcp"] == 3
			if tree.Set != "" {
				var tcp, fin, udp uint32
				if _, err := fmt.Sscan(tree.Set, &tcp, &fin, &udp); err != nil {
					t.Fatal(err)
				}
				v.Set(tcp, fin, udp)
			}
			table := newTable(t, Options{Capacity: 16, Timeouts: v})
			id, load := newServer(t, table)
			client := client(1, lb.TCP)
			packets := 0
			for _, row := range tree.Rows {
				for i, packet := range row.Sequence {
					from, letters, _ := strings.Cut(packet, ":")
					play(t, table, client, modes[tree.Forward], id, from == "s", flagsOf(letters), tree.Sysctls["net.ipv4.vs.sloppy_tcp"] == 1)
					c, _, dir := lookup(table, client)
					got := fmt.Sprint("none ", 0)
					if dir != None {
						got = fmt.Sprint(c.State, " ", c.Expires(start))
					}
					if want := fmt.Sprint(row.After[i][0], " ", row.After[i][1]); got != want {
						t.Fatalf("%v: after packet %d: %s, recorded %s", row.Sequence, i+1, got, want)
					}
					active, inactive := int32(0), int32(0)
					if dir != None && c.State.Active() {
						active = 1
					} else if dir != None {
						inactive = 1
					}
					if load.Active.Load() != active || load.Inactive.Load() != inactive {
						t.Fatalf("%v: after packet %d in %v: active %d, inactive %d", row.Sequence, i+1, c.State, load.Active.Load(), load.Inactive.Load())
					}
					packets++
				}
				if _, ref, dir := lookup(table, client); dir != None {
					table.Delete(ref)
				}
			}
			if packets == 0 || load.Total() != 0 {
				t.Errorf("%d packets, %d connections left", packets, load.Total())
			}
		})
	}
}

// play does with one packet what a worker does, for a service with one server.
func play(t *testing.T, table *Table, f lb.Flow, mode lb.Mode, id lb.ServerID, fromServer bool, flags uint8, sloppy bool) {
	t.Helper()
	c := connOf(f, mode, id)
	packet := f
	if fromServer {
		packet, _ = c.ReverseFlow()
	}
	var found Conn
	ref, dir := table.Lookup(&packet, table.Hash(&packet), &found)
	if dir == Forward && found.Reopens(flags, 1) {
		table.Delete(ref)
		dir = None
	}
	switch {
	case dir != None:
		if !table.Packet(ref, &found, dir, flags, start) {
			t.Fatal("the connection ended by itself")
		}
	case !fromServer && OpensTCP(flags, sloppy):
		table.Open(&c, flags)
		if _, r := table.Insert(&c, start); r != OK {
			t.Fatal(r)
		}
	}
}

// TestStateNames: as ipvsadm -Lnc shows them.
func TestStateNames(t *testing.T) {
	for s, want := range map[State]string{NoState: "NONE", SynAck: "SYNACK", CloseWait: "CLOSE_WAIT", UDP: "UDP", Assured: "ASSURED", states: "ERR!"} {
		if s.String() != want {
			t.Errorf("state %d is %q, want %q", s, s, want)
		}
	}
}

// TestSetTimeouts: ipvsadm --set changes three of them, 0 keeps one, and a connection takes the new one with its next packet.
func TestSetTimeouts(t *testing.T) {
	table := newTable(t, Options{Capacity: 4})
	id, _ := newServer(t, table)
	f := client(1, lb.UDP)
	open(t, table, f, lb.DR, id, start)
	v := table.Timeouts()
	v.Set(0, 45, 30)
	table.SetTimeouts(v)
	if v.TCP[Established] != 900 || v.TCP[FinWait] != 45 || v.TCP[TimeWait] != 120 {
		t.Errorf("timeouts %+v", v)
	}
	if c, _, _ := lookup(table, f); c.Timeout != 300 {
		t.Errorf("without a packet the timeout became %d", c.Timeout)
	}
	c, ref, dir := lookup(table, f)
	table.Packet(ref, &c, dir, 0, start+1)
	if c, _, _ := lookup(table, f); c.Expires(start+1) != 30 {
		t.Errorf("after a packet the timer is %d", c.Expires(start+1))
	}
	if n := sweep(table, start+30); n != 0 {
		t.Error("ended before its time")
	}
	if n := sweep(table, start+31); n != 1 {
		t.Errorf("the shortened timeout ended %d connections", n)
	}
}

// TestReopens: conn_reuse_mode as recorded (conn-reuse.json): which old connections a SYN starts anew.
func TestReopens(t *testing.T) {
	for _, row := range []struct {
		name  string
		c     Conn
		flags uint8
		modes [3]bool // by conn_reuse_mode
	}{
		{"TIME_WAIT", Conn{State: TimeWait, Mode: lb.NAT, Proto: lb.TCP}, SYN, [3]bool{false, true, true}},
		{"CLOSE", Conn{State: Close, Mode: lb.DR, Proto: lb.TCP}, SYN, [3]bool{false, true, true}},
		{"FIN_WAIT in DR", Conn{State: FinWait, Mode: lb.DR, Proto: lb.TCP}, SYN, [3]bool{false, false, true}},
		{"FIN_WAIT in NAT", Conn{State: FinWait, Mode: lb.NAT, Proto: lb.TCP}, SYN, [3]bool{}},
		{"CLOSE_WAIT", Conn{State: CloseWait, Mode: lb.NAT, Proto: lb.TCP}, SYN, [3]bool{}},
		{"ESTABLISHED", Conn{State: Established, Mode: lb.NAT, Proto: lb.TCP}, SYN, [3]bool{}},
		{"TIME_WAIT without SYN", Conn{State: TimeWait, Mode: lb.NAT, Proto: lb.TCP}, ACK, [3]bool{}},
		{"TIME_WAIT on a template", Conn{State: TimeWait, Mode: lb.NAT, Proto: lb.TCP, Flags: HasControl}, SYN, [3]bool{}},
	} {
		for mode, want := range row.modes {
			if got := row.c.Reopens(row.flags, mode); got != want {
				t.Errorf("%s, conn_reuse_mode %d: %v", row.name, mode, got)
			}
		}
	}
}
