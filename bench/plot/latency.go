package main

import (
	"fmt"
	"image/color"
	"slices"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"weir/bench/rig"
)

var gridColor = color.NRGBA{225, 225, 225, 255}

// quantiles are what is shown of a latency, told apart by shape as well as by colour.
var quantiles = []struct {
	name  string
	of    func(*rig.Latency) time.Duration
	color color.Color
	shape draw.GlyphDrawer
}{
	{"p50", func(l *rig.Latency) time.Duration { return l.P50 }, blue, draw.CircleGlyph{}},
	{"p99", func(l *rig.Latency) time.Duration { return l.P99 }, orange, draw.BoxGlyph{}},
	{"p99.9", func(l *rig.Latency) time.Duration { return l.P999 }, vermilion, draw.PyramidGlyph{}},
	{"max", func(l *rig.Latency) time.Duration { return l.Max }, grey, draw.CrossGlyph{}},
}

// latencies draws how long packets take under each load of a given rate.
func latencies(m *measured) (*figure, error) {
	f := &figure{title: "Time from generator to server", where: m.where + "; medians of the runs", width: vg.Points(640)}
	for _, group := range m.byLoad(func(l rig.Load) bool { return l.Rate > 0 }) {
		group = slices.DeleteFunc(group, func(s *rig.Series) bool {
			return slices.ContainsFunc(s.Samples, func(m rig.Sample) bool { return m.Latency == nil })
		})
		if len(group) == 0 {
			continue
		}
		p, err := latencyPanel(group)
		if err != nil {
			return nil, err
		}
		f.panels = append(f.panels, panel{p, vg.Points(float64(80 + 24*len(group)))})
	}
	if f.panels == nil {
		return nil, nil
	}
	return f, nil
}

func latencyPanel(group []*rig.Series) (*plot.Plot, error) {
	p := newPlot(titleOf(group[0].Load))
	p.X.Label.Text = "microseconds"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, powers{}
	p.Add(verticalGrid())
	var names []string
	reversed := slices.Clone(group)
	slices.Reverse(reversed)
	for _, s := range reversed {
		names = append(names, s.Candidate)
	}
	lowest, highest := 0.0, 0.0
	for _, q := range quantiles {
		var points plotter.XYs
		for i, s := range reversed {
			us := max(0.1, s.Median(func(m rig.Sample) float64 { return float64(q.of(m.Latency)) / 1e3 }))
			points = append(points, plotter.XY{X: us, Y: float64(i)})
			if lowest == 0 || us < lowest {
				lowest = us
			}
			highest = max(highest, us)
		}
		scatter, err := plotter.NewScatter(points)
		if err != nil {
			return nil, err
		}
		scatter.GlyphStyle = draw.GlyphStyle{Color: q.color, Radius: vg.Points(4), Shape: q.shape}
		p.Add(scatter)
		p.Legend.Add(q.name, scatter)
	}
	p.NominalY(names...)
	p.Y.Min, p.Y.Max = -0.6, float64(len(group))-0.4
	p.Y.Tick.Label.XAlign = text.XRight
	p.X.Min, p.X.Max = powerBelow(lowest), powerAbove(highest)*3 // room for the legend
	p.Legend.Top = true
	return p, nil
}

// powers marks the powers of ten, and faintly what is between them.
type powers struct{}

func (powers) Ticks(low, high float64) (ticks []plot.Tick) {
	for at := powerBelow(low); at <= high*1.0001; at *= 10 {
		for i := 1.0; i < 10; i++ {
			t := plot.Tick{Value: at * i}
			if i == 1 {
				t.Label = short(at)
			}
			if t.Value >= low*0.9999 && t.Value <= high*1.0001 {
				ticks = append(ticks, t)
			}
		}
	}
	return ticks
}

func powerBelow(v float64) float64 {
	p := 1.0
	for p > v {
		p /= 10
	}
	for p*10 <= v {
		p *= 10
	}
	return p
}

func powerAbove(v float64) float64 {
	if p := powerBelow(v); p < v {
		return p * 10
	}
	return v
}

// short writes 1000000 as 1M.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%gM", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%gk", v/1e3)
	}
	return fmt.Sprintf("%g", v)
}
