package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"weir/control/admin"
	"weir/control/api"
	"weir/ipvsadm"
	"weir/lb"
)

// config is what the command line says, checked.
type config struct {
	interfaces  []string
	rules       []string // --rule, in order
	rulesFile   string
	locals      []netip.Addr
	tunnels     []lb.Prefix // --tunnel-source
	localPorts  portRange
	assign      bool
	connections int
	marks       []lb.MarkRule
	sysctls     lb.Sysctls
	zeroCopy    string
	xdpMode     string
	busyPoll    time.Duration
	hostRate    int
	logLevel    slog.Level
	logFormat   string
	socket      string         // --admin-socket; empty: none
	saveFile    string         // --save
	saved       bool           // initial is what saveFile held
	initial     *ipvsadm.Rules // what saveFile said at the start, or else rules and rulesFile
}

type portRange struct{ low, high uint16 }

func (r portRange) String() string { return fmt.Sprintf("%d-%d", r.low, r.high) }

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

// errHelp says that the help was asked for and has been printed.
var errHelp = errors.New("help")

// problems collects everything wrong with a command line, one line each.
type problems []error

func (p *problems) add(flag, value, format string, args ...any) {
	*p = append(*p, fmt.Errorf("--%s %q: %w", flag, value, fmt.Errorf(format, args...)))
}

// parse makes a config of the command line. Its error joins all problems found, one line each; help and version text go to out.
func parse(args []string, out io.Writer) (*config, error) {
	c := &config{}
	var level, ports, connections, busyPoll, hostRate string // read when all are known, so that every problem is told at once
	var locals, marks, options []string
	fs := pflag.NewFlagSet("weir", pflag.ContinueOnError)
	fs.SortFlags = false
	fs.SetOutput(io.Discard)
	fs.StringArrayVarP(&c.interfaces, "interface", "i", nil, "`IFACE` to serve, all its queues; repeat for client and server side, or one for both")
	fs.StringArrayVarP(&c.rules, "rule", "r", nil, "one `RULE` in ipvsadm's grammar; repeat, in order, after those of --rules")
	fs.StringVarP(&c.rulesFile, "rules", "f", "", "`FILE` of rules as 'ipvsadm -S -n' prints them, read again at SIGHUP")
	fs.StringVar(&c.saveFile, "save", "", "`FILE` that keeps the rules as they change; when it exists at the start, it takes the place of --rules and --rule")
	fs.StringVar(&c.socket, "admin-socket", api.DefaultSocket, "`PATH` of the Unix socket that weiradm speaks to; '' for none")
	fs.StringArrayVarP(&locals, "local-address", "l", nil, "`ADDRESS` that FULLNAT talks to servers from; repeatable")
	fs.StringVar(&ports, "local-ports", "1024-65535", "port `RANGE` used on local addresses, LOW-HIGH")
	tunnels := fs.StringArray("tunnel-source", nil, "`PREFIX` to take the outer source of tunnelled packets from, by the flow, so that a server spreads them over its queues; one of each IP version")
	fs.BoolVar(&c.assign, "assign-addresses", false, "put service addresses on the first interface and local addresses on the last, and take them off at stop")
	fs.StringArrayVarP(&marks, "mark", "m", nil, "`RULE` that gives packets a firewall mark: 'MARK PROTO DST[/LEN][:PORT[-PORT]] [SRC[/LEN]]'; the first that matches decides")
	fs.StringArrayVarP(&options, "option", "o", nil, "`NAME=VALUE`, an IPVS setting (net.ipv4.vs.NAME): "+strings.Join(lb.SysctlNames(), ", "))
	fs.StringVar(&connections, "connections", "1048576", "capacity of the connection table, a `NUMBER` of connections of 128 bytes")
	fs.StringVar(&c.zeroCopy, "zero-copy", "auto", "zero copy, `HOW`: auto (where the driver has it), on (or fail), off")
	fs.StringVar(&c.xdpMode, "xdp-mode", "auto", "XDP `MODE`: auto (native, or generic where the driver refuses), native, generic")
	fs.StringVar(&busyPoll, "busy-poll", "0", "let the worker drive the NIC's queue for this `TIME` at a time (0: off, 1us to 10ms)")
	fs.StringVar(&hostRate, "host-rate", "100000", "`NUMBER` of packets per second at most that are given back to the kernel")
	fs.StringVar(&level, "log-level", "info", "least `LEVEL` that is logged: debug, info, warn, error")
	fs.StringVar(&c.logFormat, "log-format", "text", "`FORM` of the log on standard error: text, json")
	version := fs.BoolP("version", "V", false, "print the version and exit")
	help := fs.BoolP("help", "h", false, "print this help and exit")
	if err := fs.Parse(args); err != nil {
		if bad := (*pflag.InvalidValueError)(nil); errors.As(err, &bad) { // only a switch looks at its value by itself
			err = fmt.Errorf("--%s %q: allowed: true, false", bad.GetFlag().Name, bad.GetValue())
		}
		return nil, fmt.Errorf("%w (see weir --help)", err)
	}
	if *help {
		// A switch is given or not: that it could be spelled --switch=true helps nobody.
		fmt.Fprint(out, usage, strings.ReplaceAll(fs.FlagUsagesWrapped(110), "[=true|false]", "             "))
		return nil, errHelp
	}
	if *version {
		fmt.Fprintln(out, "weir", buildVersion())
		return nil, errHelp
	}

	var p problems
	for _, a := range fs.Args() {
		p = append(p, fmt.Errorf("%q: weir takes flags only", a))
	}
	if len(c.interfaces) == 0 {
		p = append(p, errors.New("--interface: missing: name at least one interface"))
	}
	for i, name := range c.interfaces {
		if slices.Contains(c.interfaces[:i], name) {
			p.add("interface", name, "given twice")
		}
	}
	for _, text := range locals {
		a, err := netip.ParseAddr(text)
		switch {
		case err != nil || a.Zone() != "" || !a.IsGlobalUnicast() || a.Is4In6():
			p.add("local-address", text, "not an address that servers could answer to")
		case slices.Contains(c.locals, a):
			p.add("local-address", text, "given twice")
		default:
			c.locals = append(c.locals, a)
		}
	}
	for _, text := range *tunnels {
		block, err := netip.ParsePrefix(text)
		switch {
		case err != nil || block != block.Masked() || block.Addr().Is4In6() || !block.Addr().IsGlobalUnicast():
			p.add("tunnel-source", text, "want a block of unicast addresses, PREFIX/LENGTH, without bits behind its length")
		case slices.ContainsFunc(c.tunnels, func(b lb.Prefix) bool { return b.Addr.Is4() == block.Addr().Is4() }):
			p.add("tunnel-source", text, "one of each IP version at most")
		default:
			c.tunnels = append(c.tunnels, lb.Prefix{Addr: lb.AddrFrom(block.Addr()), Bits: block.Bits()})
		}
	}
	for _, text := range marks {
		r, err := lb.ParseMarkRule(text)
		if err != nil {
			p.add("mark", text, "%w", err)
		}
		c.marks = append(c.marks, r)
	}
	c.sysctls = lb.DefaultSysctls()
	for _, text := range options {
		if err := c.sysctls.Set(text); err != nil {
			p.add("option", text, "%w", err)
		}
	}
	var ok bool
	if c.localPorts, ok = parsePorts(ports); !ok {
		p.add("local-ports", ports, "want LOW-HIGH with 1 <= LOW <= HIGH <= 65535")
	}
	c.connections = p.number("connections", connections, 1024, 1<<27)
	oneOf(&p, "zero-copy", c.zeroCopy, "auto", "on", "off")
	oneOf(&p, "xdp-mode", c.xdpMode, "auto", "native", "generic")
	oneOf(&p, "log-format", c.logFormat, "text", "json")
	var err error
	if c.busyPoll, err = time.ParseDuration(busyPoll); err != nil ||
		c.busyPoll != 0 && (c.busyPoll < time.Microsecond || c.busyPoll > 10*time.Millisecond) {
		p.add("busy-poll", busyPoll, "allowed: 0 (off) or 1us to 10ms")
	}
	c.hostRate = p.number("host-rate", hostRate, 1, 1_000_000_000)
	if oneOf(&p, "log-level", level, "debug", "info", "warn", "error") {
		_ = c.logLevel.UnmarshalText([]byte(level))
	}
	if len(c.rules) == 0 && c.rulesFile == "" && c.socket == "" && c.saveFile == "" {
		p = append(p, errors.New("--rule, --rules: neither given, and no --admin-socket to get rules from: there is nothing to balance"))
	}
	if c.checkFiles(&p) {
		p = append(p, c.readInitial()...)
	}
	if len(p) > 0 {
		return nil, errors.Join(p...)
	}
	return c, nil
}

// checkFiles finds paths that cannot be meant; false: there is no use in reading what --save names.
func (c *config) checkFiles(p *problems) bool {
	if len(c.socket) > maxSocketPath {
		p.add("admin-socket", c.socket, "longer than %d bytes", maxSocketPath)
	}
	if c.saveFile == "" {
		return true
	}
	dir, err := os.Stat(filepath.Dir(c.saveFile))
	file, missing := os.Stat(c.saveFile)
	switch {
	case c.rulesFile != "" && sameFile(c.rulesFile, c.saveFile):
		p.add("save", c.saveFile, "is the file of --rules: weir would write over it; choose another one")
	case err != nil || !dir.IsDir():
		p.add("save", c.saveFile, "its directory does not exist")
	case missing == nil && !file.Mode().IsRegular():
		p.add("save", c.saveFile, "is not a regular file")
	default:
		return true
	}
	return false
}

// maxSocketPath is what sun_path holds (unix(7)), less what the socket's name has appended while it is made.
const maxSocketPath = 107 - 11

func sameFile(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	if err1 == nil && err2 == nil {
		return os.SameFile(x, y)
	}
	return filepath.Clean(a) == filepath.Clean(b)
}

// readInitial reads what weir starts with: what it saved in an earlier life, or else the rules of the command line.
func (c *config) readInitial() []error {
	if c.saveFile != "" {
		rules, there, errs := admin.ReadSaved(c.saveFile)
		if there {
			for i, err := range errs {
				errs[i] = fmt.Errorf("--save: %w", err)
			}
			c.initial, c.saved = rules, true
			return errs
		}
	}
	var errs []error
	c.initial, errs = c.readRules()
	return errs
}

// readRules reads the rules file, then the command line's rules on top of it.
func (c *config) readRules() (*ipvsadm.Rules, []error) {
	var errs []error
	rules := new(ipvsadm.Rules)
	if c.rulesFile != "" {
		file, err := os.Open(c.rulesFile)
		if err != nil {
			errs = append(errs, fmt.Errorf("--rules: %w", err))
		} else {
			commands, problems := ipvsadm.ParseFile(c.rulesFile, file)
			file.Close()
			errs = append(errs, problems...)
			for _, command := range commands {
				if err := rules.Apply(command); err != nil {
					errs = append(errs, err)
				}
			}
		}
	}
	for _, line := range c.rules {
		command, err := ipvsadm.ParseLine(line)
		if err == nil {
			command.Source = "--rule"
			err = rules.Apply(command)
		} else {
			err = fmt.Errorf("--rule %q: %w", line, err)
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return rules, errs
}

// number reads the value of a flag that takes one from low to high.
func (p *problems) number(flag, value string, low, high int) int {
	n, err := strconv.Atoi(value)
	if err != nil || n < low || n > high {
		p.add(flag, value, "allowed: %d to %d", low, high)
	}
	return n
}

func parsePorts(s string) (portRange, bool) {
	low, high, found := strings.Cut(s, "-")
	l, err1 := strconv.ParseUint(low, 10, 16)
	h, err2 := strconv.ParseUint(high, 10, 16)
	ok := found && err1 == nil && err2 == nil && l >= 1 && l <= h
	return portRange{uint16(l), uint16(h)}, ok
}

func oneOf(p *problems, flag, value string, allowed ...string) bool {
	if slices.Contains(allowed, value) {
		return true
	}
	p.add(flag, value, "allowed: %s", strings.Join(allowed, ", "))
	return false
}
