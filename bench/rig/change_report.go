package rig

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// Print writes the tables.
func (r *ChangeReport) Print(w io.Writer) {
	p := r.Plan
	fmt.Fprintf(w, "%s, Linux %s, %s\n", r.Machine, r.Kernel, r.Begin.UTC().Format("2006-01-02 15:04 UTC"))
	fmt.Fprintf(w, "\n%s services × %s servers, each with an address of its own\n", count(p.Services), count(p.Servers))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\ttook\tCPU of weir\tprinted\tloadavg\t")
	for _, c := range append(r.Restores, r.Lists...) {
		c.print(t)
	}
	t.Flush()
	fmt.Fprintf(w, "\nOne change after the other, until every worker has it\n")
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tchanges\tp50\tp99\tp99.9\tmax\t")
	r.Single.print(t, "nothing else going on")
	r.Changing.Answer.print(t, fmt.Sprintf("%.0f changes/s under load", p.Rate))
	t.Flush()
	fmt.Fprintf(w, "\n%.0f packets/s of %s established connections\n", p.Packets, count(p.Flows))
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tfor\tchanges/s\tsent\treceived by weir\tforwarded\tarrived\tlost\tloadavg\t")
	r.Quiet.print(t, "without changes")
	r.Changing.print(t, "with changes")
	t.Flush()
	if g := r.Paging; g != nil {
		g.print(w)
	}
}

func (c Command) print(t io.Writer) {
	fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%.1f\t\n", c.What, round(c.Took), round(c.CPU), size(c.Bytes), c.LoadAvg)
}

func (s Spread) print(t io.Writer, what string) {
	fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t\n", what, count(s.Count), round(s.P50), round(s.P99), round(s.P999), round(s.Max))
}

func (s Stretch) print(t io.Writer, what string) {
	fmt.Fprintf(t, "%s\t%s\t%.0f\t%s\t%s\t%s\t%s\t%s\t%.1f\t\n", what, s.Took.Round(100*time.Millisecond), float64(s.Changes)/s.Took.Seconds(),
		count(int(s.Sent)), count(int(s.Received)), count(int(s.Forwarded)), count(int(s.Arrived)), count(int(s.Lost())), s.LoadAvg)
}

func (p *Paging) print(w io.Writer) {
	fmt.Fprintf(w, "\nThe table of %s connections, opened in %s; the first is printed after %s\n", count(p.Connections), round(p.Filled), round(p.First))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\ttook\tCPU of weir\tprinted\tweiradm's memory\tloadavg\t")
	for _, c := range p.Commands {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%.1f\t\n", c.What, round(c.Took), round(c.CPU), size(c.Bytes), size(c.MaxRSS), c.LoadAvg)
	}
	t.Flush()
	fmt.Fprintf(w, "Meanwhile %s packets in %s, %s lost; weir's memory %s before and %s after.\n", count(int(p.Stretch.Sent)), round(p.Stretch.Took),
		count(int(p.Stretch.Lost())), size(p.Before), size(p.After))
}

// round leaves three digits or so.
func round(d time.Duration) time.Duration {
	for _, unit := range []time.Duration{time.Second, time.Millisecond} {
		if d >= unit {
			return d.Round(unit / 100)
		}
	}
	return d.Round(time.Microsecond)
}

// size writes bytes in people's units.
func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
}

// JSON writes the report as it is.
func (r *ChangeReport) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
