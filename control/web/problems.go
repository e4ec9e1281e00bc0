package web

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"weir/control/api"
	"weir/dataplane/reason"
)

// problem is something that is wrong now, and what may be done about it.
type problem struct {
	Bad  bool   `json:"bad"` // service is lost, not just at risk
	Text string `json:"text"`
	Help string `json:"help"`
}

// When numbers are a problem.
const (
	tableHigh   = 80  // percent of the connection table
	tableFull   = 95  // percent
	busy        = 0.9 // of a CPU
	badDrops    = 100 // one packet in so many is dropped
	namesAtMost = 4   // in one problem
)

// findProblems lists what is wrong, the worst first.
func (s *snapshot) findProblems() []problem {
	list := slices.Concat(s.lostServers(), s.lostServices(), s.drops(), s.tableFill(), s.losses(), s.busyWorkers())
	if s.status.SaveError != "" {
		list = append(list, problem{true, "Rules are not saved: " + s.status.SaveError, "What changes now is lost at a restart: look at the directory of --save, its disk and its rights."})
	}
	slices.SortStableFunc(list, func(a, b problem) int {
		switch {
		case a.Bad == b.Bad:
			return 0
		case a.Bad:
			return -1
		}
		return 1
	})
	return append([]problem{}, list...) // [] in JSON, not null
}

// lostServers are those that cannot be reached. A host that is down may serve many services: it is one problem.
func (s *snapshot) lostServers() []problem {
	services := map[netip.Addr]int{}
	for _, u := range s.status.Unreachable {
		if a, err := netip.ParseAddrPort(u.Server); err == nil {
			services[a.Addr()]++
		}
	}
	if len(services) == 0 {
		return nil
	}
	addrs := slices.SortedFunc(maps.Keys(services), netip.Addr.Compare)
	var list []string
	for _, a := range addrs {
		list = append(list, fmt.Sprintf("%s (%s)", a, count(services[a], "service")))
	}
	text := "Server " + list[0] + " cannot be reached"
	if len(list) > 1 {
		text = fmt.Sprintf("%d servers cannot be reached: %s", len(list), some(list))
	}
	return []problem{{true, text, reason.ServerUnreachable.Help()}}
}

// lostServices are those that no new connection can be made to.
func (s *snapshot) lostServices() []problem {
	var list []string
	for i := range s.services {
		if s.health[i].state == "down" {
			list = append(list, s.names[i])
		}
	}
	switch len(list) {
	case 0:
		return nil
	case 1:
		return []problem{{true, "Service " + list[0] + " has no server for new connections", reason.NoServer.Help()}}
	}
	return []problem{{true, fmt.Sprintf("%d services have no server for new connections: %s", len(list), some(list)), reason.NoServer.Help()}}
}

// drops are the reasons why packets are dropped at the moment.
func (s *snapshot) drops() (list []problem) {
	for _, r := range s.status.Stops {
		if r.PerSecond > 0 && !r.ToHost && r.Reason != reason.FragmentHeld.String() {
			list = append(list, problem{r.PerSecond*badDrops >= s.status.PerSecond.Received, fmt.Sprintf("%s packets a second are dropped: %s", grouped(r.PerSecond), r.Reason), r.Help})
		}
	}
	return list
}

func (s *snapshot) tableFill() []problem {
	t := &s.status.Table
	if t.Capacity == 0 || 100*t.Used < tableHigh*t.Capacity {
		return nil
	}
	return []problem{{100*t.Used >= tableFull*t.Capacity, fmt.Sprintf("The connection table is %d %% full", 100*t.Used/t.Capacity), reason.TableFull.Help()}}
}

// losses are packets lost between an interface and weir since a moment ago.
func (s *snapshot) losses() (list []problem) {
	if s.before == nil {
		return nil
	}
	for _, f := range s.status.Interfaces {
		k := slices.IndexFunc(s.before.status.Interfaces, func(old api.Interface) bool { return old.Name == f.Name })
		if k < 0 {
			continue
		}
		old := s.before.status.Interfaces[k].Losses()
		for n, loss := range f.Losses() {
			if lost := perSecond(loss.Packets, old[n].Packets, s.at.Sub(s.before.at)); lost > 0 {
				list = append(list, problem{true, fmt.Sprintf("%s loses %s packets a second", f.Name, grouped(lost)), capital(loss.Help) + "."})
			}
		}
	}
	return list
}

func (s *snapshot) busyWorkers() []problem {
	var list []string
	for _, w := range s.status.Workers {
		if w.CPU >= busy {
			list = append(list, fmt.Sprintf("worker %d (%.0f %%)", w.Number, 100*w.CPU))
		}
	}
	if list == nil {
		return nil
	}
	return []problem{{false, "A CPU is used up: " + some(list), "More queues (ethtool -L) give more workers; see which services carry the packets."}}
}

// some is the first few of a list, and how many more there are.
func some(list []string) string {
	if len(list) <= namesAtMost {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:namesAtMost], ", "), len(list)-namesAtMost)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// grouped writes a number with a comma every three digits.
func grouped(n uint64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
