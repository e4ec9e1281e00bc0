package dataplane

import (
	"fmt"
	"slices"
	"testing"

	"weir/lb"
	"weir/sched"
)

func server(slot, incarnation uint32) *Server { return &Server{ID: lb.NewServerID(slot, incarnation)} }

func flow(dst string, port uint16, proto lb.Proto) *lb.Flow {
	return &lb.Flow{Src: lb.MustParseAddr("198.51.100.7"), SrcPort: 1000, Dst: lb.MustParseAddr(dst), DstPort: port, Proto: proto}
}

func TestAServiceIsFoundByMarkThenPortThenAddress(t *testing.T) {
	vip := lb.MustParseAddr("192.0.2.10")
	edit := NewTable().Edit()
	for _, key := range []lb.ServiceKey{
		{Addr: vip, Port: 80, Proto: lb.TCP}, {Addr: vip, Proto: lb.TCP}, {Addr: vip, Port: 80, Proto: lb.UDP}, {Mark: 7},
	} {
		edit.SetService(&Service{Key: key})
	}
	rule := func(text string) lb.MarkRule {
		r, err := lb.ParseMarkRule(text)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	edit.SetMarks([]lb.MarkRule{rule("7 tcp 192.0.2.10:8000-8099 198.51.100.0/24"), rule("8 any 192.0.2.0/24:53"), rule("7 any 192.0.2.0/24:53")})
	table := edit.Table()
	for name, c := range map[string]struct {
		flow *lb.Flow
		want string
	}{
		"its own port":                         {flow("192.0.2.10", 80, lb.TCP), "TCP 192.0.2.10:80"},
		"any port":                             {flow("192.0.2.10", 81, lb.TCP), "TCP 192.0.2.10:0"},
		"the other protocol":                   {flow("192.0.2.10", 80, lb.UDP), "UDP 192.0.2.10:80"},
		"no any-port service of this protocol": {flow("192.0.2.10", 81, lb.UDP), "none"},
		"another address":                      {flow("192.0.2.11", 80, lb.TCP), "none"},
		"a mark goes first":                    {flow("192.0.2.10", 8050, lb.TCP), "FWM 7"},
		"a port past the mark's":               {flow("192.0.2.10", 8100, lb.TCP), "TCP 192.0.2.10:0"},
		"the first rule that matches decides, though its mark has no service": {flow("192.0.2.99", 53, lb.UDP), "none"},
	} {
		got := "none"
		if s := table.Service(c.flow); s != nil {
			got = s.Key.String()
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestAnEditLeavesTheTableBeforeItAlone(t *testing.T) {
	key := lb.ServiceKey{Addr: lb.MustParseAddr("192.0.2.10"), Port: 80, Proto: lb.TCP}
	edit := NewTable().Edit()
	first := server(5, 0)
	edit.SetServer(first)
	edit.SetServer(server(1000, 0))
	edit.SetService(&Service{Key: key})
	before := edit.Table()

	edit = before.Edit()
	edit.SetServer(server(5, 1))
	edit.RemoveServer(lb.NewServerID(1000, 0))
	edit.RemoveService(key)
	edit.CountNAT(lb.TCP, key.Addr, 80, 1)
	after := edit.Table()

	f := flow("192.0.2.10", 80, lb.TCP)
	if before.Server(first.ID) == nil || before.Server(lb.NewServerID(1000, 0)) == nil || before.Service(f) == nil {
		t.Error("the table before the edit lost something")
	}
	if after.Server(first.ID) != nil || after.Server(lb.NewServerID(5, 1)) == nil {
		t.Error("a slot's new owner is found under the old one's ID, or not under its own")
	}
	if after.Server(lb.NewServerID(1000, 0)) != nil || after.Service(f) != nil {
		t.Error("what was removed is still there")
	}
	answer := f.Reverse()
	if before.isNATServer(&answer) || !after.isNATServer(&answer) {
		t.Error("NAT servers are mixed up between the tables")
	}
	if after.Server(lb.NewServerID(lb.MaxServers-1, 0)) != nil {
		t.Error("a server past the last page")
	}
}

// recorder is a scheduler that notes which lists it was shown.
type recorder struct{ seen []int }

func (r *recorder) Update(l *sched.List)              { r.seen = append(r.seen, len(l.Servers)) }
func (r *recorder) Pick(*sched.Request) *sched.Server { return nil }

func TestAPickerSeesEveryVersionOnceAndInOrder(t *testing.T) {
	r := &recorder{}
	p := NewPicker(r)
	list := func(n int) *sched.List { return &sched.List{Servers: make([]*sched.Server, n)} }
	versions := AppendVersion(nil, list(0))
	old := &Service{Versions: versions}
	versions = AppendVersion(AppendVersion(versions, list(1)), list(2))
	now := &Service{Versions: versions}
	p.pick(old, sched.Request{})
	p.pick(now, sched.Request{})
	p.pick(now, sched.Request{})
	p.pick(old, sched.Request{}) // a worker with an older table
	if !slices.Equal(r.seen, []int{0, 1, 2}) {
		t.Errorf("seen %v, want 0 1 2", r.seen)
	}
	for n := 3; n < 100; n++ {
		versions = AppendVersion(versions, list(n))
	}
	p.pick(&Service{Versions: versions}, sched.Request{})
	if len(versions) != maxVersions || r.seen[3] != 100-maxVersions || r.seen[len(r.seen)-1] != 99 {
		t.Errorf("of a long run: %d versions kept, seen %v", len(versions), r.seen[3:])
	}
}

func TestCountersAddUpWordByWord(t *testing.T) {
	var a, b Counters
	for i, w := range a.words() {
		*w = uint64(i + 1)
	}
	b.Add(a)
	b.Add(a)
	for i, w := range b.words() {
		if *w != 2*uint64(i+1) {
			t.Errorf("word %d is %d", i, *w)
		}
	}
	var s shared
	s.show(&b)
	if got := s.read(); got != b {
		t.Errorf("shown %+v, want %+v", got, b)
	}
}

func TestTrafficIsShownAtTheBatchsEndAndAddsUpOverWorkers(t *testing.T) {
	s := NewShared(nil, func() uint32 { return 1 })
	var early, late meters
	s.join(&early)
	ids := []lb.ServerID{lb.NewServerID(1, 0), lb.NewServerID(2, 3), lb.NewServerID(70_000, 1)}
	for _, id := range ids {
		s.Meter(id)
	}
	s.join(&late)
	for i, id := range ids {
		for _, m := range []*meters{&early, &late} {
			m.cell(id).InPackets += uint64(i + 1)
			m.cell(id).OutBytes += 100
		}
	}
	if got := s.Traffic(ids[0]); got != (Traffic{}) {
		t.Errorf("before the batch's end: %+v", got)
	}
	early.show()
	late.show()
	for i, id := range ids {
		if got, want := s.Traffic(id), (Traffic{InPackets: 2 * uint64(i+1), OutBytes: 200}); got != want {
			t.Errorf("server %s: %+v, want %+v", id, got, want)
		}
	}
	if len(early.changed) != 0 {
		t.Error("what was shown is shown again")
	}
}

func TestClientTagsTellPathsApart(t *testing.T) {
	seen := map[uint16]string{}
	look := func(mac uint64, iface int, vlans lb.VLANs) {
		name, tag := fmt.Sprint(mac, iface, vlans), clientTag(mac, iface, vlans)
		if other, taken := seen[tag]; taken {
			t.Errorf("%s and %s have one tag", name, other)
		}
		seen[tag] = name
	}
	for iface := range 4 {
		for last := range 64 {
			look(2|uint64(last)<<40, iface, 0)
		}
	}
	clear(seen)
	for id := range uint16(40) {
		one := lb.VLANs(0).Push(lb.CustomerTag, 100+id)
		look(2, 0, one)
		look(2, 1, one)
		look(2, 0, one.Push(lb.CustomerTag, 7))
		look(2, 0, lb.VLANs(0).Push(lb.ServiceTag, 100+id).Push(lb.CustomerTag, 7))
	}
}
