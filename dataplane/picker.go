package dataplane

import (
	"sync"

	"weir/sched"
)

// Version is one state of a service's server list. Numbers count up by one with every change of the service.
type Version struct {
	Number uint64
	List   *sched.List
}

// maxVersions is how many versions of a list a Service carries. A picker that has fallen further behind (a service without a
// new connection through that many changes) gets the oldest it can, and its scheduler sees the rest as one change.
const maxVersions = 16

// AppendVersion returns the versions of a service after its list became l. It does not change versions.
func AppendVersion(versions []Version, l *sched.List) []Version {
	number := uint64(1)
	if n := len(versions); n > 0 {
		number = versions[n-1].Number + 1
		versions = versions[max(0, n+1-maxVersions):]
	}
	return append(append(make([]Version, 0, len(versions)+1), versions...), Version{Number: number, List: l})
}

// Picker is a service's scheduler with its state. It outlives tables, so that editing one server moves no cursor. Its mutex
// is taken by workers only, for the time of one pick and of counting what was picked: were the two apart, two workers would
// both find the same server the least loaded. Control never takes it: it hands over new lists through the table.
type Picker struct {
	mu        sync.Mutex
	scheduler sched.Scheduler // guarded by mu, but for Prepare
	request   sched.Request   // of the pick at hand, here so that it need not be allocated; guarded by mu
	seen      uint64          // number of the version the scheduler knows; guarded by mu
}

// NewPicker returns a picker around a scheduler that has seen no list yet and that nobody else uses.
func NewPicker(s sched.Scheduler) *Picker { return &Picker{scheduler: s} }

// Prepare builds into l what the scheduler would otherwise build at its next pick. It may be called while workers pick.
func (p *Picker) Prepare(l *sched.List) { sched.Prepare(p.scheduler, l) }

// pick chooses among the servers of s; the caller holds mu. A worker whose table is older than another's finds the picker
// ahead of it and picks from the newer list: the same would happen had its packet come a moment later.
func (p *Picker) pick(s *Service, r sched.Request) *sched.Server {
	if p.seen < s.Versions[len(s.Versions)-1].Number {
		for _, v := range s.Versions {
			if v.Number > p.seen {
				p.scheduler.Update(v.List)
				p.seen = v.Number
			}
		}
	}
	p.request = r
	return p.scheduler.Pick(&p.request)
}
