// Package metrics shows a running weir to Prometheus: the same numbers as control/api, by Prometheus's naming conventions.
//
//	http.Serve(listener, metrics.Handler(backend, ready))
//
//	GET /metrics   everything below, in the text format
//	GET /healthz   200 while the process answers at all
//	GET /readyz    200 while packets are served, 503 before and after
package metrics

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"weir/control/api"
	"weir/ipvsadm"
)

// Source is what is shown; an api.Backend is one.
type Source interface {
	Status() api.Status
	Listing() ipvsadm.Listing
}

// Handler answers Prometheus and whoever asks after weir's health. Ready returns why packets are not served, or nil. Every scrape reads
// the source anew; two at a time at most. How long an answer may take is the server's to say: a time-out here would hold all of it in memory.
func Handler(s Source, ready func() error) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{s}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(gatherer{registry, s}, promhttp.HandlerOpts{MaxRequestsInFlight: 2}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	return mux
}

// collector makes metrics of a Source at each scrape, so that nothing is counted twice.
type collector struct{ source Source }

// metric is one family: its description, and whether it counts or measures.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

var all []*prometheus.Desc

func family(kind prometheus.ValueType, name, help string, labels ...string) metric {
	d := prometheus.NewDesc("weir_"+name, help, labels, nil)
	all = append(all, d)
	return metric{d, kind}
}

func counter(name, help string, labels ...string) metric {
	return family(prometheus.CounterValue, name, help, labels...)
}

func gauge(name, help string, labels ...string) metric {
	return family(prometheus.GaugeValue, name, help, labels...)
}

var (
	info   = gauge("build_info", "1, with the version that runs.", "version")
	uptime = gauge("uptime_seconds", "Time since the start.")

	unreachable = gauge("servers_unreachable", "Servers of services that packets cannot be sent to.")

	received  = counter("received_packets_total", "Packets taken from the interfaces.")
	forwarded = counter("forwarded_packets_total", "Packets forwarded, or given to the host.", "to")
	answered  = counter("answered_packets_total", "Packets answered with an ICMP error.")
	stopped   = counter("stopped_packets_total", "Packets that were not forwarded, by why; kernel tells whether they were given to it rather than dropped.",
		"reason", "kernel")

	tableSize    = gauge("connection_table_capacity", "Places in the connection table.")
	tableUsed    = gauge("connection_table_used", "Places in use, by connections and persistence templates.")
	tableOpened  = counter("connection_table_opened_total", "Entries made.")
	tableExpired = counter("connection_table_expired_total", "Entries ended by their timeout.")
	tableEvicted = counter("connection_table_evicted_total", "Half-open entries that gave way to new ones in a full table.")
	tableRefused = counter("connection_table_refused_total", "Entries that were not made, by why.", "reason")

	workerReceived = counter("worker_received_packets_total", "Packets a worker has taken from its queues.", "worker")
	workerBatches  = counter("worker_batches_total", "Times that a queue had packets for its worker; packets by batches is how many it had.", "worker")
	workerBusy     = gauge("worker_cpu_ratio", "Share of one CPU that a worker used over the last two seconds.", "worker")

	ifaceLost = counter("interface_lost_packets_total", "Packets lost between the interface and weir, by why.", "interface", "reason")
	ifaceFill = counter("interface_fill_ring_empty_total", "Times that the driver found no frame to receive into.", "interface")
	ifaceZero = gauge("interface_zero_copy", "1 if the interface's frames are not copied.", "interface")
	ifaceXDP  = gauge("interface_native_xdp", "1 if the driver runs the XDP program itself.", "interface")

	hostPackets = counter("host_path_packets_total", "Packets on their way back to the kernel, by what became of them.", "result")
)

// Describe implements prometheus.Collector.
func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range all {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	put := func(m metric, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(m.desc, m.kind, v, labels...)
	}
	collectStatus(put, c.source.Status())
}

type putter func(m metric, v float64, labels ...string)

func collectStatus(put putter, s api.Status) {
	put(info, 1, s.Version)
	put(uptime, s.Uptime)
	put(unreachable, float64(len(s.Unreachable)))
	put(received, float64(s.Packets.Received))
	put(forwarded, float64(s.Packets.ToServer), "server")
	put(forwarded, float64(s.Packets.ToClient), "client")
	put(forwarded, float64(s.Packets.ToHost), "host")
	put(answered, float64(s.Packets.Answered))
	for _, r := range s.Stops {
		put(stopped, float64(r.Packets), r.Reason, strconv.FormatBool(r.ToHost))
	}
	put(tableSize, float64(s.Table.Capacity))
	put(tableUsed, float64(s.Table.Used))
	put(tableOpened, float64(s.Table.Opened))
	put(tableExpired, float64(s.Table.Expired))
	put(tableEvicted, float64(s.Table.Evicted))
	for why, n := range s.Table.Refused {
		put(tableRefused, float64(n), strings.ReplaceAll(why, " ", "-"))
	}
	for _, w := range s.Workers {
		put(workerReceived, float64(w.Received), strconv.Itoa(w.Number))
		put(workerBatches, float64(w.Batches), strconv.Itoa(w.Number))
		put(workerBusy, w.CPU, strconv.Itoa(w.Number))
	}
	for _, f := range s.Interfaces {
		for why, n := range map[string]uint64{"rx-dropped": f.RxDropped, "rx-ring-full": f.RxRingFull, "tx-invalid": f.TxInvalid, "tx-no-room": f.NoRoom, "link-down": f.LinkDown} {
			put(ifaceLost, float64(n), f.Name, why)
		}
		put(ifaceFill, float64(f.FillRingEmpty), f.Name)
		put(ifaceZero, truth(f.ZeroCopy), f.Name)
		put(ifaceXDP, truth(f.XDP == "native"), f.Name)
	}
	for result, n := range map[string]uint64{"injected": s.Host.Injected, "failed": s.Host.Failed, "ring-full": s.Host.RingFull, "over-rate": s.Host.OverRate} {
		put(hostPackets, float64(n), result)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
