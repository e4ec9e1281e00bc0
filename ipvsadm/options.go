package ipvsadm

import "strings"

// option is what an option does; one value for all spellings that exclude each other (-t, -u, -f; -g, -i, -m, -F).
// The order is the one in which ipvsadm checks them, which decides what is said first when several are wrong.
type option uint8

const (
	optNumeric option = iota
	optConnection
	optService
	optScheduler
	optPersistent
	optNetmask
	optServer
	optForward
	optWeight
	optUpper
	optLower
	optMcastInterface
	optTimeout
	optDaemon
	optStats
	optRate
	optThresholds
	optPersistentConn
	optNoSort
	optSyncID
	optExact
	optOnePacket
	optEngine
	optSchedFlags
	optMcastGroup
	optMcastPort
	optMcastTTL
	optSyncMaxLen
	optTunInfo
	optTunType
	optTunPort
	optTunNoCsum
	optTunCsum
	optTunRemcsum
	optCount
	optIPv6 // these two are never counted as given: -6 belongs to -f, --sort does nothing
	optSort
)

// optionNames has, for each option, ipvsadm's name for it in messages, and how it is typed.
var optionNames = [optCount]struct{ name, flag string }{
	optNumeric: {"numeric", "-n"}, optConnection: {"connection", "-c"}, optService: {"service-address", "-t|-u|-f|--sctp-service"},
	optScheduler: {"scheduler", "-s"}, optPersistent: {"persistent", "-p"}, optNetmask: {"netmask", "-M"},
	optServer: {"real-server", "-r"}, optForward: {"forwarding-method", "-g|-i|-m|-F"}, optWeight: {"weight", "-w"},
	optUpper: {"u-threshold", "-x"}, optLower: {"l-threshold", "-y"}, optMcastInterface: {"mcast-interface", "--mcast-interface"},
	optTimeout: {"timeout", "--timeout"}, optDaemon: {"daemon", "--daemon"}, optStats: {"stats", "--stats"}, optRate: {"rate", "--rate"},
	optThresholds: {"thresholds", "--thresholds"}, optPersistentConn: {"persistent-conn", "--persistent-conn"},
	optNoSort: {"nosort", "--nosort"}, optSyncID: {"syncid", "--syncid"}, optExact: {"exact", "--exact"}, optOnePacket: {"ops", "-o"},
	optEngine: {"pe", "--pe"}, optSchedFlags: {"sched-flags", "-b"}, optMcastGroup: {"mcast-group", "--mcast-group"},
	optMcastPort: {"mcast-port", "--mcast-port"}, optMcastTTL: {"mcast-ttl", "--mcast-ttl"},
	optSyncMaxLen: {"sync-maxlen", "--sync-maxlen"}, optTunInfo: {"tun-info", "--tun-info"}, optTunType: {"tun-type", "--tun-type"},
	optTunPort: {"tun-port", "--tun-port"}, optTunNoCsum: {"tun-nocsum", "--tun-nocsum"}, optTunCsum: {"tun-csum", "--tun-csum"},
	optTunRemcsum: {"tun-remcsum", "--tun-remcsum"},
}

// optionSet is a set of options.
type optionSet uint64

func set(opts ...option) (s optionSet) {
	for _, o := range opts {
		s |= 1 << o
	}
	return s
}

func (s optionSet) has(o option) bool { return s>>o&1 != 0 }

func (s optionSet) String() string {
	var flags []string
	for o := range optCount {
		if s.has(o) {
			flags = append(flags, optionNames[o].flag)
		}
	}
	if flags == nil {
		return "none"
	}
	return strings.Join(flags, " ")
}

var (
	forService = set(optScheduler, optPersistent, optNetmask, optOnePacket, optEngine, optSchedFlags)
	forServer  = set(optForward, optWeight, optUpper, optLower, optTunType, optTunPort, optTunNoCsum, optTunCsum, optTunRemcsum)
	forDaemon  = set(optMcastInterface, optSyncID, optMcastGroup, optMcastPort, optMcastTTL, optSyncMaxLen)
	forListing = set(optNumeric, optStats, optRate, optThresholds, optPersistentConn, optNoSort, optSyncID, optExact, optTunInfo)
)

// commands has, for each operation: how it is typed, ipvsadm's name for it, and the options it must have, may have, and
// may have one of. That -L takes --syncid and does nothing with it is ipvsadm's.
var commands = [...]struct {
	flag, name             string
	needs, takes, takesOne optionSet
}{
	OpAddService:    {"-A", "add-service", set(optService), forService, 0},
	OpEditService:   {"-E", "edit-service", set(optService), forService, 0},
	OpDeleteService: {"-D", "delete-service", set(optService), 0, 0},
	OpFlush:         {"-C", "flush", 0, 0, 0},
	OpAddServer:     {"-a", "add-server", set(optService, optServer), forServer, 0},
	OpEditServer:    {"-e", "edit-server", set(optService, optServer), forServer, 0},
	OpDeleteServer:  {"-d", "delete-server", set(optService, optServer), 0, 0},
	OpSetTimeouts:   {"--set", "set", 0, 0, 0},
	OpZero:          {"-Z", "zero", 0, set(optService), 0},
	OpList:          {"-L", "list", 0, forListing, set(optConnection, optService, optTimeout, optDaemon)},
	OpSave:          {"-S", "save", 0, set(optNumeric), 0},
	OpRestore:       {"-R", "restore", 0, 0, 0},
	OpStartDaemon:   {"--start-daemon", "start-daemon", 0, forDaemon, 0},
	OpStopDaemon:    {"--stop-daemon", "stop-daemon", 0, set(optSyncID), 0},
	OpHelp:          {flag: "-h"},
	OpVersion:       {flag: "-v"},
}

// word is one spelling that is understood: an operation, or an option.
type word struct {
	long  string
	short byte // 0: none
	arg   argument
	op    Op     // when not zero, this is a command
	opt   option // else
}

type argument uint8

const (
	noArgument argument = iota
	needsArgument
	mayHaveArgument // taken unless the next word begins with a dash
)

var words = []word{
	{long: "add-service", short: 'A', op: OpAddService},
	{long: "edit-service", short: 'E', op: OpEditService},
	{long: "delete-service", short: 'D', op: OpDeleteService},
	{long: "clear", short: 'C', op: OpFlush},
	{long: "list", short: 'L', op: OpList},
	{long: "list", short: 'l', op: OpList},
	{long: "zero", short: 'Z', op: OpZero},
	{long: "add-server", short: 'a', op: OpAddServer},
	{long: "edit-server", short: 'e', op: OpEditServer},
	{long: "delete-server", short: 'd', op: OpDeleteServer},
	{long: "set", op: OpSetTimeouts},
	{long: "help", short: 'h', op: OpHelp},
	{long: "version", short: 'v', op: OpVersion},
	{long: "restore", short: 'R', op: OpRestore},
	{long: "save", short: 'S', op: OpSave},
	{long: "start-daemon", arg: needsArgument, op: OpStartDaemon},
	{long: "stop-daemon", arg: needsArgument, op: OpStopDaemon},

	{long: "tcp-service", short: 't', arg: needsArgument, opt: optService},
	{long: "udp-service", short: 'u', arg: needsArgument, opt: optService},
	{long: "sctp-service", arg: needsArgument, opt: optService},
	{long: "fwmark-service", short: 'f', arg: needsArgument, opt: optService},
	{long: "scheduler", short: 's', arg: needsArgument, opt: optScheduler},
	{long: "persistent", short: 'p', arg: mayHaveArgument, opt: optPersistent},
	{long: "netmask", short: 'M', arg: needsArgument, opt: optNetmask},
	{long: "real-server", short: 'r', arg: needsArgument, opt: optServer},
	{long: "gatewaying", short: 'g', opt: optForward},
	{long: "ipip", short: 'i', opt: optForward},
	{long: "masquerading", short: 'm', opt: optForward},
	{long: "fullnat", short: 'F', opt: optForward}, // weir's
	{long: "weight", short: 'w', arg: needsArgument, opt: optWeight},
	{long: "u-threshold", short: 'x', arg: needsArgument, opt: optUpper},
	{long: "l-threshold", short: 'y', arg: needsArgument, opt: optLower},
	{long: "numeric", short: 'n', opt: optNumeric},
	{long: "connection", short: 'c', opt: optConnection},
	{long: "mcast-interface", arg: needsArgument, opt: optMcastInterface},
	{long: "mcast-group", arg: needsArgument, opt: optMcastGroup},
	{long: "mcast-port", arg: needsArgument, opt: optMcastPort},
	{long: "mcast-ttl", arg: needsArgument, opt: optMcastTTL},
	{long: "sync-maxlen", arg: needsArgument, opt: optSyncMaxLen},
	{long: "syncid", arg: needsArgument, opt: optSyncID},
	{long: "timeout", opt: optTimeout},
	{long: "daemon", opt: optDaemon},
	{long: "stats", opt: optStats},
	{long: "rate", opt: optRate},
	{long: "thresholds", opt: optThresholds},
	{long: "persistent-conn", opt: optPersistentConn},
	{long: "nosort", opt: optNoSort},
	{long: "sort", opt: optSort},
	{long: "exact", short: 'X', opt: optExact},
	{long: "ipv6", short: '6', opt: optIPv6},
	{long: "ops", short: 'o', opt: optOnePacket},
	{long: "pe", arg: needsArgument, opt: optEngine},
	{long: "sched-flags", short: 'b', arg: needsArgument, opt: optSchedFlags},
	{long: "tun-info", opt: optTunInfo},
	{long: "tun-type", arg: needsArgument, opt: optTunType},
	{long: "tun-port", arg: needsArgument, opt: optTunPort},
	{long: "tun-nocsum", opt: optTunNoCsum},
	{long: "tun-csum", opt: optTunCsum},
	{long: "tun-remcsum", opt: optTunRemcsum},
}

// flag returns w as it is typed, in its short form where it has one.
func (w *word) flag() string {
	if w.short != 0 {
		return "-" + string(rune(w.short))
	}
	return "--" + w.long
}
