package web

import (
	"math"
	"strconv"
	"time"

	"weir/control/api"
)

// historyLen is how many points a line has: five minutes, one a second.
const historyLen = 300

// maxHistories bounds the services that have a line of their own, which takes 7 kB. Services without traffic need none; with more than so
// many, those that came later have none.
const maxHistories = 4096

// A point is what was carried in one interval, a second.
type point [series]float32

// The series that a chart can show.
const (
	conns = iota
	inPackets
	outPackets
	inBits
	outBits
	dropped // of the whole director only
	series
)

var seriesNames = [series]string{"connections", "in_packets", "out_packets", "in_bits", "out_bits", "dropped"}

func pointOf(r *api.Traffic) point {
	return point{float32(r.Conns), float32(r.InPackets), float32(r.OutPackets), 8 * float32(r.InBytes), 8 * float32(r.OutBytes)}
}

// nothing is the point of a moment at which nobody looked.
var nothing = point{nan, nan, nan, nan, nan, nan}

var nan = float32(math.NaN())

// line is the latest points of a service or of the director, in the places that history.at gives.
type line struct {
	points [historyLen]point
	idle   int // points since the last one with traffic
}

// history is the lines over time. The zero value is empty.
type history struct {
	times    [historyLen]time.Time
	count    int // points there ever were; the place of number n is n modulo historyLen
	all      line
	services map[string]*line
}

// add appends a point for the director, and for services the one of their rates; nil: nobody looks, and lines of services end.
func (h *history) add(at time.Time, all point, rates map[string]api.Traffic) {
	place := h.count % historyLen
	h.times[place], h.all.points[place] = at, all
	h.count++
	if rates == nil {
		h.services = nil
		return
	}
	for name, l := range h.services {
		r, there := rates[name]
		if l.idle++; r != (api.Traffic{}) {
			l.idle = 0
		}
		if !there || l.idle > historyLen {
			delete(h.services, name)
			continue
		}
		l.points[place] = pointOf(&r)
	}
	for name, r := range rates {
		if r == (api.Traffic{}) || h.services[name] != nil || len(h.services) >= maxHistories {
			continue
		}
		if h.services == nil {
			h.services = map[string]*line{}
		}
		l := &line{}
		for i := range l.points {
			l.points[i] = nothing
		}
		l.points[place] = pointOf(&r)
		h.services[name] = l
	}
}

// chart is a history as JSON: times and, beside each, what was carried a second.
type chart struct {
	Times  []int64           `json:"times"` // milliseconds since 1970
	Series map[string]column `json:"series"`
}

// chart returns the line of a service, or with "" the director's.
func (h *history) chart(service string) chart {
	l := &h.all
	if service != "" {
		l = h.services[service]
	}
	n := min(h.count, historyLen)
	c := chart{Times: make([]int64, n), Series: map[string]column{}}
	for i := range n {
		c.Times[i] = h.times[(h.count-n+i)%historyLen].UnixMilli()
	}
	for s, name := range seriesNames {
		if s == dropped && service != "" {
			continue
		}
		c.Series[name] = h.column(l, n, func(p *point) float32 { return p[s] })
	}
	return c
}

// column is the last n points of a line as numbers; a line that is missing has had no traffic, as far as is known.
func (h *history) column(l *line, n int, value func(*point) float32) column {
	n = min(n, h.count)
	c := make(column, n)
	for i := range n {
		if l != nil {
			c[i] = value(&l.points[(h.count-n+i)%historyLen])
		}
	}
	return c
}

// sparkLen is how many points a table's spark line has.
const sparkLen = 60

// spark is the packets of a service over the latest points.
func (h *history) spark(service string) column {
	l := h.services[service]
	if l == nil {
		return nil
	}
	return h.column(l, sparkLen, func(p *point) float32 { return p[inPackets] + p[outPackets] })
}

// column is written as whole numbers; one that is not known is null.
type column []float32

// MarshalJSON implements json.Marshaler.
func (c column) MarshalJSON() ([]byte, error) {
	text := make([]byte, 0, 2+8*len(c))
	text = append(text, '[')
	for i, v := range c {
		if i > 0 {
			text = append(text, ',')
		}
		if v != v {
			text = append(text, "null"...)
			continue
		}
		text = strconv.AppendFloat(text, math.Round(float64(v)), 'f', -1, 32)
	}
	return append(text, ']'), nil
}
