package sched

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"weir/lb"
)

// recording is a file of testdata: what a real IPVS (Linux 6.1) chose, packet by packet.
type recording struct {
	Format    string
	Scheduler string
	Flags     string
	Scenarios []scenario
}

type scenario struct {
	Name         string
	Services     []recordedService
	InitialState json.RawMessage `json:"initial_state"`
	FinalState   json.RawMessage `json:"final_state"`
	Steps        []step
}

type recordedService struct {
	Scheduler, Flags string
	Proto, Addr      string
	Port             uint16
	FWMark           uint32
	Servers          []struct {
		Addr         string
		Port         uint16
		Weight       int32
		Upper, Lower uint32
	}
}

type step struct {
	Op           string
	Proto        string
	Src, Dst     string
	Sport, Dport uint16
	Mark         uint32
	Flags        string
	Expect       string
	Service      int
	Server       string
	Weight       int32
	Scheduler    string
	Args         string
	State        json.RawMessage
}

// readGzip decodes a file of testdata.
func readGzip(t testing.TB, path string, into any) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(z).Decode(into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// TestRecordings replays every recording of a scheduler, with nothing left out.
func TestRecordings(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	replayed := map[string]bool{"twos": true} // counts only: TestTwosRecording
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".json.gz")
		if name == "twos" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var rec recording
			readGzip(t, path, &rec)
			if rec.Format != "ipvs-sched-1" || len(rec.Scenarios) == 0 {
				t.Fatalf("format %q with %d scenarios", rec.Format, len(rec.Scenarios))
			}
			for i := range rec.Scenarios {
				sc := &rec.Scenarios[i]
				t.Run(sc.Name, func(t *testing.T) { replay(t, sc) })
			}
		})
		scheduler, _, _ := strings.Cut(name, "-")
		replayed[scheduler] = true
	}
	for _, name := range Names() {
		if !replayed[name] && name != "maglev" { // maglev is not IPVS's
			t.Errorf("%s has no recording", name)
		}
	}
}

// replay walks one scenario's steps and stops at the first that went otherwise than in IPVS.
func replay(t *testing.T, sc *scenario) {
	m := newModel(t, sc)
	m.checkState(t, "initial state", sc.InitialState)
	for i := range sc.Steps {
		st := &sc.Steps[i]
		what := fmt.Sprintf("step %d, %s %s", i, st.Op, st.Args)
		switch st.Op {
		case "conn", "pkt":
			flow := st.flow(t)
			what = fmt.Sprintf("step %d, %s %s %q", i, st.Op, flow, st.Flags)
			tcpFlags := st.Flags
			if st.Op == "conn" && flow.Proto == lb.TCP {
				tcpFlags = "S"
			}
			if got := m.packet(flow, st.Mark, tcpFlags); got != st.Expect {
				t.Fatalf("%s: goes to %s, in IPVS to %s", what, got, st.Expect)
			}
		case "add":
			m.add(m.services[st.Service], st.server(t), st.Weight, st.option(t, "-x"), st.option(t, "-y"))
		case "remove":
			m.remove(m.services[st.Service], st.server(t))
		case "weight":
			m.edit(m.services[st.Service], st.server(t), st.Weight, st.option(t, "-x"), st.option(t, "-y"))
		case "scheduler":
			m.services[st.Service].use(t, st.Scheduler, st.Flags)
		default:
			t.Fatalf("%s: unknown operation", what)
		}
		if st.State != nil {
			m.checkState(t, what, st.State)
		}
	}
	m.checkState(t, "final state", sc.FinalState)
}

func (st *step) flow(t *testing.T) lb.Flow {
	proto, ok := map[string]lb.Proto{"tcp": lb.TCP, "udp": lb.UDP}[st.Proto]
	if !ok {
		t.Fatalf("protocol %q", st.Proto)
	}
	return lb.Flow{Src: lb.MustParseAddr(st.Src), Dst: lb.MustParseAddr(st.Dst), SrcPort: st.Sport, DstPort: st.Dport, Proto: proto}
}

func (st *step) server(t *testing.T) serverAddr {
	a, err := netip.ParseAddrPort(st.Server)
	if err != nil {
		t.Fatal(err)
	}
	return serverAddr{lb.AddrFrom(a.Addr()), a.Port()}
}

// option returns the number that ipvsadm was given with a flag, 0 without the flag.
func (st *step) option(t *testing.T, flag string) uint32 {
	words := strings.Fields(st.Args)
	for i, w := range words {
		if w != flag {
			continue
		}
		n, err := strconv.ParseUint(words[i+1], 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		return uint32(n)
	}
	return 0
}
