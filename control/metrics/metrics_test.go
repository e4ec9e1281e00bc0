package metrics

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

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
	problems, err := testutil.GatherAndLint(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	families, err := r.Gather()
	if err != nil || len(families) != len(all) {
		t.Errorf("%d families, want all %d: %v", len(families), len(all), err)
	}
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
