package main

import (
	"fmt"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"

	"weir/bench/rig"
)

// rates draws what each candidate forwards under each load that floods it, a panel for each load that several were measured under.
func rates(m *measured) (*figure, error) {
	f := &figure{title: "Packets forwarded while more than that are offered", where: m.where + "; bars are medians, whiskers the lowest and highest run", width: vg.Points(640)}
	for _, group := range m.byLoad(func(l rig.Load) bool { return l.Rate == 0 }) {
		if len(group) < 2 {
			continue
		}
		p, err := ratePanel(group)
		if err != nil {
			return nil, err
		}
		f.panels = append(f.panels, panel{p, vg.Points(float64(76 + 19*len(group)))})
	}
	if f.panels == nil {
		return nil, nil
	}
	return f, nil
}

// ratePanel draws a bar for each candidate, the first on top.
func ratePanel(group []*rig.Series) (*plot.Plot, error) {
	p := newPlot(titleOf(group[0].Load))
	p.X.Label.Text = "million packets per second"
	p.X.Min = 0
	p.Add(verticalGrid())
	var names []string
	var ends plotter.XYLabels
	reversed := slices.Clone(group)
	slices.Reverse(reversed)
	for i, s := range reversed {
		mpps := s.Median(rig.Sample.Mpps)
		bar, err := plotter.NewBarChart(plotter.Values{mpps}, vg.Points(12))
		if err != nil {
			return nil, err
		}
		bar.Horizontal, bar.XMin, bar.Color, bar.LineStyle.Width = true, float64(i), colorOf(s.Candidate), 0
		low, high := mpps, mpps
		for _, sample := range s.Samples {
			low, high = min(low, sample.Mpps()), max(high, sample.Mpps())
		}
		whiskers, err := plotter.NewXErrorBars(struct {
			plotter.XYs
			plotter.XErrors
		}{plotter.XYs{{X: mpps, Y: float64(i)}}, plotter.XErrors{{Low: mpps - low, High: high - mpps}}})
		if err != nil {
			return nil, err
		}
		whiskers.CapWidth = vg.Points(5)
		p.Add(bar, whiskers)
		names = append(names, s.Candidate)
		ends.XYs = append(ends.XYs, plotter.XY{X: high, Y: float64(i)})
		ends.Labels = append(ends.Labels, fmt.Sprintf("%.2f", mpps))
	}
	labels, err := plotter.NewLabels(ends)
	if err != nil {
		return nil, err
	}
	labels.Offset.X = vg.Points(5)
	for i := range labels.TextStyle {
		labels.TextStyle[i] = textStyle(10)
	}
	p.Add(labels)
	p.NominalY(names...)
	p.X.Max *= 1.08 // room for the figures
	p.Y.Min, p.Y.Max = -0.6, float64(len(group))-0.4
	p.Y.Tick.Label.XAlign = text.XRight
	return p, nil
}

// verticalGrid is faint lines behind the data.
func verticalGrid() *plotter.Grid {
	g := plotter.NewGrid()
	g.Horizontal.Width = 0
	g.Vertical.Color = gridColor
	return g
}
