package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"weir/control/api"
)

// history is how many rounds a spark line shows.
const history = 20

// The heights of a spark line's columns.
const (
	asciiSparks   = " .:-=+*#"
	unicodeSparks = "▁▂▃▄▅▆▇█"
)

// board is what top knows: the latest round, with its rates, and how packets went over the latest rounds.
type board struct {
	at     time.Time
	totals map[string]api.Traffic // by service, and by service and server
	past   map[string][]uint64    // packets a second, the latest last
	latest api.Services
}

// add takes in a round. Rates are those between it and the one before; what has begun anew meanwhile has none.
func (b *board) add(s api.Services, at time.Time) {
	seconds := at.Sub(b.at).Seconds()
	first := b.totals == nil
	totals, past := map[string]api.Traffic{}, map[string][]uint64{}
	rate := func(name string, total api.Traffic) (r api.Traffic) {
		totals[name] = total
		if old, known := b.totals[name]; known && seconds > 0 {
			per := func(now, before uint64) uint64 {
				if now < before {
					return 0
				}
				return uint64(float64(now-before)/seconds + 0.5)
			}
			r = api.Traffic{Conns: per(total.Conns, old.Conns), InPackets: per(total.InPackets, old.InPackets), OutPackets: per(total.OutPackets, old.OutPackets),
				InBytes: per(total.InBytes, old.InBytes), OutBytes: per(total.OutBytes, old.OutBytes)}
		}
		if !first {
			line := append(slices.Clone(b.past[name]), r.InPackets+r.OutPackets)
			past[name] = line[max(0, len(line)-history):]
		}
		return r
	}
	for i := range s.Services {
		v := &s.Services[i]
		v.Rate = rate(v.Name(), v.Total)
		for k := range v.Servers {
			v.Servers[k].Rate = rate(serverName(v, &v.Servers[k]), v.Servers[k].Total)
		}
	}
	b.at, b.totals, b.past, b.latest = at, totals, past, s
}

func serverName(s *api.Service, v *api.Server) string {
	return s.Name() + " " + netip.AddrPortFrom(v.Address, v.Port).String()
}

// Widths of the screen's columns: the numbers' are as wide as amount writes them, the names' and the spark lines' share what is left.
const (
	numberWidth = 6
	numbers     = 7
	leastName   = 20
	leastSpark  = 6
)

// nameWidth is how wide the names are on a screen of so many columns.
func (b *board) nameWidth(width int) int {
	longest := leastName
	for i := range b.latest.Services {
		s := &b.latest.Services[i]
		longest = max(longest, len(s.Name()))
		for k := range s.Servers {
			longest = max(longest, len(indented(&s.Servers[k])))
		}
	}
	return min(longest, max(leastName, width-numbers*(numberWidth+1)-1-leastSpark))
}

func indented(v *api.Server) string { return "  -> " + netip.AddrPortFrom(v.Address, v.Port).String() }

// screen is the board as text, the busiest services first, in no more than so many columns and lines (0: all that there are).
func (b *board) screen(width, height int, sparks string) string {
	services := slices.Clone(b.latest.Services)
	slices.SortStableFunc(services, func(x, y api.Service) int { return cmp.Compare(load(&y.Rate), load(&x.Rate)) })
	var lines []string
	say := func(format string, args ...any) { lines = append(lines, clipTo(fmt.Sprintf(format, args...), width)) }
	nameWidth := b.nameWidth(width)
	sparkWidth := max(leastSpark, width-nameWidth-numbers*(numberWidth+1)-1)
	line := func(name string, columns [numbers]string, tail string) {
		text := fmt.Sprintf("%-*s", nameWidth, shorten(name, nameWidth))
		for _, c := range columns {
			text += fmt.Sprintf(" %*s", numberWidth, c)
		}
		say("%s %s", text, tail)
	}
	say("weir top  %s  %d services, rates by the second", b.at.Format(time.TimeOnly), len(services))
	line("", [numbers]string{"CONNS", "PKT IN", "OUT", "BIT IN", "OUT", "ACTIVE", "INACT"}, "PACKETS")
	total := len(lines)
	full := func() bool { return height > 0 && len(lines) > height } // what is below is counted, and not written
	for i := range services {
		s := &services[i]
		if total += 1 + len(s.Servers); full() {
			continue
		}
		var active, inactive uint64
		for k := range s.Servers {
			active += uint64(s.Servers[k].Active)
			inactive += uint64(s.Servers[k].Inactive)
		}
		row := func(name string, r *api.Traffic, active, inactive uint64, key string) {
			past := b.past[key]
			line(name, [numbers]string{amount(r.Conns), amount(r.InPackets), amount(r.OutPackets), amount(8 * r.InBytes), amount(8 * r.OutBytes),
				amount(active), amount(inactive)}, spark(past[max(0, len(past)-sparkWidth):], sparks))
		}
		row(s.Name(), &s.Rate, active, inactive, s.Name())
		servers := slices.Clone(s.Servers)
		slices.SortStableFunc(servers, func(x, y api.Server) int { return cmp.Compare(load(&y.Rate), load(&x.Rate)) })
		for k := range servers {
			if full() {
				break
			}
			v := &servers[k]
			row(indented(v), &v.Rate, uint64(v.Active), uint64(v.Inactive), serverName(s, v))
		}
	}
	if height > 0 && total > height {
		left := total - height + 1
		lines = append(lines[:max(0, height-1)], clipTo(fmt.Sprintf("... %d lines more: a higher window shows them", left), width))
	}
	return strings.Join(lines, "\n") + "\n"
}

// shorten takes what does not fit out of a name's middle: its ends tell it from others.
func shorten(name string, width int) string {
	if len(name) <= width {
		return name
	}
	tail := width / 2
	return name[:width-tail-1] + "~" + name[len(name)-tail:]
}

func load(t *api.Traffic) uint64 { return t.InPackets + t.OutPackets + t.Conns }

// clipTo cuts a line, rune by rune: none is wider than a column.
func clipTo(line string, width int) string {
	line = strings.TrimRight(line, " ")
	if r := []rune(line); len(r) > width {
		return string(r[:width])
	}
	return line
}

// spark draws numbers as columns, the largest the highest.
func spark(numbers []uint64, sparks string) string {
	heights := []rune(sparks)
	most := uint64(1)
	for _, n := range numbers {
		most = max(most, n)
	}
	var b strings.Builder
	for _, n := range numbers {
		i := 0
		if n > 0 { // little is not nothing
			i = max(1, int(float64(n)/float64(most)*float64(len(heights)-1)+0.5))
		}
		b.WriteRune(heights[i])
	}
	return b.String()
}

func writeJSONLine(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }
