package control_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"

	"weir/conntrack"
	"weir/control"
	"weir/dataplane/reason"
	"weir/internal/testpkt"
	"weir/lb"
)

// burst lets clients' packets arrive together and forgets what they led to.
func (d *director) burst(packets []testpkt.Packet) {
	d.t.Helper()
	for _, p := range packets {
		if !d.queues[0][0].Inject(p.Bytes()) {
			d.t.Fatal("queue full")
		}
	}
	for taken := 1; taken > 0; {
		taken, _ = d.workers[0].Turn()
		for _, q := range d.queues[0] {
			q.Sent()
		}
	}
}

// second is what a director does in one: housekeeping, then Defend.
func (d *director) second(log *slog.Logger) {
	d.t.Helper()
	d.sleep(1)
	d.store.Defend(log)
}

func (d *director) setting(name string) string {
	d.t.Helper()
	for _, s := range d.shared.Table().Sysctls().All() {
		if value, ok := strings.CutPrefix(s, name+"="); ok {
			return value
		}
	}
	d.t.Fatalf("no setting %s", name)
	return ""
}

// flooder returns SYNs to the VIP, each from an address of its own.
func flooder() func(n int) []testpkt.Packet {
	last := uint32(0)
	return func(n int) []testpkt.Packet {
		packets := make([]testpkt.Packet, n)
		for i := range packets {
			last++
			from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, byte(last >> 16), byte(last >> 8), byte(last)}), 1024+uint16(last))
			packets[i] = testpkt.TCP(from, vip, testpkt.SYN)
		}
		return packets
	}
}

// TestASYNFloodPushesOutNoEstablishedConnection: ten times what the table holds, faster than half-open connections can be shed. Every
// established connection stays with its server, and clients that come meanwhile and answer within a second get through.
func TestASYNFloodPushesOutNoEstablishedConnection(t *testing.T) {
	const capacity, established = 2048, 600
	for name, row := range map[string]struct {
		service   string
		perSecond int // the table is gone through in five seconds
	}{
		"plain":                        {"-A -t 192.0.2.10:80 -s rr", 300},
		"persistent, two entries each": {"-A -t 192.0.2.10:80 -s rr -p 600", 150},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			logger := slog.New(slog.NewTextHandler(&log, nil))
			d := newDirectorWith(t, 1, conntrack.Options{Capacity: capacity}, control.Options{}, row.service,
				"-a -t 192.0.2.10:80 -r 10.0.0.2:80 -g", "-a -t 192.0.2.10:80 -r 10.0.0.3:80 -g", "-a -t 192.0.2.10:80 -r 10.0.0.4:80 -g")
			server := map[uint16]string{}
			connect := func(port uint16) {
				server[port] = d.client(testpkt.TCP(from(port), vip, testpkt.SYN)).DstMAC.String()
				d.client(testpkt.TCP(from(port), vip, testpkt.ACK))
			}
			for port := uint16(1); port <= established; port++ {
				connect(port)
			}
			flood, tried, through, lost, next := flooder(), 0, 0, 0, uint16(10_000)
			var waiting []uint16
			for sent := 0; sent < 10*capacity; sent += row.perSecond {
				// Those who came a second ago and got an answer send their ACK.
				for _, port := range waiting {
					tried++
					if out := d.send(0, 0, testpkt.TCP(from(port), vip, testpkt.ACK)); len(out.toServers) == 1 {
						through++
					} else {
						lost++
					}
				}
				waiting = waiting[:0]
				d.burst(flood(row.perSecond / 2))
				for range 5 {
					next++
					if out := d.send(0, 0, testpkt.TCP(from(next), vip, testpkt.SYN)); len(out.toServers) == 1 {
						waiting = append(waiting, next)
					} else {
						tried++
					}
				}
				d.burst(flood(row.perSecond / 2))
				d.second(logger)
			}
			if tried < 200 || through*10 < tried*9 {
				t.Errorf("%d of %d new clients got through", through, tried)
			}
			if got := d.setting("drop_entry"); got != "2" {
				t.Errorf("under attack drop_entry=%s", got)
			}
			for port, mac := range server {
				if v := d.client(testpkt.TCP(from(port), vip, testpkt.ACK)); v.DstMAC.String() != mac {
					t.Fatalf("port %d was with %s and is with %s", port, mac, v.DstMAC)
				}
			}
			s, c := d.conns.Stats(), d.counters()
			if s.Shed == 0 || s.Evicted == 0 {
				t.Errorf("nothing was shed or evicted: %+v", s)
			}
			full := s.Refused[conntrack.Full]
			if full != c.Reasons[reason.TableFull] || c.Reasons[reason.NoConnection] != uint64(lost) {
				t.Errorf("%d tries found the table full, and %v say so", full, stops(d))
			}
			connect(9_999)
			for range 61 {
				d.second(logger)
			}
			if got := d.setting("drop_entry"); got != "1" {
				t.Errorf("after the attack drop_entry=%s", got)
			}
			lines := strings.Split(strings.TrimSpace(log.String()), "\n")
			if len(lines) != 2 || !strings.Contains(lines[0], `level=WARN msg="defence on" name=drop_entry`) ||
				!strings.Contains(lines[1], `level=INFO msg="defence off" name=drop_entry`) {
				t.Errorf("logged:\n%s", log.String())
			}
		})
	}
}

// TestDropEntryKeepsRoom: a flood that would fill the table within the minute that a SYN lives does not fill it while half-open
// connections are shed.
func TestDropEntryKeepsRoom(t *testing.T) {
	for _, mode := range []int{lb.DefenceOff, lb.DefenceAuto, lb.DefenceAlways} {
		t.Run(fmt.Sprint("drop_entry=", mode), func(t *testing.T) {
			settings := lb.DefaultSysctls()
			settings.DropEntry = mode
			d := newDirectorWith(t, 1, conntrack.Options{Capacity: 2048}, control.Options{Sysctls: settings}, web("-g", "10.0.0.2:80")...)
			flood := flooder()
			for range 120 {
				d.burst(flood(60)) // 3,600 a minute
				d.second(slog.New(slog.DiscardHandler))
			}
			s := d.conns.Stats()
			if mode == lb.DefenceOff {
				if s.Shed != 0 || s.Evicted == 0 {
					t.Errorf("%+v", s)
				}
			} else if s.Shed == 0 || s.Evicted != 0 || s.Refused[conntrack.Full] != 0 || s.Opened != 120*60 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestDropPacketRefusesOneInN: exactly, of new connections only, and by the formula of update_defense_level.
func TestDropPacketRefusesOneInN(t *testing.T) {
	const capacity = 64 // of which 8 are to be free
	for _, row := range []struct {
		name             string
		mode, amDropRate int
		used             int
		one              int    // in so many is refused; 0: none
		shown            string // drop_packet afterwards
	}{
		{"off, with a full table", 0, 10, 64, 0, "0"},
		{"automatic, with an eighth free", 1, 10, 56, 0, "1"},
		{"automatic, with one less", 1, 10, 57, 8, "2"},
		{"automatic, with 3/32 free", 1, 10, 58, 4, "2"},
		{"automatic, with 5 of 8 free", 1, 10, 59, 2, "2"},
		{"automatic, with half the reserve", 1, 10, 60, 2, "2"},
		{"automatic, with less than half", 1, 10, 61, 1, "2"},
		{"automatic, full", 1, 10, 64, 1, "2"},
		{"shown as on, and not needed", 2, 10, 10, 0, "1"},
		{"always, with an empty table", 3, 5, 0, 5, "3"},
		{"always, with a full table", 3, 7, 64, 7, "3"},
	} {
		t.Run(row.name, func(t *testing.T) {
			settings := lb.Sysctls{DropPacket: row.mode, AmDropRate: row.amDropRate}
			d := newDirectorWith(t, 1, conntrack.Options{Capacity: capacity}, control.Options{Sysctls: settings}, web("-g", "10.0.0.2:80")...)
			for port := range uint16(row.used) {
				d.client(testpkt.TCP(from(1+port), vip, testpkt.SYN))
				d.client(testpkt.TCP(from(1+port), vip, testpkt.ACK))
			}
			d.store.Defend(slog.New(slog.DiscardHandler))
			const tries = 8 * 7 * 5
			run, longest := 0, 0
			for i := range uint16(tries) {
				before := d.counters().Reasons[reason.DropPacket]
				d.send(0, 0, testpkt.TCP(from(1000+i), vip, testpkt.SYN))
				if run++; d.counters().Reasons[reason.DropPacket] != before {
					run = 0
				}
				longest = max(longest, run)
				if row.used > 0 { // not new: never refused
					d.client(testpkt.TCP(from(1), vip, testpkt.ACK))
				}
			}
			refused, want, gap := int(d.counters().Reasons[reason.DropPacket]), 0, tries
			if row.one > 0 {
				want, gap = tries/row.one, row.one-1
			}
			if refused != want || longest > gap {
				t.Errorf("%d of %d were refused, the longest run that was not is %d; want %d and %d", refused, tries, longest, want, gap)
			}
			if got := d.setting("drop_packet"); got != row.shown {
				t.Errorf("drop_packet=%s, want %s", got, row.shown)
			}
		})
	}
}

// TestSecureTCPGoesOnAndOff by how full the table is, and back, without a change of --set's timeouts.
func TestSecureTCPGoesOnAndOff(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	d := newDirectorWith(t, 1, conntrack.Options{Capacity: 64}, control.Options{Sysctls: lb.Sysctls{SecureTCP: 1}}, web("-m", "10.0.0.2:80")...)
	v := d.conns.Timeouts()
	v.Set(600, 0, 0)
	d.conns.SetTimeouts(v)
	check := func(when string, secure bool, shown string) {
		t.Helper()
		d.store.Defend(logger)
		if v := d.conns.Timeouts(); v.Secure != secure || v.TCP[conntrack.Established] != 600 || d.setting("secure_tcp") != shown {
			t.Errorf("%s: secure %v, ESTABLISHED %d s, secure_tcp=%s", when, v.Secure, v.TCP[conntrack.Established], d.setting("secure_tcp"))
		}
	}
	check("empty", false, "1")
	for port := uint16(1); port <= 60; port++ {
		d.client(testpkt.TCP(from(port), vip, testpkt.SYN))
	}
	check("nearly full", true, "2")
	check("still", true, "2")
	d.sleep(61)
	check("empty again", false, "1")
	if n := strings.Count(log.String(), "\n"); n != 2 || strings.Count(log.String(), "name=secure_tcp") != 2 {
		t.Errorf("logged:\n%s", log.String())
	}
}

// TestRecordedSecureTCPStates plays conntrack's recordings of secure_tcp=3 with real frames: state and timer after every packet.
func TestRecordedSecureTCPStates(t *testing.T) {
	file, err := os.Open("../conntrack/testdata/tcp-states.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	z, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	var recorded struct {
		Trees []struct {
			Name    string
			Forward string
			Sysctls map[string]int
			Rows    []struct {
				Sequence []string
				After    [][]any
			}
		}
	}
	if err := json.NewDecoder(z).Decode(&recorded); err != nil {
		t.Fatal(err)
	}
	played := 0
	for _, tree := range recorded.Trees {
		if tree.Sysctls["net.ipv4.vs.secure_tcp"] != 3 {
			continue
		}
		settings := lb.DefaultSysctls()
		settings.SecureTCP = lb.DefenceAlways
		d := newDirectorWith(t, 1, conntrack.Options{Capacity: 4096}, control.Options{Sysctls: settings}, web(tree.Forward, "10.0.0.2:80")...)
		d.store.Defend(slog.New(slog.DiscardHandler))
		for n, row := range tree.Rows {
			client := from(uint16(1 + n))
			flow := lb.Flow{Src: lb.AddrFrom(client.Addr()), Dst: lb.AddrFrom(vip.Addr()), SrcPort: client.Port(), DstPort: vip.Port(), Proto: lb.TCP}
			for i, packet := range row.Sequence {
				side, letters, _ := strings.Cut(packet, ":")
				var flags []testpkt.Flags
				for _, l := range letters {
					flags = append(flags, map[rune]testpkt.Flags{'S': testpkt.SYN, 'A': testpkt.ACK, 'F': testpkt.FIN, 'R': testpkt.RST}[l])
				}
				if side == "c" {
					d.send(0, 0, testpkt.TCP(client, vip, flags...))
				} else {
					d.send(0, 1, testpkt.TCP(netip.MustParseAddrPort("10.0.0.2:80"), client, flags...))
				}
				var c conntrack.Conn
				got := "none 0"
				if _, dir := d.conns.Lookup(&flow, d.conns.Hash(&flow), &c); dir != conntrack.None {
					got = fmt.Sprint(c.State, " ", c.Expires(d.now))
				}
				if want := fmt.Sprint(row.After[i][0], " ", row.After[i][1]); got != want {
					t.Fatalf("%s: %v: after packet %d: %s, recorded %s", tree.Name, row.Sequence, i+1, got, want)
				}
			}
			played++
		}
	}
	if played != 576 {
		t.Errorf("%d sequences were played", played)
	}
}
