package web

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"weir/control/api"
)

const (
	// period is how often the director is asked.
	period = time.Second
	// patience is for how long it is asked about all services after somebody has looked.
	patience = 5 * time.Minute
	// A snapshot may take one part in so many of the time: of 10,000 services it takes a while, on CPUs that workers use too.
	share = 20
	// moment is the age up to which a snapshot is as good as a new one; rates over less time would jump.
	moment = period / 2
	// stale is the age at which it is too old to be shown.
	stale = 3 * time.Second
)

// recorder asks the director and keeps what it said. While nobody looks, it asks for the totals only, so that there is something to
// see when somebody does.
type recorder struct {
	source Source
	taking sync.Mutex // held while a snapshot is taken: who wants one meanwhile gets that one

	mu         sync.Mutex
	history    history
	totals     Totals      // at the latest point
	at         time.Time   // of the latest point
	now        api.Traffic // of the latest point, a second
	droppedNow uint64
	latest     *snapshot // nil: none yet
	looked     time.Time // when somebody looked last
}

// snapshot is the director at one moment; immutable.
type snapshot struct {
	at       time.Time
	took     time.Duration
	status   api.Status
	services []api.Service // in the order they were added
	names    []string      // of services, by which they are asked for
	place    map[string]int
	rates    []api.Traffic                      // of services
	health   []health                           // of services
	down     map[string]map[netip.AddrPort]bool // servers that cannot be reached, by service
	problems []problem
	before   *snapshot // the one before; that one has none
}

// Run keeps the history until ctx ends.
func (p *Page) Run(ctx context.Context) {
	p.recorder.tick(time.Now())
	timer := time.NewTimer(period)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			timer.Reset(p.recorder.tick(time.Now()))
		}
	}
}

// tick adds a point to the history and returns when the next one is due.
func (r *recorder) tick(now time.Time) time.Duration {
	r.mu.Lock()
	watched := now.Sub(r.looked) < patience
	r.mu.Unlock()
	var s *snapshot
	wait := period
	if watched {
		s = r.take()
		wait = max(period, share*s.took)
	}
	t := r.source.Totals()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !watched {
		r.latest = nil
	}
	if !r.at.IsZero() {
		r.now = per(&t.Traffic, &r.totals.Traffic, now.Sub(r.at))
		r.droppedNow = perSecond(t.Dropped, r.totals.Dropped, now.Sub(r.at))
		point := pointOf(&r.now)
		point[dropped] = float32(r.droppedNow)
		r.history.add(now, point, s.byName())
	}
	r.totals, r.at = t, now
	return wait
}

// look returns the director as it is, and notes that somebody wants to know.
func (r *recorder) look(now time.Time) *snapshot {
	r.mu.Lock()
	r.looked = now
	s := r.latest
	r.mu.Unlock()
	if s != nil && now.Sub(s.at) < max(stale, 2*share*s.took) {
		return s
	}
	return r.take()
}

// take asks the director, unless it was asked a moment ago.
func (r *recorder) take() *snapshot {
	r.taking.Lock()
	defer r.taking.Unlock()
	r.mu.Lock()
	before := r.latest
	r.mu.Unlock()
	if before != nil && time.Since(before.at) < moment {
		return before
	}
	s := newSnapshot(r.source, before)
	r.mu.Lock()
	r.latest = s
	r.mu.Unlock()
	return s
}

func newSnapshot(source Source, before *snapshot) *snapshot {
	s := &snapshot{at: time.Now(), status: source.Status(), services: api.FromListing(source.Listing()).Services}
	n := len(s.services)
	s.names, s.rates, s.place = make([]string, n), make([]api.Traffic, n), make(map[string]int, n)
	s.health, s.down = make([]health, n), map[string]map[netip.AddrPort]bool{}
	for _, u := range s.status.Unreachable {
		a, err := netip.ParseAddrPort(u.Server)
		if err != nil {
			continue
		}
		if s.down[u.Service] == nil {
			s.down[u.Service] = map[netip.AddrPort]bool{}
		}
		s.down[u.Service][a] = true
	}
	if before != nil {
		first := *before
		first.before = nil
		s.before = &first
	}
	for i := range s.services {
		v := &s.services[i]
		s.names[i] = nameOf(v)
		s.place[s.names[i]] = i
		s.rates[i] = v.Rate
		if old := s.earlier(i); old != nil {
			s.rates[i] = per(&v.Total, &old.Total, s.at.Sub(s.before.at))
		}
		s.health[i] = s.check(i)
	}
	s.problems = s.findProblems()
	s.took = time.Since(s.at)
	return s
}

// nameOf is a service's name, which no other has: of a mark there may be one for each IP version.
func nameOf(v *api.Service) string {
	if v.Mark != 0 && v.IPv6 {
		return v.Name() + " IPv6"
	}
	return v.Name()
}

// earlier returns service i as it was in the snapshot before; nil if it was not there.
func (s *snapshot) earlier(i int) *api.Service {
	if s.before == nil {
		return nil
	}
	if k, there := s.before.place[s.names[i]]; there {
		return &s.before.services[k]
	}
	return nil
}

// byName returns the rates of all services; nil without a snapshot.
func (s *snapshot) byName() map[string]api.Traffic {
	if s == nil {
		return nil
	}
	rates := make(map[string]api.Traffic, len(s.names))
	for i, name := range s.names {
		rates[name] = s.rates[i]
	}
	return rates
}

// per is what was counted in a time, a second.
func per(now, before *api.Traffic, t time.Duration) api.Traffic {
	return api.Traffic{
		Conns: perSecond(now.Conns, before.Conns, t), InPackets: perSecond(now.InPackets, before.InPackets, t), OutPackets: perSecond(now.OutPackets, before.OutPackets, t),
		InBytes: perSecond(now.InBytes, before.InBytes, t), OutBytes: perSecond(now.OutBytes, before.OutBytes, t),
	}
}

// perSecond is 0 for a counter that was set to zero meanwhile.
func perSecond(now, before uint64, t time.Duration) uint64 {
	if now < before || t <= 0 {
		return 0
	}
	return uint64(float64(now-before)/t.Seconds() + 0.5)
}
