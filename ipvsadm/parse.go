package ipvsadm

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"weir/lb"
)

// DefaultPersist is what -p alone means in ipvsadm 1.31 (its man page says 300 seconds; the recording says 360).
const DefaultPersist = 360 * time.Second

// maxTimeout bounds -p and --set, in seconds: 31 days, ipvsadm's.
const maxTimeout = 31 * 86400

// DefaultScheduler is what a service without -s gets.
const DefaultScheduler = "wlc"

// Parse reads one command line, the words after the program's name. No words at all mean -L, as with ipvsadm.
// The error is an *Error.
func Parse(args []string) (Command, error) {
	if len(args) == 0 {
		return Command{Op: OpList}, nil
	}
	return parse(args, 1, etcServices())
}

// ParseLine reads one line of the kind `ipvsadm -S` prints and -R takes: words between white space, nothing quoted;
// "ipvsadm" may stand before them. A '#' has no meaning here. A line without words is an error, unlike Parse(nil).
// A mark may be negative as -S prints those from 2^31 on (ipvsadm then cannot read it). The error is an *Error.
func ParseLine(line string) (Command, error) { return parseLine(line, etcServices()) }

// ParseWords is ParseLine for a line that has been cut into words.
func ParseWords(words []string) (Command, error) { return parse(words, math.MinInt32, etcServices()) }

// Words cuts a line where ParseLine does.
func Words(line string) []string {
	words := split(line)
	if len(words) > 0 && words[0] == "ipvsadm" {
		words = words[1:]
	}
	return words
}

// split returns the words of a line.
func split(line string) []string { return strings.FieldsFunc(line, isSpace) }

func isSpace(c rune) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

func parseLine(line string, names *serviceNames) (Command, error) {
	args := Words(line)
	if len(args) == 0 {
		return Command{}, noCommand("the line is empty")
	}
	return parse(args, math.MinInt32, names)
}

func parse(args []string, lowestMark int64, names *serviceNames) (Command, error) {
	p := parser{in: popt{args: args}, names: names, lowestMark: lowestMark, mask4: math.MaxUint32}
	p.cmd.Server = lb.Server{Mode: lb.DR, Weight: 1}
	if err := p.run(); err != nil {
		return Command{}, err
	}
	return p.cmd, nil
}

// parser turns options into a Command in the order they stand, because ipvsadm does: -r takes the port -t gave before it.
type parser struct {
	in    popt
	names *serviceNames
	cmd   Command
	given optionSet

	lowestMark int64 // the least -f that is taken

	is6   bool   // an IPv6 service was named
	mask4 uint32 // -M of an IPv4 service
	plen6 int    // -M of an IPv6 one
	flags string // -b, read when the scheduler is known
}

func (p *parser) run() error {
	w, arg, _, wrong := p.in.step()
	if wrong != "" || w == nil || w.op == 0 {
		return noCommand(fmt.Sprintf("%.60q", strings.Join(p.in.args, " "))) // of what is no rules at all, its beginning is enough
	}
	p.cmd.Op = w.op
	switch w.op {
	case OpHelp, OpVersion:
		return nil
	case OpStartDaemon, OpStopDaemon:
		if arg != "master" && arg != "backup" {
			text := "illegal start-daemon parameter specified"
			if w.op == OpStopDaemon {
				text = "illegal start_daemon specified" // sic
			}
			return bad(w, arg, text, "master or backup")
		}
		p.cmd.daemon = arg
	}
	for {
		w, arg, has, wrong := p.in.step()
		if wrong != "" {
			return &Error{Status: 255, Text: p.in.current() + ": " + wrong,
				Detail: fmt.Sprintf("%q: %s; %s takes %v", p.in.current(), wrong, p.cmd.Op, p.allowed())}
		}
		if w == nil {
			break
		}
		if w.op != 0 {
			return &Error{Status: 2, Text: fmt.Sprintf("invalid option `%s'", p.in.current()),
				Detail: fmt.Sprintf("%s: there is a command already, %s; one line holds one", w.flag(), p.cmd.Op)}
		}
		if w.opt < optCount {
			if p.given.has(w.opt) {
				return &Error{Status: 2, Text: fmt.Sprintf("multiple '%s' options specified", optionNames[w.opt].name),
					Detail: fmt.Sprintf("%s: %s can be given once", w.flag(), optionNames[w.opt].flag)}
			}
			p.given |= set(w.opt)
		}
		if err := p.take(w, arg, has); err != nil {
			return err
		}
	}
	left := p.in.left
	if p.cmd.Op == OpSetTimeouts {
		if len(left) < 3 {
			return &Error{Status: 2, Text: "--set option requires 3 timeout values", Detail: fmt.Sprintf(
				"--set: needs three timeouts in seconds (tcp, tcpfin, udp; 0 leaves one as it is), got %d", len(left))}
		}
		for i, t := range []*int{&p.cmd.Timeouts.TCP, &p.cmd.Timeouts.TCPFin, &p.cmd.Timeouts.UDP} {
			n, err := timeout("--set", left[i], 0)
			if err != nil {
				return err
			}
			*t = n
		}
		left = left[3:]
	}
	if len(left) > 0 {
		return &Error{Status: 2, Text: "unexpected argument " + left[0],
			Detail: fmt.Sprintf("%q: unexpected argument; options begin with a dash, and %s takes %v", left[0], p.cmd.Op, p.allowed())}
	}
	svc := &p.cmd.Service
	svc.Scheduler = cmp.Or(svc.Scheduler, DefaultScheduler)
	flags, err := parseSchedFlags(p.flags, svc.Scheduler)
	if err != nil {
		return err
	}
	svc.SchedFlags = flags.names(svc.Scheduler)
	if err := p.checkOptions(); err != nil {
		return err
	}
	return p.finish()
}

// allowed returns what the command can have with it.
func (p *parser) allowed() optionSet {
	c := &commands[p.cmd.Op]
	return c.needs | c.takes | c.takesOne
}

// take handles one option.
func (p *parser) take(w *word, arg string, has bool) (err error) {
	svc, srv := &p.cmd.Service, &p.cmd.Server
	switch w.opt {
	case optService:
		return p.takeService(w, arg)
	case optIPv6:
		if svc.Key.Mark == 0 {
			return &Error{Status: 2, Text: "-6 used before -f\n", Detail: "-6: comes after -f and its mark: -f 7 -6"}
		}
		svc.Key.Is6, p.is6, p.plen6 = true, true, 128
	case optScheduler:
		svc.Scheduler = arg
	case optPersistent:
		svc.Persist = DefaultPersist
		if has {
			n, err := timeout(w.flag(), arg, 1)
			if err != nil {
				return err
			}
			svc.Persist = time.Duration(n) * time.Second
		}
	case optNetmask:
		if p.is6 {
			if p.plen6, err = number(w, arg, 1, 128, "illegal ipv6 netmask specified"); err != nil {
				return err
			}
			break
		}
		mask, ok := parseIPv4(arg)
		if !ok {
			return bad(w, arg, "illegal virtual server persistent mask specified", "a netmask as 255.255.255.0 (IPv6: 1 to 128, after the service)")
		}
		p.mask4 = mask
	case optServer:
		a, port, hasPort, why := parseAddrPort(arg, namingProto(svc.Key), p.names)
		if why != "" {
			return bad(w, arg, "illegal real server address[:port] specified", why)
		}
		if !hasPort {
			port = svc.Key.Port
		}
		srv.Addr, srv.Port = a, port
	case optForward:
		srv.Mode = map[byte]lb.Mode{'g': lb.DR, 'i': lb.TUN, 'm': lb.NAT, 'F': lb.FULLNAT}[w.short]
	case optWeight:
		n, err := number(w, arg, 0, math.MaxInt32, "illegal weight specified")
		srv.Weight = int32(n)
		return err
	case optUpper:
		n, err := number(w, arg, 0, math.MaxInt32, "illegal u_threshold specified")
		srv.Upper = uint32(n)
		return err
	case optLower:
		n, err := number(w, arg, 0, math.MaxInt32, "illegal l_threshold specified")
		srv.Lower = uint32(n)
		return err
	case optOnePacket:
		svc.OnePacket = true
	case optEngine:
		svc.Engine = arg
	case optSchedFlags:
		p.flags = arg
	case optTunType:
		switch arg {
		case "ipip":
			srv.Tunnel.Type = lb.IPIP
		case "gue":
			srv.Tunnel.Type = lb.GUE
		case "gre":
			srv.Tunnel.Type = lb.GRE
		default:
			return bad(w, arg, "illegal tunnel type specified", "ipip, gue or gre")
		}
	case optTunPort:
		n, err := number(w, arg, 1, 65535, "illegal tunnel port specified")
		srv.Tunnel.Port = uint16(n)
		return err
	case optTunCsum:
		srv.Tunnel.Csum = true
	case optTunRemcsum:
		srv.Tunnel.Remcs = true
	default:
		return p.takeListing(w, arg)
	}
	return nil
}

// takeListing handles the options that choose what is listed, and those of the daemon, of which only the form is looked at.
func (p *parser) takeListing(w *word, arg string) (err error) {
	l := &p.cmd.Options
	switch w.opt {
	case optNumeric:
		l.Numeric = true
	case optConnection:
		l.Connections = true
	case optTimeout:
		l.Timeouts = true
	case optDaemon:
		l.Daemon = true
	case optStats:
		l.Stats = true
	case optRate:
		l.Rate = true
	case optThresholds:
		l.Thresholds = true
	case optPersistentConn:
		l.PersistentConn = true
	case optTunInfo:
		l.TunnelInfo = true
	case optExact:
		l.Exact = true
	case optNoSort:
		l.NoSort = true
	case optSyncID:
		_, err = number(w, arg, 0, 255, "illegal syncid specified")
	case optMcastPort:
		_, err = number(w, arg, 1, 65535, "illegal mcast-port specified")
	case optMcastTTL:
		_, err = number(w, arg, 1, 255, "illegal mcast-ttl specified")
	case optSyncMaxLen:
		_, err = number(w, arg, 1, 65535-20-8, "illegal sync-maxlen specified")
	case optMcastGroup:
		if a, e := netip.ParseAddr(arg); e != nil || !a.IsMulticast() {
			version := 4
			if a.Is6() {
				version = 6
			}
			err = bad(w, arg, fmt.Sprintf("invalid IPv%d mcast-group `%s'", version, arg), "a multicast address")
		}
	}
	return err
}

func (p *parser) takeService(w *word, arg string) error {
	p.cmd.HasService = true
	key := &p.cmd.Service.Key
	if w.short == 'f' {
		n, ok := parseNumber(arg, p.lowestMark, math.MaxUint32)
		if !ok || n == 0 {
			return bad(w, arg, fmt.Sprintf("invalid fwmark value `%s' specified", arg), "a number from 1 to 4294967295")
		}
		key.Mark = uint32(n)
		return nil
	}
	key.Proto = lb.TCP
	switch w.long {
	case "udp-service":
		key.Proto = lb.UDP
	case "sctp-service":
		key.Proto = lb.SCTP
	}
	a, port, _, why := parseAddrPort(arg, key.Proto, p.names)
	if why != "" {
		return bad(w, arg, "illegal virtual server address[:port] specified", why)
	}
	key.Addr, key.Port = a, port
	p.is6, p.plen6 = !a.Is4(), 128
	return nil
}

// noCommand is what ipvsadm answers when the first option is no command.
func noCommand(got string) error {
	var flags []string
	for op := OpAddService; op <= OpVersion; op++ {
		flags = append(flags, op.String())
	}
	return &Error{Status: 255, Text: "Try `ipvsadm -h' or 'ipvsadm --help' for more information.",
		Detail: fmt.Sprintf("%s: must begin with a command, one of %s", got, strings.Join(flags, " "))}
}

// bad is a value that an option does not take.
func bad(w *word, value, text, allowed string) *Error {
	return &Error{Status: 2, Text: text, Detail: fmt.Sprintf("%s %q: must be %s", w.flag(), value, allowed)}
}
