package main

import (
	"cmp"
	"fmt"
	"image/color"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"weir/bench/rig"
)

// flows draws what a candidate forwards against the number of flows, for those that were measured with several.
func flows(m *measured) (*figure, error) {
	type line struct {
		name   string
		points plotter.XYs
	}
	var lines []*line
	for _, s := range m.series {
		if s.Load.Rate > 0 || s.Load.Layout != rig.OwnCPU || s.Load.Arms != 2 || s.Load.Size != 64 || s.Load.Traffic != rig.UDP {
			continue
		}
		name := fmt.Sprintf("%s, %s", s.Candidate, s.Load.Mode)
		i := slices.IndexFunc(lines, func(l *line) bool { return l.name == name })
		if i < 0 {
			i, lines = len(lines), append(lines, &line{name: name})
		}
		lines[i].points = append(lines[i].points, plotter.XY{X: float64(s.Load.Flows), Y: s.Median(rig.Sample.Mpps)})
	}
	lines = slices.DeleteFunc(lines, func(l *line) bool { return len(l.points) < 2 })
	if len(lines) == 0 {
		return nil, nil
	}
	p := newPlot("64-byte UDP, two arms, the director has a CPU of its own")
	p.X.Label.Text, p.Y.Label.Text = "flows", "million packets per second"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, powers{}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = gridColor, gridColor
	p.Add(grid)
	colors := []color.Color{blue, vermilion, green, orange, purple, skyBlue, black, grey}
	shapes := []draw.GlyphDrawer{draw.CircleGlyph{}, draw.BoxGlyph{}, draw.PyramidGlyph{}, draw.TriangleGlyph{}, draw.RingGlyph{}, draw.SquareGlyph{}, draw.PlusGlyph{}, draw.CrossGlyph{}}
	for i, l := range lines {
		slices.SortFunc(l.points, func(a, b plotter.XY) int { return cmp.Compare(a.X, b.X) })
		drawn, points, err := plotter.NewLinePoints(l.points)
		if err != nil {
			return nil, err
		}
		drawn.Color, drawn.Width = colors[i%len(colors)], vg.Points(1.5)
		points.GlyphStyle = draw.GlyphStyle{Color: drawn.Color, Radius: vg.Points(3.5), Shape: shapes[i%len(shapes)]}
		p.Add(drawn, points)
		p.Legend.Add(l.name, drawn, points)
	}
	p.Y.Min = 0
	p.Y.Max *= 1.05 + 0.07*float64(len(lines)) // room for the legend
	p.Legend.Top = true
	return &figure{title: "Packets forwarded, by the number of flows", where: m.where + "; medians of the runs", width: vg.Points(640),
		panels: []panel{{p, vg.Points(360)}}}, nil
}
