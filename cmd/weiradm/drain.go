package main

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"weir/control/api"
)

var drainNoun = noun{
	name: "drain", args: "SERVER",
	about: "drain takes a server to weight 0 in every service that has it, and waits until its last connection has ended.",
	long: `SERVER is ADDRESS, or ADDRESS:PORT for one of its ports. The weight stays 0 afterwards, also when the time is over or the command
is interrupted: the server can be removed (-d, or --remove here), or given weight again (-e).
Exit status: 0 when no connection is left, 1 when some are.
`,
	flags: func(fs *pflag.FlagSet) func(*program, []string) error {
		timeout := fs.Duration("timeout", 0, "wait for so long a `TIME` at most, as 5m; 0: until the last connection has ended")
		remove := fs.Bool("remove", false, "then remove it from those services, also when the time is over and connections are left")
		asJSON := jsonFlag(fs)
		return func(p *program, args []string) error {
			if len(args) != 1 {
				return usage("want one SERVER, got %d words", len(args))
			}
			if _, err := api.ParseEnd(args[0]); err != nil || strings.HasPrefix(args[0], ":") || strings.Contains(args[0], "/") {
				return usage("%q: want ADDRESS or ADDRESS:PORT", args[0])
			}
			if *timeout < 0 {
				return usage("--timeout %s: allowed: 0 and more", *timeout)
			}
			return p.drain(args[0], *timeout, *remove, *asJSON)
		}
	},
}

// drained is what drain --json prints.
type drained struct {
	Server   string   `json:"server"`
	Services []string `json:"services"`
	Left     carried  `json:"left"`
	Removed  []string `json:"removed,omitempty"` // the services it was removed from
}

// carried is what a server still has.
type carried struct {
	Active     uint32 `json:"active"`
	Inactive   uint32 `json:"inactive"`
	Persistent uint32 `json:"persistent"`
}

func (p *program) drain(server string, timeout time.Duration, remove, asJSON bool) error {
	done, err := p.client.Drain(p.ctx, server)
	if err != nil {
		return err
	}
	if !asJSON {
		fmt.Fprintf(p.stdout, "%s has weight 0 in %s\n", server, strings.Join(done.Services, ", "))
	}
	var over <-chan time.Time
	if timeout > 0 {
		t := time.NewTimer(timeout)
		defer t.Stop()
		over = t.C
	}
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	last := carried{}
	waiting := true
	for first := true; ; first = false {
		left, err := p.carries(server)
		if err != nil {
			return err
		}
		drainedAll := left.Active+left.Inactive == 0
		if !asJSON && (first || left != last) && !drainedAll {
			fmt.Fprintf(p.stdout, "%d active, %d inactive connections left\n", left.Active, left.Inactive)
		}
		if last = left; drainedAll || !waiting {
			var removed []string
			if remove {
				if removed, err = p.removeDrained(server); err != nil {
					return err
				}
			}
			return p.drainEnd(drained{server, done.Services, left, removed}, asJSON)
		}
		select {
		case <-tick.C:
		case <-over:
			waiting = false
		case <-p.ctx.Done():
			return fmt.Errorf("interrupted: %s keeps weight 0", server)
		}
	}
}

func (p *program) drainEnd(d drained, asJSON bool) error {
	if asJSON {
		if err := p.printJSON(d); err != nil {
			return err
		}
	} else if len(d.Removed) > 0 {
		fmt.Fprintf(p.stdout, "removed from %s\n", strings.Join(d.Removed, ", "))
	}
	switch {
	case d.Left.Active+d.Left.Inactive > 0:
		if !asJSON {
			fmt.Fprintf(p.stderr, "weiradm: the time is over, and %s still has connections\n", d.Server)
		}
		return exit(exitFail)
	case !asJSON && d.Left.Persistent > 0 && d.Removed == nil:
		fmt.Fprintf(p.stdout, "no connections left, but %d persistence templates send their clients there while it is configured\n", d.Left.Persistent)
	case !asJSON:
		fmt.Fprintln(p.stdout, "no connections left")
	}
	return nil
}

// removeDrained deletes a server where it still has weight 0: whoever gave it weight again meanwhile wants it.
func (p *program) removeDrained(server string) (removed []string, err error) {
	services, err := p.client.Services(p.ctx)
	if err != nil {
		return nil, err
	}
	wanted, err := api.ParseEnd(server)
	if err != nil {
		return nil, err
	}
	var change api.Change
	for i := range services.Services {
		s := &services.Services[i]
		for _, v := range s.Servers {
			at := netip.AddrPortFrom(v.Address, v.Port)
			if v.Weight == 0 && wanted.Contains(at) {
				change.Commands = append(change.Commands, append(append([]string{"-d"}, serviceWords(s)...), "-r", at.String()))
				removed = append(removed, s.Name())
			}
		}
	}
	done, err := p.client.Change(p.ctx, change)
	if err != nil {
		return nil, err
	}
	for _, r := range done.Refused {
		return nil, r.Error
	}
	return removed, nil
}

// serviceWords names a service in ipvsadm's words.
func serviceWords(s *api.Service) []string {
	switch {
	case s.Mark != 0 && s.IPv6:
		return []string{"-f", fmt.Sprint(s.Mark), "-6"}
	case s.Mark != 0:
		return []string{"-f", fmt.Sprint(s.Mark)}
	}
	option := map[string]string{"tcp": "-t", "udp": "-u", "sctp": "--sctp-service"}[s.Protocol] // -s is a scheduler's
	return []string{option, netip.AddrPortFrom(s.Address, s.Port).String()}
}

// carries returns what a server has, in all services together.
func (p *program) carries(server string) (c carried, err error) {
	services, err := p.client.Services(p.ctx)
	if err != nil {
		return c, err
	}
	wanted, err := api.ParseEnd(server)
	if err != nil {
		return c, err
	}
	for i := range services.Services {
		for _, s := range services.Services[i].Servers {
			if wanted.Contains(netip.AddrPortFrom(s.Address, s.Port)) {
				c.Active += s.Active
				c.Inactive += s.Inactive
				c.Persistent += s.Persistent
			}
		}
	}
	return c, nil
}
