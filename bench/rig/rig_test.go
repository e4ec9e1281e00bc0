package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/internal/testpkt"
	"weir/lb"
)

// programs are built once, for all tests.
var programs Programs

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "weir-rig")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		build := exec.Command("go", "build", "-o", dir, "weir/cmd/weir", "weir/cmd/weiradm", "weir/bench/bare")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			panic(err)
		}
		programs = Programs{Weir: filepath.Join(dir, "weir"), Weiradm: filepath.Join(dir, "weiradm"), Bare: filepath.Join(dir, "bare")}
		return m.Run()
	}())
}

// The rate is low enough for a busy machine; how fast anything is, is not asked here.
func TestEveryModeOfWeirArrivesRight(t *testing.T) {
	for _, mode := range everyMode {
		for _, arms := range []int{1, 2} {
			load := DefaultLoad(150 * time.Millisecond)
			load.Layout, load.Mode, load.Arms, load.Rate, load.Flows = OneCPU, mode, arms, 20_000, 200
			s, err := Trial(t.Context(), Weir(programs.Weir, "weir"), load)
			if err != nil {
				t.Errorf("%s: %v", load, err)
				continue
			}
			if s.Checked == 0 || s.Forwarded == 0 || s.Offered == 0 || s.Latency.Count == 0 || s.Own == 0 {
				t.Errorf("%s: %+v", load, s)
			}
		}
	}
}

func TestIPv6ArrivesRight(t *testing.T) {
	for _, mode := range everyMode {
		for _, traffic := range []Traffic{UDP, TCPMix} {
			load := DefaultLoad(150 * time.Millisecond)
			load.Layout, load.Mode, load.IPv6, load.Traffic, load.Size, load.Rate, load.Flows = OneCPU, mode, true, traffic, LeastIPv6, 20_000, 200
			s, err := Trial(t.Context(), Weir(programs.Weir, "weir"), load)
			if err != nil || s.Checked == 0 || s.Forwarded == 0 {
				t.Errorf("%s: %+v, %v", load, s, err)
			}
		}
	}
	load := Load{Mode: lb.DR, IPv6: true, Traffic: UDP}
	if all := For(programs, load); len(all) != 1 || all[0].Name != "weir" {
		t.Errorf("%d candidates for IPv6", len(all))
	}
}

func TestEveryPeerArrivesRight(t *testing.T) {
	for _, mode := range []lb.Mode{lb.DR, lb.NAT, lb.FULLNAT} {
		for _, c := range All(programs, mode, UDP) {
			if c.Name == "weir" {
				continue
			}
			load := DefaultLoad(150 * time.Millisecond)
			load.Layout, load.Mode, load.Rate, load.Flows = OneCPU, mode, 20_000, 200
			if s, err := Trial(t.Context(), c, load); err != nil || s.Checked == 0 {
				t.Errorf("%s, %s: %+v, %v", load, c.Name, s, err)
			}
		}
	}
}

func TestEveryTrafficArrivesRight(t *testing.T) {
	for _, traffic := range Traffics {
		for _, size := range []int{IMIX, 1518} {
			load := DefaultLoad(500 * time.Millisecond)
			load.Layout, load.Mode, load.Traffic, load.Size, load.Rate, load.Flows = OneCPU, lb.TUN, traffic, size, 10_000, 200
			if s, err := Trial(t.Context(), Weir(programs.Weir, "weir"), load); err != nil || s.Checked == 0 || s.Latency.Count == 0 {
				t.Errorf("%s: %+v, %v", load, s, err)
			}
		}
		load := DefaultLoad(500 * time.Millisecond)
		load.Layout, load.Traffic, load.Size, load.Rate, load.Flows = OneCPU, traffic, IMIX, 10_000, 200
		if s, err := Trial(t.Context(), StatelessDR, load); err != nil || s.Checked == 0 {
			t.Errorf("%s, %s: %+v, %v", load, StatelessDR.Name, s, err)
		}
	}
}

func TestWhatIsWrongOnArrivalIsSeen(t *testing.T) {
	servers := serverList(2)
	good := testpkt.UDP(firstClient, vip).Payload(make([]byte, 18))
	at := func(a string) testpkt.Packet {
		return testpkt.UDP(firstClient, netip.MustParseAddrPort(a)).Payload(make([]byte, 18))
	}
	for name, c := range map[string]struct {
		mode   lb.Mode
		packet testpkt.Packet
		ok     bool
	}{
		"DR, unchanged":                         {lb.DR, good, true},
		"DR, another size":                      {lb.DR, good.Payload(make([]byte, 19)), false},
		"DR, another protocol":                  {lb.DR, testpkt.TCP(firstClient, vip, testpkt.ACK).Size(60), false},
		"DR, to another port":                   {lb.DR, at("192.0.2.10:54"), false},
		"NAT, to the server":                    {lb.NAT, at("10.0.0.11:5353"), true},
		"NAT, to the other server":              {lb.NAT, at("10.0.0.12:5353"), false},
		"NAT, not translated":                   {lb.NAT, good, false},
		"FULLNAT, still from the client":        {lb.FULLNAT, at("10.0.0.11:5353"), false},
		"FULLNAT, from a local address":         {lb.FULLNAT, testpkt.UDP(netip.MustParseAddrPort("10.0.0.254:2000"), netip.MustParseAddrPort("10.0.0.11:5353")).Payload(make([]byte, 18)), true},
		"TUN, without a tunnel":                 {lb.TUN, good, false},
		"TUN, in a tunnel to the server":        {lb.TUN, good.Via(netip.MustParseAddrPort("10.0.0.1:0").Addr(), servers[0].addr), true},
		"TUN, in a tunnel to the other server":  {lb.TUN, good.Via(netip.MustParseAddrPort("10.0.0.1:0").Addr(), servers[1].addr), false},
		"TUN, in a tunnel from another address": {lb.TUN, good.Via(netip.MustParseAddrPort("10.0.0.9:0").Addr(), servers[0].addr), false},
	} {
		s := &setting{Load: Load{Mode: c.mode, Traffic: UDP, Size: 64}, listed: servers}
		v := testpkt.Decode(t, c.packet.Bytes())
		if err := s.right(&v.IP, servers[0]); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	broken := good.Bytes()
	broken[len(broken)-1] ^= 1
	s := &setting{Load: Load{Mode: lb.DR, Traffic: UDP, Size: 64}, listed: servers}
	if v := testpkt.Decode(t, broken); s.right(&v.IP, servers[0]) == nil {
		t.Error("a broken checksum is not seen")
	}
}

func TestAnInterruptedSuiteReportsWhatThereIs(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	load := DefaultLoad(100 * time.Millisecond)
	load.Layout, load.Rate = OneCPU, 20_000
	suite := Suite{Plan: []Comparison{{load, named(All(programs, lb.DR, UDP), "redirect", "weir")}}, Runs: 3}
	trials := 0
	report, err := suite.Run(ctx, func(string) {
		if trials++; trials == 2 {
			cancel()
		}
	})
	if err == nil || len(report.Series) != 2 || len(report.Series[0].Samples) != 1 || len(report.Series[1].Samples) != 0 {
		t.Fatalf("%v, %+v", err, report)
	}
	var table, asJSON bytes.Buffer
	report.Print(&table)
	if out := table.String(); !strings.Contains(out, "XDP redirect") || strings.Contains(out, "weir") {
		t.Errorf("the table is\n%s", out)
	}
	if err := report.JSON(&asJSON); err != nil {
		t.Fatal(err)
	}
	var again Report
	if err := json.Unmarshal(asJSON.Bytes(), &again); err != nil || again.Series[0].Samples[0].Forwarded != report.Series[0].Samples[0].Forwarded {
		t.Errorf("%v in\n%s", err, asJSON.String())
	}
}

func TestMedians(t *testing.T) {
	for _, c := range []struct {
		of   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{5, 1, 3}, 3}, {[]float64{4, 1, 3, 2}, 2.5}} {
		if got := median(c.of); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.of, got, c.want)
		}
	}
}
