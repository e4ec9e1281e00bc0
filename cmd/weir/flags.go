package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"weir/control/api"
	"weir/internal/complete"
	"weir/lb"
)

const usage = `weir is a layer-4 load balancer: it takes the packets of virtual services off the NIC by AF_XDP and brings them to
real servers as IPVS does (direct routing, NAT, tunnelling) or with both addresses translated (FULLNAT).

Usage: weir --interface IFACE [--interface IFACE ...] [--rule RULE ... | --rules FILE] [flags]

  weir --interface eth0 --assign-addresses \
       --rule '-A -t 192.0.2.10:80 -s wrr' \
       --rule '-a -t 192.0.2.10:80 -r 10.0.0.2 -g -w 3'

Rules are ipvsadm's, a line each; -F (--fullnat) is weir's own forwarding method beside -g, -m and -i.
weiradm changes them while weir runs. SIGHUP reads --rules again and applies the difference; SIGTERM and SIGINT stop.

Flags:
`

// words are flags as they were given: read when all are known, so that every problem is told at once.
type words struct {
	flags                                               *pflag.FlagSet
	level, ports, connections, cpus, busyPoll, hostRate string
	locals, tunnels, marks, options                     []string
	help, version                                       bool
}

// allowed has the words that flags take which take only some.
var allowed = map[string][]string{
	"zero-copy":  {"auto", "on", "off"},
	"xdp-mode":   {"auto", "native", "generic"},
	"log-level":  {"debug", "info", "warn", "error"},
	"log-format": {"text", "json"},
}

// define says which flags there are.
func define(c *config, w *words) *pflag.FlagSet {
	fs := pflag.NewFlagSet("weir", pflag.ContinueOnError)
	fs.SortFlags = false
	fs.SetOutput(io.Discard)
	fs.StringArrayVarP(&c.interfaces, "interface", "i", nil, "`IFACE` to serve, all its queues; repeat for client and server side, or one for both")
	fs.StringArrayVarP(&c.rules, "rule", "r", nil, "one `RULE` in ipvsadm's grammar; repeat, in order, after those of --rules")
	fs.StringVarP(&c.rulesFile, "rules", "f", "", "`FILE` of rules as 'ipvsadm -S -n' prints them, read again at SIGHUP")
	fs.StringVar(&c.saveFile, "save", "", "`FILE` that keeps the rules as they change; when it exists at the start, it takes the place of --rules and --rule")
	fs.StringVar(&c.socket, "admin-socket", api.DefaultSocket, "`PATH` of the Unix socket that weiradm speaks to; '' for none")
	fs.StringVar(&c.metrics, "metrics-address", "", "`ADDRESS:PORT` where Prometheus finds /metrics, and others /healthz and /readyz; not served if not given")
	fs.StringVar(&c.web, "web-address", "", "`ADDRESS:PORT` where a browser finds a page that shows services, servers, rates and what is wrong; not served if not given")
	fs.StringArrayVarP(&w.locals, "local-address", "l", nil, "`ADDRESS` that FULLNAT talks to servers from; repeatable")
	fs.StringVar(&w.ports, "local-ports", "1024-65535", "port `RANGE` used on local addresses, LOW-HIGH")
	fs.StringArrayVar(&w.tunnels, "tunnel-source", nil, "`PREFIX` to take the outer source of tunnelled packets from, by the flow, so that a server spreads them over its queues; one of each IP version")
	fs.BoolVar(&c.clampMSS, "mss-clamp", false, "lower the MSS that TCP's first packets name to what fits the ways on both sides, so that nobody depends on ICMP")
	fs.BoolVar(&c.assign, "assign-addresses", false, "put service addresses on the first interface and local addresses on the last, and take them off at stop")
	fs.StringArrayVarP(&w.marks, "mark", "m", nil, "`RULE` that gives packets a firewall mark: 'MARK PROTO DST[/LEN][:PORT[-PORT]] [SRC[/LEN]]'; the first that matches decides")
	fs.StringArrayVarP(&w.options, "option", "o", nil, "`NAME=VALUE`, an IPVS setting (net.ipv4.vs.NAME): "+strings.Join(lb.SysctlNames(), ", "))
	fs.StringVar(&w.connections, "connections", "1048576", "capacity of the connection table, a `NUMBER` of connections of 123 to 147 bytes")
	fs.StringVar(&w.cpus, "cpus", "", "`LIST` of CPUs as 0-3,5: a worker is kept on each of them, queue by queue (default: workers run where the kernel puts them)")
	fs.StringVar(&c.zeroCopy, "zero-copy", "auto", "zero copy, `HOW`: auto (where the driver has it), on (or fail), off")
	fs.StringVar(&c.xdpMode, "xdp-mode", "auto", "XDP `MODE`: auto (native, or generic where the driver refuses), native, generic")
	fs.StringVar(&w.busyPoll, "busy-poll", "0", "let the worker drive the NIC's queue for this `TIME` at a time (0: off, 1us to 10ms)")
	fs.StringVar(&w.hostRate, "host-rate", "100000", "`NUMBER` of packets per second at most that are given back to the kernel")
	fs.StringVar(&w.level, "log-level", "info", "least `LEVEL` that is logged: debug, info, warn, error")
	fs.StringVar(&c.logFormat, "log-format", "text", "`FORM` of the log on standard error: text, json")
	fs.BoolVarP(&w.version, "version", "V", false, "print the version and exit")
	fs.BoolVarP(&w.help, "help", "h", false, "print this help and exit")
	for name, words := range allowed {
		complete.Allow(fs, name, words...)
	}
	return fs
}

// readFlags fills c and w. Flags that weir does not have, and words that are no flags, are among the problems; the error is one
// that leaves nothing to go on with.
func readFlags(c *config, args []string) (*words, problems, error) {
	var p problems
	for {
		*c = config{}
		w := new(words)
		w.flags = define(c, w)
		err := w.flags.Parse(args)
		var unknown *pflag.NotExistError
		var bad *pflag.InvalidValueError
		switch {
		case err == nil:
			if len(p) == 0 { // else they may be values of what weir does not know
				for _, a := range w.flags.Args() {
					p = append(p, fmt.Errorf("%q: weir takes flags only", a))
				}
			}
			return w, p, nil
		case errors.As(err, &unknown):
			p = append(p, fmt.Errorf("%w (see weir --help)", err))
			i := slices.IndexFunc(args, func(a string) bool { return names(a, unknown) })
			if i < 0 {
				return nil, nil, errors.Join(p...)
			}
			args = slices.Delete(slices.Clone(args), i, i+1)
			continue
		case errors.As(err, &bad): // only a switch looks at its value by itself
			err = fmt.Errorf("--%s %q: allowed: true, false", bad.GetFlag().Name, bad.GetValue())
		}
		p = append(p, fmt.Errorf("%w (see weir --help)", err))
		return nil, nil, errors.Join(p...)
	}
}

// names reports whether a is the word that gave the unknown flag.
func names(a string, unknown *pflag.NotExistError) bool {
	if short := unknown.GetSpecifiedShortnames(); short != "" {
		return a == "-"+short
	}
	long, _, _ := strings.Cut(a, "=")
	return long == "--"+unknown.GetSpecifiedName()
}
