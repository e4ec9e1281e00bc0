package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/pflag"

	"weir/control/api"
)

var traceNoun = noun{
	name: "trace", args: "PROTOCOL SOURCE DESTINATION",
	about: "trace says where a packet would go if it came now, and why. It changes nothing.",
	long: `PROTOCOL is tcp, udp or sctp (an INIT), SOURCE and DESTINATION are ADDRESS:PORT. A server's answer can be traced too: from it to the client.

  weiradm trace tcp 198.51.100.7:40000 192.0.2.10:80

What drop_packet, the packet's TTL or its size would do to it is not foreseen.
`,
	flags: func(fs *pflag.FlagSet) func(*program, []string) error {
		flags := fs.String("flags", "S", "TCP `FLAGS` of the packet, letters of FSRPAU")
		asJSON := jsonFlag(fs)
		return func(p *program, args []string) error {
			if len(args) != 3 {
				return usage("want PROTOCOL SOURCE DESTINATION, got %d words", len(args))
			}
			q := api.TraceQuery{Protocol: strings.ToLower(args[0])}
			if q.Protocol == "tcp" {
				q.Flags = strings.ToUpper(*flags)
			}
			for i, end := range []*netip.AddrPort{&q.Source, &q.Destination} {
				var err error
				if *end, err = netip.ParseAddrPort(args[1+i]); err != nil {
					return usage("%q: want ADDRESS:PORT", args[1+i])
				}
			}
			if err := q.Check(); err != nil {
				return errUsage{err}
			}
			t, err := p.client.Trace(p.ctx, q)
			if err != nil {
				return err
			}
			if *asJSON {
				return p.printJSON(t)
			}
			fmt.Fprintf(p.stdout, "%s %s -> %s\n", strings.ToUpper(q.Protocol), q.Source, q.Destination)
			return p.showTrace(&t)
		}
	},
}

func (p *program) showTrace(t *api.Trace) error {
	for _, line := range t.Why {
		fmt.Fprintf(p.stdout, "  %s\n", line)
	}
	if t.Server == "" && len(t.Candidates) > 0 {
		fmt.Fprintf(p.stdout, "    %-22s %6s %8s %8s  %s\n", "SERVER", "WEIGHT", "ACTIVE", "INACTIVE", "WAY")
		for _, c := range t.Candidates {
			fmt.Fprintf(p.stdout, "    %-22s %6d %8d %8d  %s\n", c.Server, c.Weight, c.Active, c.Inactive, wayTo(&c))
		}
	}
	for _, line := range []struct{ name, value string }{{"server", t.Server}, {"rewrite", t.Rewrite}} {
		if line.value != "" {
			fmt.Fprintf(p.stdout, "  %-8s %s\n", line.name, line.value)
		}
	}
	if t.Path != nil {
		fmt.Fprintf(p.stdout, "  %-8s %s to %s, MTU %d\n", "path", t.Path.Interface, t.Path.MAC, t.Path.MTU)
	}
	if t.Reason != "" {
		fmt.Fprintf(p.stdout, "  %-8s %s: %s\n", "stopped", t.Reason, t.Help)
	}
	return nil
}

// wayTo says how a packet would get to a server, and what is in its way.
func wayTo(c *api.Candidate) string {
	way := c.Mode
	switch {
	case c.Path != nil:
		way += " by " + c.Path.Interface + " to " + c.Path.MAC
	case c.Mode != "local":
		way += ": unreachable"
	}
	if c.Overloaded {
		way += "; over its threshold"
	}
	return way
}
