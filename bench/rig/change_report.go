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
	table := func(title, head string, rows func(io.Writer)) {
		fmt.Fprintf(w, "%s\n", title)
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(t, head)
		rows(t)
		t.Flush()
	}
	table("", "\ttook\tCPU of weir\tprinted\tloadavg\t", func(t io.Writer) {
		for _, c := range append(r.Restores, r.Lists...) {
			c.print(t)
		}
	})
	table("\nOne change after the other, until every worker has it", "\tchanges\tp50\tp99\tp99.9\tmax\t", func(t io.Writer) {
		r.Single.print(t, "nothing else going on")
		r.Changing.Answer.print(t, fmt.Sprintf("%.0f changes/s under load", p.Rate))
	})
	if r.Quiet.Sent > 0 {
		table(fmt.Sprintf("\n%.0f packets/s of %s established connections", p.Packets, count(p.Flows)),
			"\tfor\tchanges/s\tsent\treceived by weir\tforwarded\tarrived\tlost\tCPU of weir\tloadavg\t", func(t io.Writer) {
				r.Quiet.print(t, "without changes")
				r.Changing.print(t, "with changes")
			})
		for _, s := range []struct {
			what string
			Stretch
		}{{"without changes", r.Quiet}, {"with changes", r.Changing}} {
			if l := s.Losses; s.Lost() != 0 {
				fmt.Fprintf(w, "Lost %s: %s in front of the director's interface, %s by its sockets, %s stopped by weir, %s for want of room to transmit, %s in front of the servers'.\n",
					s.what, count(int(l.Wire-min(l.Wire, l.Socket))), count(int(l.Socket)), count(int(l.Stopped)), count(int(l.Room)), count(int(l.Behind)))
			}
		}
	}
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
	fmt.Fprintf(t, "%s\t%s\t%.0f\t%s\t%s\t%s\t%s\t%s\t%s\t%.1f\t\n", what, s.Took.Round(100*time.Millisecond), float64(s.Changes)/s.Took.Seconds(),
		count(int(s.Sent)), count(int(s.Received)), count(int(s.Forwarded)), count(int(s.Arrived)), count(int(s.Lost())), round(s.CPU), s.LoadAvg)
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
