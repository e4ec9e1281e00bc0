package control

import (
	"maps"
	"slices"
	"time"

	"weir/dataplane"
	"weir/ipvsadm"
	"weir/lb"
)

// Each service is estimated once in EstimatePeriod, in one of EstimateParts steps: with 100,000 servers all of them are 100 ms of CPU time, which at
// once would be in the way of whatever else control does.
const (
	EstimatePeriod = 2 * time.Second
	EstimateParts  = 20
)

// meter makes a listing's counters out of what workers have counted, which only ever grows: where the counter stood when it was
// zero, and the rates. The zero value is a counter that began at zero.
type meter struct {
	zero, last dataplane.Traffic // at the last reset, at the last estimate
	rate       dataplane.Traffic // connections and packets times 1,024, bytes times 32
}

// reset is IPVS's ip_vs_zero_stats.
func (m *meter) reset(now dataplane.Traffic) { *m = meter{zero: now, last: now} }

// estimate is a step of IPVS's estimator (Linux 6.1, net/netfilter/ipvs/ip_vs_est.c), due every two seconds: each rate comes a
// quarter nearer to what the last two seconds had.
func (m *meter) estimate(now dataplane.Traffic) {
	d := now
	d.Sub(m.last)
	m.last = now
	near := func(rate *uint64, diff uint64, shift int) { *rate += uint64((int64(diff<<shift) - int64(*rate)) >> 2) }
	near(&m.rate.Conns, d.Conns, 9)
	near(&m.rate.InPackets, d.InPackets, 9)
	near(&m.rate.OutPackets, d.OutPackets, 9)
	near(&m.rate.InBytes, d.InBytes, 4)
	near(&m.rate.OutBytes, d.OutBytes, 4)
}

// read returns the counter since its zero, and the rates a second, rounded as IPVS rounds them (ip_vs_read_estimator).
func (m *meter) read(now dataplane.Traffic) (total, rate ipvsadm.Traffic) {
	now.Sub(m.zero)
	r := m.rate
	return ipvsadm.Traffic(now), ipvsadm.Traffic{
		Conns: (r.Conns + 0x1ff) >> 10, InPackets: (r.InPackets + 0x1ff) >> 10, OutPackets: (r.OutPackets + 0x1ff) >> 10,
		InBytes: (r.InBytes + 0xf) >> 5, OutBytes: (r.OutBytes + 0xf) >> 5,
	}
}

// membership is a service's account of its servers' traffic: workers count for servers only, and what a service has carried does
// not fall when a server goes.
type membership struct {
	gone    dataplane.Traffic // of servers that are no more
	removed map[*server]bool  // unlisted ones that connections may still name
}

// enter makes the server the service's. One that the service removed a moment ago keeps its counters (IPVS's trash); any other
// begins at zero.
func (v *service) enter(s *server, now dataplane.Traffic) {
	if s.owner == v {
		delete(v.members.removed, s)
		return
	}
	s.owner, s.entered = v, now
	s.meter.reset(now)
}

// leave notes that the service lists the server no more.
func (v *service) leave(s *server) {
	if v.members.removed == nil {
		v.members.removed = map[*server]bool{}
	}
	v.members.removed[s] = true
}

// forget takes over the count of a removed server whose last connection has ended.
func (v *service) forget(s *server, now dataplane.Traffic) {
	delete(v.members.removed, s)
	now.Sub(s.entered)
	v.members.gone.Add(now)
}

// traffic is what the service has carried, as its meter counts.
func (s *Store) traffic(v *service) dataplane.Traffic {
	sum := v.members.gone
	add := func(x *server) {
		t := s.shared.Traffic(x.id)
		t.Sub(x.entered)
		sum.Add(t)
	}
	for _, x := range v.servers {
		add(x)
	}
	for x := range v.members.removed {
		add(x)
	}
	return sum
}

// Estimate brings the rates of one part of the services up to date, 0 to EstimateParts-1: a step of IPVS's estimator. Call it for each part every
// EstimatePeriod. It takes the Store's lock once a service, so that changes need not wait for it.
func (s *Store) Estimate(part int) {
	s.mu.Lock()
	due := slices.Collect(maps.Keys(s.estimated[part]))
	s.mu.Unlock()
	for _, v := range due {
		s.mu.Lock()
		if _, still := s.estimated[part][v]; still { // else its servers may be another's by now
			s.estimate(v)
		}
		s.mu.Unlock()
	}
}

func (s *Store) estimate(v *service) {
	for _, x := range v.servers {
		x.meter.estimate(s.shared.Traffic(x.id))
	}
	v.meter.estimate(s.traffic(v))
}

// Zero sets the counters and rates of a service and its servers to zero, as ipvsadm -Z does. Without a key, of all services.
func (s *Store) Zero(keys ...lb.ServiceKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	zero := func(v *service) {
		v.meter.reset(s.traffic(v))
		for _, x := range v.servers {
			x.meter.reset(s.shared.Traffic(x.id))
		}
	}
	if len(keys) == 0 {
		for _, v := range s.services {
			zero(v)
		}
	}
	for _, key := range keys {
		if v := s.services[key]; v != nil {
			zero(v)
		}
	}
}

// Read fills in the numbers of the moment for a service and its servers. What the Store does not know keeps zeros.
func (s *Store) Read(l *ipvsadm.ListedService) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.services[l.Service.Key]
	if v == nil {
		return
	}
	l.Total, l.Rate = v.meter.read(s.traffic(v))
	l.Servers = make([]ipvsadm.ServerLoad, len(l.Service.Servers))
	last := len(l.Service.Servers) - 1
	for n, x := range v.servers {
		// Theirs are in the order they were added, as a rule, and these the other way round.
		is := func(s lb.Server) bool { return s.Addr == x.key.addr && s.Port == x.key.port }
		i := last - n
		if i < 0 || !is(l.Service.Servers[i]) {
			if i = slices.IndexFunc(l.Service.Servers, is); i < 0 {
				continue
			}
		}
		load := &l.Servers[i]
		load.Total, load.Rate = x.meter.read(s.shared.Traffic(x.id))
		load.Active, load.Inactive = count(x.load.Active.Load()), count(x.load.Inactive.Load())
		load.Persistent = count(x.load.Persistent.Load())
		_, load.Local = s.paths.Path(x.config.Addr)
	}
}

// count is a live counter for a listing: its words change one by one, so it may be seen below zero for a moment.
func count(n int32) uint32 { return uint32(max(n, 0)) }
