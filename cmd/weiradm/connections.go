package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"weir/control/api"
	"weir/internal/complete"
)

var connectionsNoun = noun{
	name: "connections", about: "connections shows the connection table, page by page, without holding up a packet.",
	long: filterHelp + `With --json each connection is a line of its own.
`,
	flags: func(fs *pflag.FlagSet) func(*program, []string) error {
		filter := filterFlags(fs)
		templates := fs.String("templates", "", "persistence templates, `WHICH`: only, no; otherwise too")
		complete.Allow(fs, "templates", api.FilterWords()["templates"]...)
		limit := fs.Int("limit", 0, "show `N` at most; 0: all")
		count := fs.BoolP("count", "c", false, "print only how many there are")
		asJSON := jsonFlag(fs)
		return func(p *program, args []string) error {
			if err := noArgs(args); err != nil {
				return err
			}
			f, err := filter()
			if err != nil {
				return err
			}
			if f.Templates = *templates; f.Check() != nil {
				return usage("--%w", f.Check())
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
	out := bufio.NewWriterSize(p.stdout, 64<<10) // a page's lines leave together
	lines := json.NewEncoder(out)
	if !asJSON {
		fmt.Fprintf(out, layout, "PROT", "STATE", "LEFT", "MODE", "CLIENT", "VIRTUAL", "SERVER", "LOCAL")
	}
	n := 0
	for page, err := range p.client.Pages(p.ctx, f) {
		if limit > 0 {
			page = page[:min(limit-n, len(page))]
		}
		n += len(page)
		for _, c := range page {
			if asJSON {
				_ = lines.Encode(c) // as with Fprintln, out keeps the error
				continue
			}
			local := ""
			if c.Local.IsValid() {
				local = c.Local.String()
			}
			line := fmt.Sprintf(layout, c.Protocol, c.State, clock(c.Expires), c.Mode, c.Client, c.Virtual, c.Server, local)
			fmt.Fprintln(out, strings.TrimRight(line, " \n"))
		}
		if err = errors.Join(err, out.Flush()); err != nil || limit > 0 && n == limit {
			return err
		}
	}
	return nil
}

// clock writes seconds as ipvsadm -Lnc does, minutes and seconds.
func clock(seconds int) string { return fmt.Sprintf("%02d:%02d", seconds/60, seconds%60) }
