package metrics

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"weir/ipvsadm"
	"weir/lb"
)

// gatherer adds the families of services and servers to those of a registry. They may have a million metrics: the registry takes five
// allocations and several microseconds for each, and sorts them. These here are made in order, all values of a family in one piece of memory.
type gatherer struct {
	registry *prometheus.Registry
	source   Source
}

// Gather implements prometheus.Gatherer.
func (g gatherer) Gather() ([]*dto.MetricFamily, error) {
	families, err := g.registry.Gather()
	l := g.source.Listing()
	families = slices.Concat(families, manyOf(&l))
	slices.SortFunc(families, func(a, b *dto.MetricFamily) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return families, err
}

// many is a family with a metric, or one of each direction, for every service or server.
type many struct {
	name, help string
	kind       dto.MetricType
	value      func(*one) uint64
	out        func(*one) uint64 // for direction "out", value being "in"; nil: there is no direction
}

// one is a service, or a server of it.
type one struct {
	labels []*dto.LabelPair // by name
	total  ipvsadm.Traffic
	load   ipvsadm.ServerLoad
	weight int32
}

const (
	counts   = dto.MetricType_COUNTER
	measures = dto.MetricType_GAUGE

	packetsHelp = "Packets forwarded, in: from clients, out: to them."
	bytesHelp   = "Bytes of IP forwarded, in: from clients, out: to them."
)

func conns(s *one) uint64      { return s.total.Conns }
func inPackets(s *one) uint64  { return s.total.InPackets }
func outPackets(s *one) uint64 { return s.total.OutPackets }
func inBytes(s *one) uint64    { return s.total.InBytes }
func outBytes(s *one) uint64   { return s.total.OutBytes }

var ofServices = []many{
	{"service_connections_total", "Connections opened.", counts, conns, nil},
	{"service_packets_total", packetsHelp, counts, inPackets, outPackets},
	{"service_bytes_total", bytesHelp, counts, inBytes, outBytes},
}

var ofServers = []many{
	{"server_connections_total", "Connections opened.", counts, conns, nil},
	{"server_packets_total", packetsHelp, counts, inPackets, outPackets},
	{"server_bytes_total", bytesHelp, counts, inBytes, outBytes},
	{"server_connections_active", "Connections in an active state.", measures, func(s *one) uint64 { return uint64(s.load.Active) }, nil},
	{"server_connections_inactive", "All other connections.", measures, func(s *one) uint64 { return uint64(s.load.Inactive) }, nil},
	{"server_weight", "Weight as configured; 0 gets no new connections.", measures, func(s *one) uint64 { return uint64(s.weight) }, nil},
}

// manyOf returns the families of a listing, but for those without a metric.
func manyOf(l *ipvsadm.Listing) (families []*dto.MetricFamily) {
	n := 0
	for i := range l.Services {
		n += len(l.Services[i].Service.Servers)
	}
	services, servers := make([]one, 0, len(l.Services)), make([]one, 0, n)
	for i := range l.Services {
		s := &l.Services[i]
		protocol, service := serviceLabels(s.Service.Key)
		services = append(services, one{labels: []*dto.LabelPair{protocol, service}, total: s.Total})
		for j := range s.Service.Servers {
			v := &s.Service.Servers[j]
			o := one{labels: []*dto.LabelPair{protocol, label("server", netip.AddrPortFrom(v.Addr.Netip(), v.Port).String()), service}, weight: v.Weight}
			if j < len(s.Servers) {
				o.load = s.Servers[j]
				o.total = o.load.Total
			}
			servers = append(servers, o)
		}
	}
	for _, f := range ofServices {
		families = append(families, f.family(services))
	}
	for _, f := range ofServers {
		families = append(families, f.family(servers))
	}
	return slices.DeleteFunc(families, func(f *dto.MetricFamily) bool { return len(f.Metric) == 0 })
}

func serviceLabels(k lb.ServiceKey) (protocol, service *dto.LabelPair) {
	switch {
	case k.Mark != 0 && k.Is6:
		return label("protocol", "mark6"), label("service", strconv.FormatUint(uint64(k.Mark), 10))
	case k.Mark != 0:
		return label("protocol", "mark"), label("service", strconv.FormatUint(uint64(k.Mark), 10))
	}
	return label("protocol", strings.ToLower(k.Proto.String())), label("service", netip.AddrPortFrom(k.Addr.Netip(), k.Port).String())
}

func label(name, value string) *dto.LabelPair { return &dto.LabelPair{Name: &name, Value: &value} }

var directions = []*dto.LabelPair{label("direction", "in"), label("direction", "out")}

// family makes the metrics of all.
func (f *many) family(all []one) *dto.MetricFamily {
	name := "weir_" + f.name
	values := []func(*one) uint64{f.value}
	if f.out != nil {
		values = append(values, f.out)
	}
	n := len(values) * len(all)
	metrics, numbers := make([]dto.Metric, n), make([]float64, n)
	family := &dto.MetricFamily{Name: &name, Help: &f.help, Type: &f.kind, Metric: make([]*dto.Metric, n)}
	counters, gauges := []dto.Counter(nil), []dto.Gauge(nil)
	if f.kind == counts {
		counters = make([]dto.Counter, n)
	} else {
		gauges = make([]dto.Gauge, n)
	}
	labels := make([]*dto.LabelPair, 0, n*4)
	for i := range n {
		o, direction := &all[i/len(values)], i%len(values)
		first := len(labels)
		if f.out != nil {
			labels = append(labels, directions[direction])
		}
		labels = append(labels, o.labels...)
		m := &metrics[i]
		m.Label = labels[first:len(labels):len(labels)]
		numbers[i] = float64(values[direction](o))
		if f.kind == counts {
			counters[i].Value = &numbers[i]
			m.Counter = &counters[i]
		} else {
			gauges[i].Value = &numbers[i]
			m.Gauge = &gauges[i]
		}
		family.Metric[i] = m
	}
	return family
}
