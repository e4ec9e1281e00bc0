package main

import (
	"github.com/spf13/pflag"

	"weir/control/api"
	"weir/internal/complete"
)

const filterHelp = `END is ADDRESS, ADDRESS/LENGTH, ADDRESS:PORT or :PORT; an IPv6 address with a port stands in brackets.
`

// filterFlags defines the flags of a Filter, and returns what reads it when they are parsed.
func filterFlags(fs *pflag.FlagSet) func() (api.Filter, error) {
	var f api.Filter
	ends := []struct {
		name, about string
		end         *api.End
		text        *string
	}{
		{name: "client", about: "only those whose client is `END`", end: &f.Client},
		{name: "virtual", about: "only those to the service address `END`", end: &f.Virtual},
		{name: "server", about: "only those to the server `END`", end: &f.Server},
		{name: "local", about: "only those that FULLNAT brings from `END`", end: &f.Local},
	}
	for i := range ends {
		ends[i].text = fs.String(ends[i].name, "", ends[i].about)
	}
	fs.StringVar(&f.Protocol, "protocol", "", "only this `PROTOCOL`: tcp, udp, sctp")
	fs.StringVar(&f.State, "state", "", "only those in this `STATE`, as established")
	fs.StringVar(&f.Mode, "mode", "", "only this `MODE`: dr, nat, fullnat, tun, local")
	for _, name := range []string{"protocol", "state", "mode"} {
		complete.Allow(fs, name, api.FilterWords()[name]...)
	}
	return func() (api.Filter, error) {
		for _, e := range ends {
			if *e.text == "" {
				continue
			}
			end, err := api.ParseEnd(*e.text)
			if err != nil {
				return f, usage("--%s %w", e.name, err)
			}
			*e.end = end
		}
		if err := f.Check(); err != nil {
			return f, usage("--%w", err)
		}
		return f, nil
	}
}
