// Package ipvsadm speaks ipvsadm's grammar: what operators type, what `ipvsadm -S` prints, and the listings they read.
// A command line becomes a Command, a Command is applied to Rules, Rules are printed again:
//
//	commands, problems := ipvsadm.ParseFile("rules", file)
//	next := rules.Clone() // so that a file is applied whole or not at all
//	for _, c := range commands {
//		if err := next.Apply(c); err != nil {
//			problems = append(problems, err)
//		}
//	}
//	services := next.Services()
//	ipvsadm.Save(os.Stdout, next.Listing(), true)
//
// Grammar, checks, messages and exit statuses are those of ipvsadm 1.31 on Linux 6.1, held to a recording of it
// (testdata/ipvsadm.json.gz), plus one forwarding method, -F/--fullnat. Where weir differs, it differs openly:
//   - addresses are numbers; host names are refused, not looked up
//   - an IPv4 address does not go in brackets, an IPv6 one is not written IPv4-mapped
//   - addresses sort by number; ipvsadm's comparison overflows, so that 192.0.2.1 comes before 10.0.0.1 there
//   - marks from 2^31 on, which -S prints as negative numbers, can be read back by ParseLine and ParseFile
//   - what weir cannot do (the sync daemon, persistence engines) is understood, and refused when it is applied
package ipvsadm

import (
	"fmt"
	"strings"

	"weir/lb"
)

// Op is what a command does.
type Op uint8

const (
	OpAddService    Op = 1 + iota // -A
	OpEditService                 // -E
	OpDeleteService               // -D
	OpFlush                       // -C
	OpAddServer                   // -a
	OpEditServer                  // -e
	OpDeleteServer                // -d
	OpSetTimeouts                 // --set
	OpZero                        // -Z
	OpList                        // -L, -l
	OpSave                        // -S
	OpRestore                     // -R
	OpStartDaemon                 // --start-daemon
	OpStopDaemon                  // --stop-daemon
	OpHelp                        // -h
	OpVersion                     // -v
)

// String returns the operation as it is typed, in its short form where it has one.
func (o Op) String() string {
	if int(o) < len(commands) && o != 0 {
		return commands[o].flag
	}
	return fmt.Sprintf("op-%d", uint8(o))
}

// IsRule reports whether the operation is one that rules are made of: it changes services, servers or timeouts.
func (o Op) IsRule() bool { return o >= OpAddService && o <= OpSetTimeouts }

// Command is one parsed command line. Only the fields its Op speaks of are set.
type Command struct {
	Op       Op
	Service  Service   // -A and -E; Key alone for -a -e -d -D and, where HasService, -L and -Z
	Server   lb.Server // -a -e -d (for -d Addr and Port only)
	Timeouts Timeouts  // --set
	Options  Options   // -L, -S

	HasService bool   // a service was named (-t, -u, -f, --sctp-service)
	Source     string // where the line stands, as "file:12"; empty for a command line. Goes before every message about it

	daemon string // --start-daemon's argument
}

// Service is a service as ipvsadm can say it: lb.Service has no word for what weir cannot do.
type Service struct {
	lb.Service
	OddMask lb.Addr // an IPv4 -M that is no prefix of 1 to 32 bits (0.0.0.255); the zero Addr when PersistLen says it all
	Engine  string  // --pe
}

// Timeouts are those of --set, in seconds. In a command 0 leaves one as it is.
type Timeouts struct{ TCP, TCPFin, UDP int }

// DefaultTimeouts are IPVS's (net/netfilter/ipvs/ip_vs_proto_tcp.c and _udp.c): 15 minutes, 2 minutes, 5 minutes.
var DefaultTimeouts = Timeouts{TCP: 900, TCPFin: 120, UDP: 300}

// Options say how to list (-L) and save (-S).
type Options struct {
	Numeric        bool // -n: ports as numbers
	Connections    bool // -c
	Timeouts       bool // --timeout
	Daemon         bool // --daemon
	Stats          bool // --stats
	Rate           bool // --rate
	Thresholds     bool // --thresholds
	PersistentConn bool // --persistent-conn
	TunnelInfo     bool // --tun-info
	Exact          bool // --exact
	NoSort         bool // --nosort
}

// Error is a refusal: what ipvsadm would have said and returned, and a line that says more.
type Error struct {
	Status int    // ipvsadm's exit status: 2 for what it checks itself, 255 for bad options and what the kernel refuses, 1 for -L
	Text   string // what ipvsadm writes to standard error, without the last newline
	Where  string // "file:12"; empty for a command line
	Detail string // the whole story in one line: option, value, what is allowed; empty when Text says it all
}

func (e *Error) Error() string {
	msg := e.Detail
	if msg == "" {
		msg = strings.TrimSpace(e.Text)
	}
	if e.Where != "" {
		return e.Where + ": " + msg
	}
	return msg
}

// Unsupported returns the reason why weir cannot do what c asks for although it is good ipvsadm, or nil. Apply asks it too.
func (c Command) Unsupported() error {
	var why string
	switch {
	case c.Op == OpStartDaemon || c.Op == OpStopDaemon:
		why = "weir has no IPVS sync daemon"
	case c.Service.Engine != "":
		why = fmt.Sprintf("--pe %q: persistence engines are not supported; -p without --pe groups clients by address", c.Service.Engine)
	case c.Service.OddMask.IsValid():
		why = fmt.Sprintf("-M %s: the netmask is not a prefix of 1 to 32 bits (for example 255.255.255.0)", c.Service.OddMask)
	default:
		return nil
	}
	return &Error{Status: 255, Text: c.String() + ": " + why, Where: c.Source} // ipvsadm has no words for it
}

// is6 reports whether a service is an IPv6 one.
func is6(k lb.ServiceKey) bool { return k.Is6 || k.Mark == 0 && !k.Addr.Is4() }

// String names the command and what it is about, for messages: "-a TCP 192.0.2.1:80 10.0.0.2:80".
func (c Command) String() string {
	s := c.Op.String()
	if c.HasService {
		s += " " + c.Service.Key.String()
	}
	switch c.Op {
	case OpAddServer, OpEditServer, OpDeleteServer:
		s += " " + addrPort(c.Server.Addr, c.Server.Port)
	case OpStartDaemon, OpStopDaemon:
		s += " " + c.daemon
	}
	return s
}
