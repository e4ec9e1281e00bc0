package lb

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Sysctls are IPVS's net.ipv4.vs settings, as far as they mean something here, by their own names (Linux
// Documentation/networking/ipvs-sysctl.rst). Immutable once handed over; DefaultSysctls is what a director starts with.
type Sysctls struct {
	SloppyTCP               bool       // sloppy_tcp: any packet but RST opens a TCP connection
	SloppySCTP              bool       // sloppy_sctp: any packet but ABORT opens an SCTP connection
	ConnReuseMode           int        // conn_reuse_mode, 0 to 3: what a SYN on an old connection does
	ExpireNodestConn        NodestMode // expire_nodest_conn: whether a removed server's connections end at once
	ExpireQuiescentTemplate bool       // expire_quiescent_template: weight 0 ends persistence too
	NatICMPSend             bool       // nat_icmp_send: tell a NAT server whose packet belongs to no connection
	DropEntry               int        // drop_entry, 0 to 3: random early removal of half-open connections
	DropPacket              int        // drop_packet, 0 to 3: refusal of one in so many new connections
	SecureTCP               int        // secure_tcp, 0 to 3: the state transitions under attack
	AmDropRate              int        // am_droprate: with drop_packet=3, one packet in that many is dropped
}

// Defence modes of drop_entry, drop_packet and secure_tcp: never, when the connection table runs full (2 is how IPVS shows that it
// is on), always.
const (
	DefenceOff    = 0
	DefenceAuto   = 1
	DefenceActive = 2
	DefenceAlways = 3
)

// NodestMode says whose connections end as soon as their server is removed.
type NodestMode uint8

const (
	NodestUDP  NodestMode = iota // UDP's: weir's default; a removed server would swallow datagrams until the client pauses
	NodestNone                   // nobody's: IPVS's 0
	NodestAll                    // everybody's: IPVS's 1
)

func (m NodestMode) String() string { return [...]string{"udp", "0", "1"}[m] }

// DefaultSysctls returns IPVS's defaults, but for expire_nodest_conn and for drop_entry, which is automatic here: IPVS's table grows while
// there is memory, weir's has the size it was given.
func DefaultSysctls() Sysctls {
	return Sysctls{ConnReuseMode: 1, DropEntry: DefenceAuto, AmDropRate: 10}
}

// sysctl is one setting: how its value is read and shown.
type sysctl struct {
	name    string
	allowed string
	set     func(*Sysctls, string) bool
	get     func(*Sysctls) string
}

func flag(name string, field func(*Sysctls) *bool) sysctl {
	return sysctl{name, "0, 1",
		func(s *Sysctls, v string) bool { *field(s) = v == "1"; return v == "0" || v == "1" },
		func(s *Sysctls) string { return map[bool]string{false: "0", true: "1"}[*field(s)] }}
}

func number(name string, low, high int, field func(*Sysctls) *int) sysctl {
	return sysctl{name, fmt.Sprintf("%d to %d", low, high),
		func(s *Sysctls, v string) bool {
			n, err := strconv.Atoi(v)
			*field(s) = n
			return err == nil && n >= low && n <= high
		},
		func(s *Sysctls) string { return strconv.Itoa(*field(s)) }}
}

var sysctls = []sysctl{
	number("am_droprate", 1, 1_000_000, func(s *Sysctls) *int { return &s.AmDropRate }),
	number("conn_reuse_mode", 0, 3, func(s *Sysctls) *int { return &s.ConnReuseMode }),
	number("drop_entry", 0, 3, func(s *Sysctls) *int { return &s.DropEntry }),
	number("drop_packet", 0, 3, func(s *Sysctls) *int { return &s.DropPacket }),
	{"expire_nodest_conn", "0, 1, udp",
		func(s *Sysctls, v string) bool {
			i := slices.Index([]string{"udp", "0", "1"}, v)
			s.ExpireNodestConn = NodestMode(max(i, 0))
			return i >= 0
		},
		func(s *Sysctls) string { return s.ExpireNodestConn.String() }},
	flag("expire_quiescent_template", func(s *Sysctls) *bool { return &s.ExpireQuiescentTemplate }),
	flag("nat_icmp_send", func(s *Sysctls) *bool { return &s.NatICMPSend }),
	number("secure_tcp", 0, 3, func(s *Sysctls) *int { return &s.SecureTCP }),
	flag("sloppy_sctp", func(s *Sysctls) *bool { return &s.SloppySCTP }),
	flag("sloppy_tcp", func(s *Sysctls) *bool { return &s.SloppyTCP }),
}

// Set changes one setting, "NAME=VALUE". The error says what is allowed; then nothing has changed.
func (s *Sysctls) Set(option string) error {
	name, value, found := strings.Cut(option, "=")
	if !found {
		return fmt.Errorf("want NAME=VALUE; names: %s", strings.Join(SysctlNames(), ", "))
	}
	for _, c := range sysctls {
		if c.name != name {
			continue
		}
		next := *s
		if !c.set(&next, value) {
			return fmt.Errorf("%s: value %q: allowed: %s", name, value, c.allowed)
		}
		*s = next
		return nil
	}
	return fmt.Errorf("no option %q; allowed: %s", name, strings.Join(SysctlNames(), ", "))
}

// All returns every setting as NAME=VALUE, by name.
func (s Sysctls) All() []string {
	list := make([]string, len(sysctls))
	for i, c := range sysctls {
		list[i] = c.name + "=" + c.get(&s)
	}
	return list
}

// SysctlNames returns the names Set knows, sorted.
func SysctlNames() []string {
	names := make([]string, len(sysctls))
	for i, c := range sysctls {
		names[i] = c.name
	}
	return names
}
