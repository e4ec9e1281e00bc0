package control_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"weir/internal/testpkt"
	"weir/lb"
)

// schedScenario is a scenario of the recorded schedulers: which server a real IPVS (Linux 6.1) chose, packet by packet.
type schedScenario struct {
	Name         string
	Services     []schedService
	InitialState json.RawMessage `json:"initial_state"`
	FinalState   json.RawMessage `json:"final_state"`
	Steps        []schedStep
}

type schedService struct {
	Scheduler, Flags string
	Proto, Addr      string
	Port             uint16
	FWMark           uint32
	AF               string
	Servers          []struct {
		Addr         string
		Port         uint16
		Weight       int32
		Upper, Lower uint32
	}
}

type schedStep struct {
	Op           string
	Proto, Flags string
	Src, Dst     string
	Sport, Dport uint16
	Mark         uint32
	Expect       string
	ToClient     []string `json:"to_client"`
	Args         string
	State        json.RawMessage
}

// TestRecordedSchedulers plays every recorded scenario about schedulers, with real frames through a whole director.
func TestRecordedSchedulers(t *testing.T) {
	paths, err := filepath.Glob("../sched/testdata/*.json.gz")
	if err != nil || len(paths) < 20 {
		t.Fatalf("recordings %v, %v", paths, err)
	}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".json.gz")
		if name == "twos" {
			continue // counts only: TestTwosSharesAsRecorded
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var rec struct {
				Format    string
				Scenarios []schedScenario
			}
			readRecording(t, path, &rec)
			if rec.Format != "ipvs-sched-1" || len(rec.Scenarios) == 0 {
				t.Fatalf("format %q with %d scenarios", rec.Format, len(rec.Scenarios))
			}
			for i := range rec.Scenarios {
				sc := &rec.Scenarios[i]
				t.Run(sc.Name, func(t *testing.T) {
					if err := playScheduler(t, sc); err != nil {
						t.Error(err)
					}
				})
			}
		})
	}
}

// command returns the service in ipvsadm's words.
func (s *schedService) command() string {
	if s.FWMark != 0 {
		if s.AF == "inet6" {
			return fmt.Sprintf("-f %d -6", s.FWMark)
		}
		return fmt.Sprintf("-f %d", s.FWMark)
	}
	addr := s.Addr
	if strings.Contains(addr, ":") {
		addr = "[" + addr + "]"
	}
	return fmt.Sprintf("-%c %s:%d", s.Proto[0], addr, s.Port)
}

func (sc *schedScenario) config() []string {
	var lines []string
	for i := range sc.Services {
		s := &sc.Services[i]
		line := fmt.Sprintf("-A %s -s %s", s.command(), s.Scheduler)
		if s.Flags != "" {
			line += " -b " + s.Flags
		}
		lines = append(lines, line)
		for _, v := range s.Servers {
			addr, err := netip.ParseAddr(v.Addr)
			if err != nil {
				panic(err)
			}
			lines = append(lines, fmt.Sprintf("-a %s -r %s -m -w %d -x %d -y %d", s.command(), netip.AddrPortFrom(addr, v.Port), v.Weight, v.Upper, v.Lower))
		}
	}
	return lines
}

func playScheduler(t *testing.T, sc *schedScenario) error {
	r, err := newReplay(t, nil, sc.config()...)
	if err != nil {
		return err
	}
	states := newStateCheck(r, sc)
	if err := states.same(sc.InitialState); err != nil {
		return fmt.Errorf("at first: %w", err)
	}
	for i := range sc.Steps {
		st := &sc.Steps[i]
		switch st.Op {
		case "conn", "pkt":
			err = r.choice(st)
		case "weight", "add", "remove", "scheduler":
			err = r.ipvsadm(st.Args)
		default:
			err = fmt.Errorf("unknown operation")
		}
		if err == nil && st.State != nil {
			err = states.same(st.State)
		}
		if err != nil {
			return fmt.Errorf("step %d, %s %s %s:%d->%s:%d %s%s: %w", i, st.Op, st.Proto, st.Src, st.Sport, st.Dst, st.Dport, st.Flags, st.Args, err)
		}
	}
	if err := states.same(sc.FinalState); err != nil {
		return fmt.Errorf("at last: %w", err)
	}
	return nil
}

// choice sends a client's packet and compares where it goes, and what the client hears if it goes nowhere.
func (r *replay) choice(st *schedStep) error {
	src, err := netip.ParseAddr(st.Src)
	if err != nil {
		return err
	}
	dst, err := netip.ParseAddr(st.Dst)
	if err != nil {
		return err
	}
	from, to := netip.AddrPortFrom(src, st.Sport), netip.AddrPortFrom(dst, st.Dport)
	flags := st.Flags
	if st.Op == "conn" {
		flags = "S"
	}
	r.mark(st.Mark, from, to)
	servers, clients, err := r.arrive(0, segment(st.Proto, flags, from, to).Bytes())
	if err != nil {
		return err
	}
	got := "none"
	if len(servers) == 1 {
		got = servers[0].Dst.String()
	}
	if len(servers) > 1 || got != st.Expect {
		return fmt.Errorf("goes to %s (%d frames), in IPVS to %s", got, len(servers), st.Expect)
	}
	var heard []string
	for _, v := range clients {
		heard = append(heard, whatClientHears(v))
	}
	return same("to the client", heard, st.ToClient)
}

// whatClientHears is a frame to a client in the words of the schedulers' recordings.
func whatClientHears(v *testpkt.View) string {
	switch v.Proto {
	case 1:
		return fmt.Sprintf("icmp %d/%d", v.ICMPType, v.ICMPCode)
	case 58:
		return fmt.Sprintf("icmpv6 %d/%d", v.ICMPType, v.ICMPCode)
	}
	return "tcp None/None" // the kernel's RST
}

// stateCheck compares servers, their order, weights and counts with recorded ones.
type stateCheck struct {
	*replay
	names []string // of the services, in the scenario's order
	// orders are the orders in which the kernel may list two services: by its hash, which differs from boot to boot, so it
	// is found out by leaving those out that a recorded state contradicts.
	orders [][]int
}

func newStateCheck(r *replay, sc *schedScenario) *stateCheck {
	c := &stateCheck{replay: r, orders: [][]int{{0}}}
	if len(sc.Services) == 2 {
		c.orders = [][]int{{0, 1}, {1, 0}}
	}
	for i := range sc.Services {
		s := &sc.Services[i]
		if s.FWMark != 0 {
			c.names = append(c.names, fmt.Sprintf("FWM %08X", s.FWMark))
			continue
		}
		proto := map[string]lb.Proto{"tcp": lb.TCP, "udp": lb.UDP}[s.Proto]
		c.names = append(c.names, serviceName(&lb.ServiceKey{Proto: proto, Addr: lb.MustParseAddr(s.Addr), Port: s.Port}))
	}
	return c
}

// same compares with a list of [server, weight, active, inactive], or a list of such lists with several services.
func (c *stateCheck) same(state json.RawMessage) error {
	recorded := make([][]any, 1)
	into := any(&recorded[0])
	if len(c.names) > 1 {
		into = &recorded
	}
	if err := json.Unmarshal(state, into); err != nil {
		return err
	}
	got := make([][]any, len(c.names))
	for name, rows := range c.servers() {
		for i, begin := range c.names {
			if strings.HasPrefix(name, begin+" ") {
				got[i] = rows
			}
		}
	}
	c.orders = slices.DeleteFunc(c.orders, func(order []int) bool {
		return slices.ContainsFunc(order, func(i int) bool { return !reflect.DeepEqual(got[order[i]], recorded[i]) })
	})
	if len(c.orders) == 0 {
		return same("servers", got, recorded)
	}
	return nil
}
