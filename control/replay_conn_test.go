package control_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"weir/ipvsadm"
	"weir/lb"
)

// connScenario is a scenario of testdata/conn-*: what a real IPVS (Linux 6.1) did, step by step.
type connScenario struct {
	Name    string
	Config  []string
	Sysctls map[string]int
	Steps   []connStep
}

type connStep struct {
	Op           string
	Proto, Flags string
	Src, Dst     string
	Sport, Dport uint16
	Mark         uint32
	From, Packet string // icmp: a whole IP packet in hex
	Args, Stderr string
	Exit         int
	Name         string
	Value        int
	Seconds      float64
	ToServer     []frame `json:"to_server"`
	ToClient     []frame `json:"to_client"`
	Conns        []recordedConn
	Servers      [][2]json.RawMessage
}

// differs are the scenarios that weir does not follow, with the reason (docs/ipvs-differences.md).
var differs = map[string]string{
	"schedule_icmp-1": "an ICMP error never opens a connection: the setting schedule_icmp is refused",
}

// localNode is the one scenario in which weir differs: what a server on the director itself answers does not pass weir as it passes
// IPVS's LOCAL_OUT hook, so the connection is left as the client's SYN made it instead of closed by the kernel's RST.
const localNode = "local-node"

// TestRecordedConnections plays every recorded scenario about connections, and wants the same frames, connection table and
// counts after each step.
func TestRecordedConnections(t *testing.T) {
	paths, err := filepath.Glob("testdata/conn-*.json.gz")
	if err != nil || len(paths) != 7 {
		t.Fatalf("recordings %v, %v", paths, err)
	}
	listed := 0
	for _, path := range paths {
		var rec struct {
			Format    string
			Scenarios []connScenario
		}
		readRecording(t, path, &rec)
		if len(rec.Scenarios) == 0 {
			t.Fatalf("%s: no scenarios", path)
		}
		for _, sc := range rec.Scenarios {
			why := differs[sc.Name]
			if why != "" {
				listed++
			}
			t.Run(sc.Name, func(t *testing.T) {
				t.Parallel()
				err := playConnections(t, &sc)
				switch {
				case why != "" && err == nil:
					t.Errorf("it passes, though it is listed as a difference: %s", why)
				case why == "" && err != nil:
					t.Error(err)
				}
			})
		}
	}
	if listed != len(differs) {
		t.Errorf("%d scenarios are listed as differences, %d of them exist", len(differs), listed)
	}
}

func playConnections(t *testing.T, sc *connScenario) error {
	r, err := newReplay(t, sc.Sysctls, sc.Config...)
	if err != nil {
		return err
	}
	slept := 0.0
	for i := range sc.Steps {
		st := &sc.Steps[i]
		if sc.Name == localNode {
			st.Conns[0].State, st.Conns[0].Expires = "SYN_RECV", 60
			st.Servers[0][1] = json.RawMessage(`[["10.0.0.1:80", 1, 1, 0]]`)
		}
		if st.Op == "sleep" {
			for slept += st.Seconds; slept >= 1; slept-- {
				r.sleep(1)
			}
		}
		if err := r.step(st); err != nil {
			return fmt.Errorf("step %d, %s %s %s:%d->%s:%d %s%s: %w", i, st.Op, st.Proto, st.Src, st.Sport, st.Dst, st.Dport, st.Flags, st.Args, err)
		}
	}
	return nil
}

// step does one step and compares what came of it.
func (r *replay) step(st *connStep) error {
	switch st.Op {
	case "client", "server":
		src, err1 := netip.ParseAddr(st.Src)
		dst, err2 := netip.ParseAddr(st.Dst)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		from, to := netip.AddrPortFrom(src, st.Sport), netip.AddrPortFrom(dst, st.Dport)
		r.mark(st.Mark, from, to)
		iface := map[string]int{"client": 0, "server": 1}[st.Op]
		before := r.serverOf(from, to)
		if err := r.packet(st, iface, segment(st.Proto, st.Flags, from, to).Bytes()); err != nil {
			return err
		}
		if before != "" && before != r.serverOf(from, to) {
			r.superseded[before]++
		}
	case "icmp":
		ip, err := hex.DecodeString(st.Packet)
		if err != nil {
			return err
		}
		if err := r.packet(st, map[string]int{"client": 0, "server": 1}[st.From], ethernet(ip)); err != nil {
			return err
		}
	case "ipvsadm":
		if err := r.command(st); err != nil {
			return err
		}
	case "sysctl": // there is nothing to compare after it
		edit := r.shared.Table().Edit()
		settings := r.shared.Table().Sysctls()
		if err := settings.Set(fmt.Sprintf("%s=%d", strings.TrimPrefix(st.Name, "net.ipv4.vs."), st.Value)); err != nil {
			return err
		}
		edit.SetSysctls(settings)
		r.shared.Publish(edit.Table())
		return nil
	case "sleep":
	default:
		return errors.New("unknown operation")
	}
	if err := r.sameConns(st.Conns); err != nil {
		return err
	}
	got, recorded := r.servers(), map[string][]any{}
	for _, s := range st.Servers {
		var name string
		var rows []any
		if err := errors.Join(json.Unmarshal(s[0], &name), json.Unmarshal(s[1], &rows)); err != nil {
			return err
		}
		recorded[name] = rows
	}
	return same("servers", r.withSuperseded(got, recorded), recorded)
}

// withSuperseded adds to a server's inactive connections those that a SYN of the same ports took from it, if the recording still has
// them: IPVS ends them by a timer, and one and the same scenario was recorded with some of these timers run off and some not.
func (r *replay) withSuperseded(got, recorded map[string][]any) map[string][]any {
	for name, rows := range got {
		for i, row := range rows {
			row, ok := row.([]any)
			if !ok || i >= len(recorded[name]) {
				continue
			}
			lag := r.superseded[row[0].(string)]
			if with := []any{row[0], row[1], row[2], row[3].(float64) + lag}; lag > 0 && reflect.DeepEqual(any(with), recorded[name][i]) {
				rows[i] = with
			}
		}
	}
	return got
}

// packet lets a packet arrive and compares what leaves. Frames whose addresses are the client's own tell their server by the
// MAC address only, which the recorded table names.
func (r *replay) packet(st *connStep, iface int, bytes []byte) error {
	servers, clients, err := r.arrive(iface, bytes)
	if err != nil {
		return err
	}
	if err := same("to servers", frames(servers), st.ToServer); err != nil {
		return err
	}
	if err := same("to clients", frames(clients), st.ToClient); err != nil {
		return err
	}
	for _, v := range servers {
		for _, c := range st.Conns {
			if c.Client == v.Src.String() && c.Virtual == v.Dst.String() && c.Proto == st.Proto {
				if want := macOf(lb.AddrFrom(netip.MustParseAddrPort(c.Server).Addr())); [6]byte(v.DstMAC) != want {
					return fmt.Errorf("the frame goes to %s, in IPVS to %s", v.DstMAC, c.Server)
				}
			}
		}
	}
	return nil
}

// command carries out a recorded ipvsadm command and compares how it ended.
func (r *replay) command(st *connStep) error {
	err := r.ipvsadm(st.Args)
	var refused *ipvsadm.Error
	switch {
	case err == nil && st.Exit != 0:
		return fmt.Errorf("accepted, in IPVS exit %d, %q", st.Exit, st.Stderr)
	case errors.As(err, &refused) && refused.Status == st.Exit && strings.TrimSpace(refused.Text) == strings.TrimSpace(st.Stderr):
		return nil
	}
	return err
}

// sameConns compares the whole table; a timer may be off by the second that the recording's and weir's clocks round away.
func (r *replay) sameConns(recorded []recordedConn) error {
	got := r.table()
	want := append([]recordedConn{}, recorded...)
	sortConns(want)
	if len(got) == len(want) {
		for i := range got {
			if d := got[i].Expires - want[i].Expires; d >= -1 && d <= 1 {
				want[i].Expires = got[i].Expires
			}
		}
	}
	return same("connections", got, want)
}
