package lab

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"weir/lb"
)

// Print writes the demonstration's rows as a table, each server's share beside what the scheduler should give it.
func Print(w io.Writer, rows []Row) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "MODE\tTRAFFIC\tSERVER1\tSERVER2\tSERVER3\tERRORS\tBYTES\tSERVERS SAW\tREPLIES THROUGH DIRECTOR\tPAST IT")
	for i := range rows {
		r := &rows[i]
		mode := ""
		if i == 0 || rows[i-1].name() != r.name() {
			mode = r.name()
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", mode, r.Traffic, strings.Join(r.shares(), "\t"), r.Errors, Size(uint64(r.Bytes)),
			r.saw(), Size(r.Replies.ViaDirector), Size(r.Replies.Direct))
	}
	t.Flush()
	fmt.Fprintln(w, "\nThe servers have the weights 1, 2 and 3; \"167 of 167\" is what a server got beside what wrr should give it.\n"+
		"CIP is the client's address, LIP weir's local address. Replies are counted in bytes, at the director's and the servers' interfaces.")
}

func (r *Row) shares() (s []string) {
	for i, n := range r.Got {
		if r.Want == nil {
			s = append(s, fmt.Sprint(n))
		} else {
			s = append(s, fmt.Sprintf("%d of %d", n, r.Want[i]))
		}
	}
	return s
}

func (r *Row) saw() string {
	var s []string
	for _, a := range r.Saw {
		name := "CIP"
		switch {
		case a == LIP || a == LIP6:
			name = "LIP"
		case r.Mode == lb.FULLNAT || a != r.sawWant():
			name = "?"
		}
		s = append(s, fmt.Sprintf("%s (%s)", a, name))
	}
	return strings.Join(s, " ")
}

// Size writes a number of bytes for people: 512 B, 3.4 KiB, 64.0 MiB.
func Size(n uint64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
