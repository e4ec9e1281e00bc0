package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"weir/control/api"
)

var statusNoun = noun{
	name: "status", about: "status shows the whole director on one screen, and what to do about what is wrong.",
	long: "Packets a second are those of the last two seconds; all other numbers count since the start.\n",
	flags: func(fs *pflag.FlagSet) func(*program, []string) error {
		all := fs.BoolP("all", "a", false, "every reason and every unreachable server, not just the first")
		asJSON := jsonFlag(fs)
		return func(p *program, args []string) error {
			if err := noArgs(args); err != nil {
				return err
			}
			s, err := p.client.Status(p.ctx)
			if err != nil {
				return err
			}
			if *asJSON {
				return p.printJSON(s)
			}
			_, err = fmt.Fprint(p.stdout, screen(&s, *all))
			return err
		}
	},
}

// What fits on a screen.
const (
	showStops       = 6
	showUnreachable = 5
)

// screen is the status as text.
func screen(s *api.Status, all bool) string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	uptime := time.Duration(s.Uptime * float64(time.Second)).Round(time.Second)
	say("weir %s, up %s: %d services, %d servers\n\n", s.Version, uptime, s.Services, s.Servers)

	say("%-12s %-17s %5s %6s  %-8s %s\n", "INTERFACE", "MAC", "MTU", "QUEUES", "XDP", "COPY")
	for _, f := range s.Interfaces {
		copies := "zero-copy"
		if !f.ZeroCopy {
			copies = "copy" + because(f.ZeroCopyWhy)
		}
		say("%-12s %-17s %5d %6d  %-8s %s\n", f.Name, f.MAC, f.MTU, f.Queues, f.XDP, copies)
		if f.XDPWhy != "" {
			say("  no native XDP: %s\n", f.XDPWhy)
		}
		for _, lost := range f.Losses() {
			if lost.Packets > 0 {
				say("  %s %s\n", amount(lost.Packets), lost.Help)
			}
		}
	}

	say("\n%-8s %5s %12s %10s %8s  %s\n", "WORKER", "CPU", "PACKETS", "A SECOND", "A BATCH", "ON CPU")
	for _, w := range s.Workers {
		on := "any"
		if w.PinnedTo != nil {
			on = strconv.Itoa(*w.PinnedTo)
		}
		say("%-8d %4.0f%% %12s %10s %8.1f  %s\n", w.Number, 100*w.CPU, amount(w.Received), amount(w.PerSecond), w.Batch, on)
	}

	say("\n%-11s %12s %12s %12s %12s %12s\n", "PACKETS", "TO SERVERS", "TO CLIENTS", "TO THE HOST", "BYTES IN", "BYTES OUT")
	for _, row := range []struct {
		name string
		p    *api.Packets
	}{{"since start", &s.Packets}, {"a second", &s.PerSecond}} {
		say("%-11s %12s %12s %12s %12s %12s\n", row.name, amount(row.p.ToServer), amount(row.p.ToClient), amount(row.p.ToHost), amount(row.p.BytesIn), amount(row.p.BytesOut))
	}

	say("\nCONNECTIONS %s of %s places used (%s), %s opened, %s a second\n", amount(uint64(s.Table.Used)), amount(uint64(s.Table.Capacity)),
		percent(s.Table.Used, s.Table.Capacity), amount(s.Table.Opened), amount(s.PerSecond.Connections))
	if s.Table.Evicted > 0 {
		say("  %s half-open ones gave way to new ones in a full table: raise --connections\n", amount(s.Table.Evicted))
	}

	if n := len(s.Unreachable); n > 0 {
		say("\nUNREACHABLE %d servers: look at their link, and at ip route get and ip neigh on this host\n", n)
		shown := s.Unreachable
		if !all {
			shown = shown[:min(n, showUnreachable)]
		}
		for _, u := range shown {
			say("  %s of %s\n", u.Server, u.Service)
		}
		more(&b, n-len(shown))
	}
	stops(&b, s, all)
	if s.SaveError != "" {
		say("\nNOT SAVED   %s\n", s.SaveError)
	}
	return b.String()
}

// stops tells why packets were not forwarded, and what to do about it.
func stops(b *strings.Builder, s *api.Status, all bool) {
	if len(s.Stops) == 0 {
		fmt.Fprint(b, "\nNOT FORWARDED: none\n")
		return
	}
	fmt.Fprintf(b, "\n%-20s %12s %10s\n", "NOT FORWARDED", "PACKETS", "A SECOND")
	shown := slices.Clone(s.Stops)
	if !all {
		shown = shown[:min(len(shown), showStops)]
	}
	for _, r := range shown {
		fmt.Fprintf(b, "%-20s %12s %10s\n  %s\n", r.Reason, amount(r.Packets), amount(r.PerSecond), r.Help)
	}
	more(b, len(s.Stops)-len(shown))
}

func more(b *strings.Builder, n int) {
	if n > 0 {
		fmt.Fprintf(b, "  and %d more: weiradm status --all\n", n)
	}
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

// amount writes a number so that it fits, with its first three digits at least.
func amount(n uint64) string {
	for _, unit := range []string{"", "k", "M", "G", "T"} {
		if n < 100_000 {
			return fmt.Sprint(n) + unit
		}
		n /= 1000
	}
	return fmt.Sprint(n) + "P"
}

func percent(part, whole int) string {
	if whole == 0 {
		return "0%"
	}
	return fmt.Sprintf("%.0f%%", 100*float64(part)/float64(whole))
}
