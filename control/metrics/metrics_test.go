package metrics

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"weir/control/api"
	"weir/ipvsadm"
	"weir/lb"
)

// full is a source with something of everything.
type full struct{}

func (full) Status() api.Status {
	return api.Status{
		Version: "1.0", Uptime: 5, Workers: []api.Worker{{Received: 9, CPU: 0.5}}, Stops: []api.Stop{{Reason: "no-server", Packets: 3}, {Reason: "not-ip", Packets: 2, ToHost: true}},
		Interfaces: []api.Interface{{Name: "eth0", XDP: "native", LinkDown: 4}}, Table: api.Table{Capacity: 100, Used: 7, Refused: map[string]uint64{"table full": 1}},
		Unreachable: []api.Unreachable{{}}, Packets: api.Packets{Received: 11, ToServer: 6},
	}
}

func (full) Listing() ipvsadm.Listing {
	return ipvsadm.Listing{Services: []ipvsadm.ListedService{
		{
			Service: ipvsadm.Service{Service: lb.Service{Key: lb.ServiceKey{Proto: lb.TCP, Addr: lb.MustParseAddr("192.0.2.1"), Port: 80},
				Servers: []lb.Server{{Addr: lb.MustParseAddr("2001:db8::1"), Port: 8080, Mode: lb.NAT, Weight: 3}}}},
			Total:   ipvsadm.Traffic{Conns: 1, InPackets: 2, OutPackets: 3, InBytes: 4, OutBytes: 5},
			Servers: []ipvsadm.ServerLoad{{Active: 6, Inactive: 7, Total: ipvsadm.Traffic{OutBytes: 8}}},
		},
		{Service: ipvsadm.Service{Service: lb.Service{Key: lb.ServiceKey{Mark: 7}}}},
		{Service: ipvsadm.Service{Service: lb.Service{Key: lb.ServiceKey{Mark: 7, Is6: true}}}},
	}}
}

func TestNamesFollowPrometheussConventions(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(collector{full{}})
	g := gatherer{r, full{}}
	problems, err := testutil.GatherAndLint(g)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	families, err := g.Gather()
	if want := len(all) + len(ofServices) + len(ofServers); err != nil || len(families) != want {
		t.Errorf("%d families, want all %d: %v", len(families), want, err)
	}
	// A registry of registries looks at everything that one alone would look at: order, names, labels that are there twice.
	if _, err := (prometheus.Gatherers{g}).Gather(); err != nil {
		t.Error(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			if !slices.IsSortedFunc(m.Label, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) }) {
				t.Errorf("%s: labels in the order %v", f.GetName(), m.Label)
			}
		}
	}
	if !slices.IsSortedFunc(families, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) }) {
		t.Error("the families are not in order")
	}
}

// large is a source of many servers.
type large struct {
	full
	services, servers int
}

func (l large) Listing() ipvsadm.Listing {
	out := ipvsadm.Listing{Services: make([]ipvsadm.ListedService, l.services)}
	for i := range out.Services {
		s := &out.Services[i]
		s.Service.Key = lb.ServiceKey{Proto: lb.TCP, Addr: lb.AddrFrom4(0xc6120000 + uint32(i)), Port: 80}
		for j := range l.servers {
			s.Service.Servers = append(s.Service.Servers, lb.Server{Addr: lb.AddrFrom4(0x0a800000 + uint32(i*l.servers+j)), Port: 8080, Mode: lb.NAT, Weight: 5})
		}
		s.Servers = make([]ipvsadm.ServerLoad, l.servers)
	}
	return out
}

func BenchmarkScrape(b *testing.B) {
	h := Handler(large{services: 10_000, servers: 10}, func() error { return nil })
	for b.Loop() {
		w := discard{http.Header{}, new(int64)}
		h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		b.SetBytes(*w.n)
	}
}

// discard is a client that reads fast.
type discard struct {
	header http.Header
	n      *int64
}

func (d discard) Header() http.Header { return d.header }
func (d discard) WriteHeader(int)     {}
func (d discard) Write(b []byte) (int, error) {
	*d.n += int64(len(b))
	return len(b), nil
}

func TestHandler(t *testing.T) {
	ready := errors.New("not yet")
	h := Handler(full{}, func() error { return ready })
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w.Code, w.Body.String()
	}
	code, text := get("/metrics")
	for _, want := range []string{
		`weir_service_connections_total{protocol="tcp",service="192.0.2.1:80"} 1`,
		`weir_service_packets_total{direction="in",protocol="mark6",service="7"} 0`,
		`weir_server_bytes_total{direction="out",protocol="tcp",server="[2001:db8::1]:8080",service="192.0.2.1:80"} 8`,
		`weir_server_weight{protocol="tcp",server="[2001:db8::1]:8080",service="192.0.2.1:80"} 3`,
		`weir_stopped_packets_total{kernel="true",reason="not-ip"} 2`,
		`weir_connection_table_refused_total{reason="table-full"} 1`,
		`weir_interface_lost_packets_total{interface="eth0",reason="link-down"} 4`,
		`go_goroutines `,
	} {
		if code != 200 || !strings.Contains(text, want) {
			t.Errorf("%d, no %s in\n%s", code, want, text)
		}
	}
	if code, text = get("/healthz"); code != 200 {
		t.Errorf("%d %s", code, text)
	}
	if code, text = get("/readyz"); code != 503 || text != "not yet\n" {
		t.Errorf("%d %s", code, text)
	}
	ready = nil
	if code, _ = get("/readyz"); code != 200 {
		t.Errorf("%d", code)
	}
	if code, _ = get("/v1/status"); code != 404 {
		t.Errorf("the admin API is here too: %d", code)
	}
}
