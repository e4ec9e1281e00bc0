package main

import (
	"bytes"
	"fmt"
	"image/color"
	"os"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"weir/bench/rig"
)

// Colours that the colour-blind tell apart: Okabe and Ito, Color Universal Design, 2008.
var (
	black     = color.NRGBA{0, 0, 0, 255}
	grey      = color.NRGBA{150, 150, 150, 255}
	orange    = color.NRGBA{230, 159, 0, 255}
	skyBlue   = color.NRGBA{86, 180, 233, 255}
	green     = color.NRGBA{0, 158, 115, 255}
	blue      = color.NRGBA{0, 114, 178, 255}
	vermilion = color.NRGBA{213, 94, 0, 255}
	purple    = color.NRGBA{204, 121, 167, 255}
)

// colorOf says what kind a candidate is of: a limit, the library alone, the kernel, or weir.
func colorOf(candidate string) color.Color {
	switch {
	case strings.HasPrefix(candidate, "weir"):
		return blue
	case strings.Contains(candidate, "limit"):
		return grey
	case strings.Contains(candidate, "bare"):
		return skyBlue
	}
	return orange
}

// titleOf says what a load is.
func titleOf(l rig.Load) string {
	size := fmt.Sprintf("%d-byte", l.Size)
	if l.Size == rig.IMIX {
		size = "IMIX"
	}
	if l.IPv6 {
		size += " IPv6"
	}
	title := fmt.Sprintf("%s, %s flows, %s %s", l.Mode, count(l.Flows), size, strings.ToUpper(string(l.Traffic)))
	if l.Arms == 1 {
		title += ", one arm"
	}
	if l.Rate > 0 {
		title += fmt.Sprintf(", %.2f Mpps", l.Rate/1e6)
	}
	if l.Layout == rig.OneCPU {
		return title + "; everything on one CPU"
	}
	return title + "; the director has a CPU of its own"
}

// count writes 1000000 as 1,000,000.
func count(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", count(n/1000), n%1000)
}

// figure is panels below each other, under a title.
type figure struct {
	title, where string
	width        vg.Length
	panels       []panel
}

type panel struct {
	*plot.Plot
	height vg.Length
}

// newPlot returns a plot in the house's style.
func newPlot(title string) *plot.Plot {
	p := plot.New()
	p.Title.Text = title
	p.Title.TextStyle.Font = face(11, font.Font{Weight: 2})
	p.Title.Padding = vg.Points(5)
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Label.TextStyle.Font = face(10, font.Font{})
		axis.Tick.Label.Font = face(10, font.Font{})
		axis.LineStyle.Width, axis.Tick.LineStyle.Width = vg.Points(0.6), vg.Points(0.6)
	}
	p.Legend.TextStyle.Font = face(10, font.Font{})
	p.Legend.Padding = vg.Points(3)
	p.Legend.ThumbnailWidth = vg.Points(24)
	return p
}

func face(size float64, f font.Font) font.Font {
	f.Typeface, f.Variant, f.Size = "Liberation", "Sans", vg.Points(size)
	return f
}

func textStyle(size float64) text.Style {
	return text.Style{Color: black, Font: face(size, font.Font{}), Handler: plot.DefaultTextHandler, YAlign: text.YCenter}
}

// families are the fonts that have the widths which the text was placed by, and what to do without any.
const families = "Liberation Sans,Arial,Helvetica,sans-serif"

const (
	margin = vg.Length(12)
	gap    = vg.Length(14) // between panels
	head   = vg.Length(48)
)

// write draws the figure, the panels' data beginning and ending at the same places.
func (f *figure) write(path string) (err error) {
	height := head + margin - gap
	for _, p := range f.panels {
		height += p.height + gap
	}
	svg := vgsvg.New(f.width, height)
	all := draw.New(svg)
	all.FillPolygon(color.White, []vg.Point{{X: 0, Y: 0}, {X: f.width, Y: 0}, {X: f.width, Y: height}, {X: 0, Y: height}})
	title := textStyle(14)
	title.Font.Weight = 2
	all.FillText(title, vg.Point{X: margin, Y: height - 18}, f.title)
	small := textStyle(9)
	small.Color = color.NRGBA{90, 90, 90, 255}
	all.FillText(small, vg.Point{X: margin, Y: height - 36}, f.where)

	var places []draw.Canvas
	var left, right vg.Length
	top := height - head
	for _, p := range f.panels {
		place := draw.Canvas{Canvas: all, Rectangle: vg.Rectangle{Min: vg.Point{X: margin, Y: top - p.height}, Max: vg.Point{X: f.width - margin, Y: top}}}
		data := p.DataCanvas(place)
		left, right = max(left, data.Min.X), max(right, place.Max.X-data.Max.X)
		places = append(places, place)
		top -= p.height + gap
	}
	for i, p := range f.panels {
		place := places[i]
		data := p.DataCanvas(place)
		p.Draw(draw.Crop(place, left-data.Min.X, -(right - (place.Max.X - data.Max.X)), 0, 0))
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() {
		if closed := file.Close(); err == nil {
			err = closed
		}
	}()
	var drawn bytes.Buffer
	if _, err := svg.WriteTo(&drawn); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	_, err = file.Write(bytes.ReplaceAll(drawn.Bytes(), []byte("font-family:Liberation Sans"), []byte("font-family:"+families)))
	return err
}
