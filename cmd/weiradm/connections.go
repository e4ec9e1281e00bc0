package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"weir/control/api"
)

var connectionsNoun = noun{
	name: "connections", about: "connections shows the connection table, page by page, without holding up a packet.",
	long: `END is ADDRESS, ADDRESS/LENGTH, ADDRESS:PORT or :PORT; an IPv6 address with a port stands in brackets.
With --json each connection is a line of its own.
`,
	flags: func(fs *pflag.FlagSet) func(*program, []string) error {
		var f api.Filter
		ends := map[string]*api.End{}
		var texts []*string
		var names []string
		for _, e := range []struct {
			name, about string
			end         *api.End
		}{
			{"client", "only those whose client is `END`", &f.Client}, {"virtual", "only those to the service address `END`", &f.Virtual},
			{"server", "only those to the server `END`", &f.Server}, {"local", "only those that FULLNAT brings from `END`", &f.Local},
		} {
			texts, names = append(texts, fs.String(e.name, "", e.about)), append(names, e.name)
			ends[e.name] = e.end
		}
		fs.StringVar(&f.Protocol, "protocol", "", "only this `PROTOCOL`: tcp, udp")
		fs.StringVar(&f.State, "state", "", "only those in this `STATE`, as established")
		fs.StringVar(&f.Mode, "mode", "", "only this `MODE`: dr, nat, fullnat, tun, local")
		fs.StringVar(&f.Templates, "templates", "", "persistence templates, `WHICH`: only, no; otherwise too")
		limit := fs.Int("limit", 0, "show `N` at most; 0: all")
		count := fs.BoolP("count", "c", false, "print only how many there are")
		asJSON := jsonFlag(fs)
		return func(p *program, args []string) error {
			if err := noArgs(args); err != nil {
				return err
			}
			for i, text := range texts {
				if *text == "" {
					continue
				}
				end, err := api.ParseEnd(*text)
				if err != nil {
					return usage("--%s %w", names[i], err)
				}
				*ends[names[i]] = end
			}
			if err := f.Check(); err != nil {
				return usage("--%w", err)
			}
			if *limit < 0 {
				return usage("--limit %d: allowed: 0 and more", *limit)
			}
			if *count {
				return p.countConnections(f, *asJSON)
			}
			return p.showConnections(f, *limit, *asJSON)
		}
	},
}

func (p *program) countConnections(f api.Filter, asJSON bool) error {
	n, err := p.client.Count(p.ctx, f)
	if err != nil {
		return err
	}
	if asJSON {
		return p.printJSON(map[string]int{"connections": n})
	}
	_, err = fmt.Fprintln(p.stdout, n)
	return err
}

func (p *program) showConnections(f api.Filter, limit int, asJSON bool) error {
	const layout = "%-4s %-11s %6s  %-7s %-22s %-22s %-22s %s\n"
	lines := json.NewEncoder(p.stdout)
	if !asJSON {
		fmt.Fprintf(p.stdout, layout, "PROT", "STATE", "LEFT", "MODE", "CLIENT", "VIRTUAL", "SERVER", "LOCAL")
	}
	n := 0
	for c, err := range p.client.Connections(p.ctx, f) {
		if err != nil {
			return err
		}
		if asJSON {
			err = lines.Encode(c)
		} else {
			local := ""
			if c.Local.IsValid() {
				local = c.Local.String()
			}
			line := fmt.Sprintf(layout, c.Protocol, c.State, clock(c.Expires), c.Mode, c.Client, c.Virtual, c.Server, local)
			_, err = fmt.Fprintln(p.stdout, strings.TrimRight(line, " \n"))
		}
		if err != nil {
			return err
		}
		if n++; n == limit {
			return nil
		}
	}
	return nil
}

// clock writes seconds as ipvsadm -Lnc does, minutes and seconds.
func clock(seconds int) string { return fmt.Sprintf("%02d:%02d", seconds/60, seconds%60) }
