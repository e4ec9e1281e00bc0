package conntrack

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"weir/lb"
)

// stateNamed finds the state of SCTP with IPVS's name.
func stateNamed(t *testing.T, name string) State {
	t.Helper()
	for _, s := range sctpColumns {
		if s.String() == name {
			return s
		}
	}
	t.Fatalf("no state %q", name)
	return 0
}

// TestSCTPTransitionsAreIPVSs goes through IPVS's whole table, transition by transition.
func TestSCTPTransitionsAreIPVSs(t *testing.T) {
	b, err := os.ReadFile("testdata/sctp-states.txt")
	if err != nil {
		t.Fatal(err)
	}
	ways := map[string]struct {
		modes []lb.Mode
		dir   Dir
	}{
		"input": {[]lb.Mode{lb.NAT, lb.FULLNAT}, Forward}, "output": {[]lb.Mode{lb.NAT, lb.FULLNAT}, Reverse},
		"input-only": {[]lb.Mode{lb.DR, lb.TUN, lb.Local}, Forward},
	}
	seen := 0
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if strings.HasPrefix(line, "#") {
			continue
		}
		way := ways[f[0]]
		for _, mode := range way.modes {
			for _, chunk := range strings.Fields(f[3]) {
				n, err := strconv.ParseUint(chunk, 10, 8)
				if err != nil {
					t.Fatal(err)
				}
				seen++
				if got := nextSCTP(stateNamed(t, f[1]), mode, way.dir, uint8(n)); got.String() != f[2] {
					t.Errorf("%s, %s, chunk %d: %s -> %s, in IPVS %s", mode, way.dir, n, f[1], got, f[2])
				}
			}
		}
	}
	if want := 14 * 19 * 7; seen != want {
		t.Errorf("%d transitions, want %d", seen, want)
	}
}

// TestSCTPAssociations follows associations through the table, packet by packet: "c:1" is a client's packet whose leading chunk is of type 1.
func TestSCTPAssociations(t *testing.T) {
	for name, c := range map[string]struct {
		mode    lb.Mode
		packets string
		states  string
		left    uint32 // seconds, at the end
		active  bool
	}{
		"an INIT":                         {lb.NAT, "c:1", "INIT1", 4, false},
		"an INIT sent again":              {lb.NAT, "c:1 c:1", "INIT1 INIT", 61, false},
		"set up by NAT":                   {lb.NAT, "c:1 s:2 c:10 s:11 c:0 s:3", "INIT1 C-SENT C-REPLIED ESTABLISHED ESTABLISHED ESTABLISHED", 900, true},
		"set up by FULLNAT":               {lb.FULLNAT, "c:1 s:2 c:10 s:11", "INIT1 C-SENT C-REPLIED ESTABLISHED", 900, true},
		"set up by DR":                    {lb.DR, "c:1 c:10 c:0", "INIT1 ESTABLISHED ESTABLISHED", 900, true},
		"set up by TUN":                   {lb.TUN, "c:1 c:10", "INIT1 ESTABLISHED", 900, true},
		"rejected":                        {lb.NAT, "c:1 s:6", "INIT1 REJECTED", 4, false},
		"rejected, and tried again":       {lb.NAT, "c:1 s:6 c:1", "INIT1 REJECTED INIT", 61, false},
		"shut down by the client":         {lb.NAT, "c:1 s:2 c:10 s:11 c:7 s:8 c:14", "INIT1 C-SENT C-REPLIED ESTABLISHED S-RECEIVED S-ACK-SENT CLOSED", 61, false},
		"shut down by the server":         {lb.NAT, "c:1 s:2 c:10 s:11 s:7 c:8 s:14", "INIT1 C-SENT C-REPLIED ESTABLISHED S-SENT CLOSED CLOSED", 61, false},
		"aborted by the client":           {lb.NAT, "c:1 s:2 c:10 s:11 c:6", "INIT1 C-SENT C-REPLIED ESTABLISHED CLOSED", 61, false},
		"shut down by the client, in DR":  {lb.DR, "c:1 c:10 c:7 c:14", "INIT1 ESTABLISHED S-RECEIVED CLOSED", 61, false},
		"shut down by the server, in DR":  {lb.DR, "c:1 c:10 c:8", "INIT1 ESTABLISHED CLOSED", 61, false},
		"heartbeats keep it":              {lb.NAT, "c:1 s:2 c:10 s:11 c:4 s:5", "INIT1 C-SENT C-REPLIED ESTABLISHED ESTABLISHED ESTABLISHED", 900, true},
		"found half way (sloppy_sctp)":    {lb.NAT, "c:0", "ESTABLISHED", 900, true},
		"found at its cookie, by NAT":     {lb.NAT, "c:10 s:11", "C-REPLIED ESTABLISHED", 900, true},
		"begun by both at once":           {lb.NAT, "c:1 s:1 c:2 s:10 c:11", "INIT1 C-WAIT COOKIE C-ECHOED ESTABLISHED", 900, true},
		"closed, and begun again in time": {lb.DR, "c:1 c:10 c:6 c:1", "INIT1 ESTABLISHED CLOSED INIT", 61, false},
	} {
		t.Run(name, func(t *testing.T) {
			table := newTable(t, Options{Capacity: 16})
			id, load, err := table.Servers().Acquire(serverAddr)
			if err != nil {
				t.Fatal(err)
			}
			if err := table.SetLocals([]lb.Addr{lb.MustParseAddr("10.0.0.9")}); err != nil {
				t.Fatal(err)
			}
			conn := Conn{Client: lb.AddrFrom4(1), ClientPort: 1, Virtual: lb.AddrFrom4(2), VirtualPort: 2, Proto: lb.SCTP, Mode: c.mode,
				Server: lb.AddrFrom4(3), ServerPort: 3, ServerID: id}
			var ref Ref
			states := strings.Fields(c.states)
			for i, packet := range strings.Fields(c.packets) {
				chunk, _ := strconv.Atoi(packet[2:])
				now := uint32(1 + i)
				if i == 0 {
					table.Open(&conn, uint8(chunk))
					var result Result
					if ref, result = table.Insert(&conn, now); result != OK {
						t.Fatal(result)
					}
				} else {
					dir := map[byte]Dir{'c': Forward, 's': Reverse}[packet[0]]
					if !table.Packet(ref, &conn, dir, uint8(chunk), now) {
						t.Fatalf("%s: ended", packet)
					}
				}
				var entry Conn
				if !table.Load(ref, &entry) || entry.State.String() != states[i] || entry.State != conn.State {
					t.Fatalf("%s leaves %s, want %s", packet, entry.State, states[i])
				}
				if left := entry.Expires(now); i == len(states)-1 && left != c.left {
					t.Errorf("%d s left, want %d", left, c.left)
				}
			}
			if active := load.Active.Load() == 1; active != c.active || load.Total() != 1 {
				t.Errorf("%d active, %d inactive", load.Active.Load(), load.Inactive.Load())
			}
		})
	}
}

func TestWhatOpensAnSCTPConnection(t *testing.T) {
	for chunk := range 256 {
		chunk := uint8(chunk)
		if OpensSCTP(chunk, false) != (chunk == 1) || OpensSCTP(chunk, true) != (chunk != 6) {
			t.Errorf("chunk %d: %t, sloppy %t", chunk, OpensSCTP(chunk, false), OpensSCTP(chunk, true))
		}
	}
}

func TestAnINITReopensAClosedAssociationOnly(t *testing.T) {
	for _, s := range sctpColumns {
		c := Conn{Proto: lb.SCTP, State: s, Mode: lb.NAT}
		if got := c.Reopens(ChunkInit, 1); got != (s == Closed) {
			t.Errorf("in %s: %t", s, got)
		}
		if c.Reopens(0, 1) || c.Reopens(ChunkInit, 0) {
			t.Errorf("in %s: DATA reopens, or an INIT with conn_reuse_mode 0 does", s)
		}
		c.Flags = HasControl
		if c.Reopens(ChunkInit, 1) {
			t.Errorf("in %s: a persistent one does", s)
		}
	}
}

func TestWhatOfSCTPGoesWhenRoomIsShort(t *testing.T) {
	opening := []State{NoState, Init1, Init, CookieSent, CookieReplied, CookieWait, Cookie, CookieEchoed}
	for _, s := range sctpColumns {
		c := Conn{Proto: lb.SCTP, State: s, Flags: Seen}
		if got := c.halfOpen(100); got != slices.Contains(opening, s) {
			t.Errorf("%s is half-open: %t", s, got)
		}
		if got := c.sheddable(100); got != (s == Init1 || s == Init) {
			t.Errorf("%s is shed by drop_entry: %t", s, got)
		}
	}
}

func TestAnEstablishedAssociationAssuresItsTemplate(t *testing.T) {
	table := newTable(t, Options{Capacity: 16})
	id, _, err := table.Servers().Acquire(serverAddr)
	if err != nil {
		t.Fatal(err)
	}
	template := Conn{Client: lb.AddrFrom4(1), Virtual: lb.AddrFrom4(2), VirtualPort: 2, Proto: lb.SCTP, Mode: lb.DR, Server: lb.AddrFrom4(3), ServerID: id,
		Flags: Template, Timeout: 300}
	control, result := table.Insert(&template, 1)
	if result != OK {
		t.Fatal(result)
	}
	conn := Conn{Client: lb.AddrFrom4(1), ClientPort: 1, Virtual: lb.AddrFrom4(2), VirtualPort: 2, Proto: lb.SCTP, Mode: lb.DR, Server: lb.AddrFrom4(3),
		ServerPort: 3, ServerID: id, Control: control}
	table.Open(&conn, ChunkInit)
	ref, result := table.Insert(&conn, 1)
	if result != OK {
		t.Fatal(result)
	}
	if table.Load(control, &template); template.State == Assured {
		t.Fatal("an INIT assures it")
	}
	table.Packet(ref, &conn, Forward, 10, 2)
	if table.Load(control, &template); template.State != Assured {
		t.Errorf("the template is %s", template.State)
	}
}
