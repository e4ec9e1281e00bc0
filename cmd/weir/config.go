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

	"weir/control/admin"
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
	clampMSS    bool
	localPorts  portRange
	assign      bool
	connections int
	cpus        []int // of the workers, in turn; none: not pinned
	marks       []lb.MarkRule
	sysctls     lb.Sysctls
	zeroCopy    string
	xdpMode     string
	busyPoll    time.Duration
	hostRate    int
	logLevel    slog.Level
	logFormat   string
	socket      string         // --admin-socket; empty: none
	metrics     string         // --metrics-address; empty: not served
	web         string         // --web-address; empty: not served
	saveFile    string         // --save
	saved       bool           // initial is what saveFile held
	initial     *ipvsadm.Rules // what saveFile said at the start, or else rules and rulesFile
}

type portRange struct{ low, high uint16 }

func (r portRange) String() string { return fmt.Sprintf("%d-%d", r.low, r.high) }

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
	w, p, err := readFlags(c, args)
	if err != nil {
		return nil, err
	}
	if w.help {
		// A switch is given or not: that it could be spelled --switch=true helps nobody.
		fmt.Fprint(out, usage, strings.ReplaceAll(w.flags.FlagUsagesWrapped(110), "[=true|false]", "             "))
		return nil, errHelp
	}
	if w.version {
		fmt.Fprintln(out, "weir", buildVersion())
		return nil, errHelp
	}
	if len(c.interfaces) == 0 {
		p = append(p, errors.New("--interface: missing: name at least one interface"))
	}
	for i, name := range c.interfaces {
		if slices.Contains(c.interfaces[:i], name) {
			p.add("interface", name, "given twice")
		}
	}
	for _, text := range w.locals {
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
	for _, text := range w.tunnels {
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
	for _, text := range w.marks {
		r, err := lb.ParseMarkRule(text)
		if err != nil {
			p.add("mark", text, "%w", err)
		}
		c.marks = append(c.marks, r)
	}
	c.sysctls = lb.DefaultSysctls()
	for _, text := range w.options {
		if err := c.sysctls.Set(text); err != nil {
			p.add("option", text, "%w", err)
		}
	}
	var ok bool
	if c.localPorts, ok = parsePorts(w.ports); !ok {
		p.add("local-ports", w.ports, "want LOW-HIGH with 1 <= LOW <= HIGH <= 65535")
	}
	c.connections = p.number("connections", w.connections, 1024, 1<<27)
	if err := c.readCPUs(w.cpus); err != nil {
		p.add("cpus", w.cpus, "%w", err)
	}
	oneOf(&p, "zero-copy", c.zeroCopy)
	oneOf(&p, "xdp-mode", c.xdpMode)
	oneOf(&p, "log-format", c.logFormat)
	if c.busyPoll, err = time.ParseDuration(w.busyPoll); err != nil ||
		c.busyPoll != 0 && (c.busyPoll < time.Microsecond || c.busyPoll > 10*time.Millisecond) {
		p.add("busy-poll", w.busyPoll, "allowed: 0 (off) or 1us to 10ms")
	}
	c.hostRate = p.number("host-rate", w.hostRate, 1, 1_000_000_000)
	if oneOf(&p, "log-level", w.level) {
		_ = c.logLevel.UnmarshalText([]byte(w.level))
	}
	if len(c.rules) == 0 && c.rulesFile == "" && c.socket == "" && c.saveFile == "" {
		p = append(p, errors.New("--rule, --rules: neither given, and no --admin-socket to get rules from: there is nothing to balance"))
	}
	if c.checkFiles(&p) {
		p = append(p, c.readInitial()...)
		c.checkWanted(&p)
	}
	if len(p) > 0 {
		return nil, errors.Join(p...)
	}
	return c, nil
}

// checkWanted finds flags that the rules need and that were not given.
func (c *config) checkWanted(p *problems) {
	if c.initial == nil {
		return
	}
	for _, s := range c.initial.Services() {
		if s.Key.Mark != 0 && !slices.ContainsFunc(c.marks, func(r lb.MarkRule) bool { return r.Mark == s.Key.Mark }) {
			*p = append(*p, fmt.Errorf("--mark: missing: no rule gives packets the mark of service %s: --mark '%d PROTO DST[/LEN][:PORTS]'", s.Key, s.Key.Mark))
		}
		if len(c.locals) == 0 && slices.ContainsFunc(s.Servers, func(v lb.Server) bool { return v.Mode == lb.FULLNAT }) {
			*p = append(*p, fmt.Errorf("--local-address: missing: FULLNAT (-F) of service %s talks to servers from it", s.Key))
		}
	}
}

// checkFiles finds paths that cannot be meant; false: there is no use in reading what --save names.
func (c *config) checkFiles(p *problems) bool {
	if len(c.socket) > maxSocketPath {
		p.add("admin-socket", c.socket, "longer than %d bytes", maxSocketPath)
	}
	checkAddress(p, "metrics-address", c.metrics, 9100)
	checkAddress(p, "web-address", c.web, 8080)
	if c.web != "" && c.web == c.metrics {
		p.add("web-address", c.web, "is --metrics-address: choose another port")
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

// checkAddress finds an address to listen on that cannot be meant; port is for the example.
func checkAddress(p *problems, flag, value string, port int) {
	if _, err := netip.ParseAddrPort(value); err != nil && value != "" {
		p.add(flag, value, "want ADDRESS:PORT, as 127.0.0.1:%d or [::]:%[1]d", port)
	}
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

func oneOf(p *problems, flag, value string) bool {
	if slices.Contains(allowed[flag], value) {
		return true
	}
	p.add(flag, value, "allowed: %s", strings.Join(allowed[flag], ", "))
	return false
}
