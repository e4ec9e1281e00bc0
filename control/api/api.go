// Package api is how other programs speak to a running weir: HTTP and JSON over a Unix socket that only its owner may open.
//
//	c := api.NewClient("/run/weir.sock")
//	err := c.Change(ctx, api.Change{Commands: [][]string{{"-a", "-t", "192.0.2.10:80", "-r", "10.0.0.2:80", "-m"}}})
//	services, err := c.Services(ctx)
//
// Rules are said in ipvsadm's grammar here too, word by word: weir has one language for them. Everything that is read comes
// as plain data. The version stands in every path; a change that an older client would misunderstand makes it /v2.
//
//	POST /v1/change       Change -> Changed       any rules, -Z; answered when every worker has them
//	GET  /v1/services     -> Services             configuration and counters, as ipvsadm -L shows them
//	GET  /v1/list         -> text                 what ipvsadm prints for command=-L... or -S..., but for -L -c
//	GET  /v1/status       -> Status               interfaces, workers, table, drops
//	GET  /v1/connections  -> Connections          a page of the connection table; see Filter
//	GET  /v1/trace        -> Trace                where a flow would go, and why
//	GET  /v1/capture      -> a pcapng file        frames as workers see them; see CaptureQuery
//	POST /v1/drain        Drain -> Drained        weight 0 wherever a server serves
//
// A refusal is an Error, by the HTTP status 400 (not understood), 403 (not the owner), 404 (no such thing), 413 (too large),
// 422 (understood and refused) or 500.
package api

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// DefaultSocket is where weir listens and weiradm calls, unless told otherwise.
const DefaultSocket = "/run/weir.sock"

// Change is a list of commands, done in order. One that cannot be understood refuses the whole list.
type Change struct {
	// Commands are ipvsadm's, each as its words after the program's name: -A -E -D -C -a -e -d --set -Z.
	Commands [][]string `json:"commands"`
	// Atomic: all or none. Otherwise the others are done when one is refused, as ipvsadm -R goes on then.
	Atomic bool `json:"atomic,omitempty"`
}

// Changed says what became of a Change.
type Changed struct {
	Applied int       `json:"applied"` // commands
	Refused []Refusal `json:"refused,omitempty"`
}

// Refusal is a command of a Change that was not done.
type Refusal struct {
	Command int    `json:"command"` // counted from 0
	Error   *Error `json:"error"`
}

// Error is why a request is refused.
type Error struct {
	Text   string `json:"text"`             // what ipvsadm would print, or one line of weir's own
	Detail string `json:"detail,omitempty"` // the whole story in one line, where Text does not tell it
	Status int    `json:"status,omitempty"` // the exit status that ipvsadm would have; 0: it has no such case
}

func (e *Error) Error() string {
	if e.Detail != "" {
		return e.Detail
	}
	return strings.TrimSpace(e.Text)
}

// failure is the body of a refusal; of a Change, with what became of its commands.
type failure struct {
	Error *Error `json:"error"`
	*Changed
}

// Traffic counts connections, packets and bytes, from clients (in) and to them (out).
type Traffic struct {
	Conns      uint64 `json:"connections"`
	InPackets  uint64 `json:"in_packets"`
	OutPackets uint64 `json:"out_packets"`
	InBytes    uint64 `json:"in_bytes"`
	OutBytes   uint64 `json:"out_bytes"`
}

// Services is the configuration in force with its counters.
type Services struct {
	TableSize int       `json:"table_size"` // places in the connection table
	Timeouts  Timeouts  `json:"timeouts"`
	Services  []Service `json:"services"` // in the order they were added
}

// Timeouts are those of --set, in seconds.
type Timeouts struct {
	TCP    int `json:"tcp"`
	TCPFin int `json:"tcp_fin"`
	UDP    int `json:"udp"`
}

// Service is a virtual service: a protocol, an address and a port, or a firewall mark.
type Service struct {
	Protocol       string     `json:"protocol,omitempty"` // tcp, udp, sctp; empty for a mark
	Address        netip.Addr `json:"address,omitzero"`
	Port           uint16     `json:"port,omitempty"` // 0: any
	Mark           uint32     `json:"mark,omitempty"`
	IPv6           bool       `json:"ipv6,omitempty"` // of a mark: for IPv6 packets
	Scheduler      string     `json:"scheduler"`
	SchedulerFlags []string   `json:"scheduler_flags,omitempty"`
	PersistSeconds int        `json:"persist_seconds,omitempty"` // 0: no persistence
	PersistPrefix  int        `json:"persist_prefix,omitempty"`  // clients are grouped by so many bits; 0: each by itself
	OnePacket      bool       `json:"one_packet,omitempty"`
	Total          Traffic    `json:"total"`
	Rate           Traffic    `json:"rate"` // a second
	Servers        []Server   `json:"servers"`
}

// Name is the service as messages name it.
func (s *Service) Name() string {
	if s.Mark != 0 {
		return fmt.Sprintf("FWM %d", s.Mark)
	}
	return strings.ToUpper(s.Protocol) + " " + netip.AddrPortFrom(s.Address, s.Port).String()
}

// Server is a real server of a service.
type Server struct {
	Address        netip.Addr `json:"address"`
	Port           uint16     `json:"port"`
	Mode           string     `json:"mode"` // dr, nat, fullnat, tun
	Weight         int32      `json:"weight"`
	Upper          uint32     `json:"upper,omitempty"` // connections at which it counts as overloaded; 0: no limit
	Lower          uint32     `json:"lower,omitempty"` // connections below which it is open again
	Tunnel         string     `json:"tunnel,omitempty"`
	TunnelPort     uint16     `json:"tunnel_port,omitempty"`
	TunnelChecksum string     `json:"tunnel_checksum,omitempty"` // csum, remcsum
	Local          bool       `json:"local,omitempty"`           // it is the director itself
	Active         uint32     `json:"active"`
	Inactive       uint32     `json:"inactive"`
	Persistent     uint32     `json:"persistent"` // templates
	Total          Traffic    `json:"total"`
	Rate           Traffic    `json:"rate"`
}

// Connection is an entry of the connection table, or a persistence template (client port 0).
type Connection struct {
	Protocol string         `json:"protocol"` // TCP, UDP, SCTP; IP for a mark's template
	State    string         `json:"state"`    // IPVS's name for it
	Expires  int            `json:"expires"`  // seconds
	Client   netip.AddrPort `json:"client"`
	Virtual  netip.AddrPort `json:"virtual"`
	Local    netip.AddrPort `json:"local,omitzero"` // FULLNAT: where the server sees it come from
	Server   netip.AddrPort `json:"server"`
	Mode     string         `json:"mode"`
	Template bool           `json:"template,omitempty"`
}

// Connections is a page of the connection table.
type Connections struct {
	Connections []Connection `json:"connections"`
	Matched     int          `json:"matched"` // connections of this page, also when only counted
	Next        uint32       `json:"next"`    // where the next page begins; 0: there is none
}

// Drain asks that a server get no new connections.
type Drain struct {
	Server string `json:"server"` // an address, or address:port
}

// Drained lists the services whose server was drained.
type Drained struct {
	Services []string `json:"services"`
}

// TraceQuery asks what would become of a packet.
type TraceQuery struct {
	Protocol            string // tcp, udp or sctp
	Source, Destination netip.AddrPort
	Flags               string // TCP flags, a letter each of FSRPAU; empty: S
}

// Trace is the answer.
type Trace struct {
	Found      string      `json:"found"`                // connection, answer, template, new, nothing
	Connection *Connection `json:"connection,omitempty"` // the packet's, also one that it would end
	Template   *Connection `json:"template,omitempty"`   // that ties its client to a server
	Service    string      `json:"service,omitempty"`
	Scheduler  string      `json:"scheduler,omitempty"`
	Candidates []Candidate `json:"candidates,omitempty"` // what the scheduler would choose from
	Foresight  string      `json:"foresight,omitempty"`  // what is known of its choice: hash, counts, unknown
	Server     string      `json:"server,omitempty"`     // where the packet goes, if that is known
	Path       *Path       `json:"path,omitempty"`
	Rewrite    string      `json:"rewrite,omitempty"` // what changes in it
	Reason     string      `json:"reason,omitempty"`  // why it would not be forwarded
	Help       string      `json:"help,omitempty"`
	Why        []string    `json:"why"` // the story, a line each
}

// Candidate is a server that a scheduler may choose.
type Candidate struct {
	Server     string `json:"server"`
	Weight     int32  `json:"weight"`
	Active     uint32 `json:"active"`
	Inactive   uint32 `json:"inactive"`
	Overloaded bool   `json:"overloaded,omitempty"`
	Mode       string `json:"mode,omitempty"` // how packets would get there: dr, nat, fullnat, tun, local
	Path       *Path  `json:"path,omitempty"` // none: it cannot be reached, or is the director itself
}

// Path is the way to the next station.
type Path struct {
	Interface string `json:"interface"`
	MAC       string `json:"mac"`
	Source    string `json:"source_mac"`
	MTU       int    `json:"mtu"`
}

// Status is the state of a whole director.
type Status struct {
	Version     string        `json:"version"`
	Uptime      float64       `json:"uptime"` // seconds
	Interfaces  []Interface   `json:"interfaces"`
	Workers     []Worker      `json:"workers"`
	Table       Table         `json:"table"`
	Services    int           `json:"services"`
	Servers     int           `json:"servers"`
	Unreachable []Unreachable `json:"unreachable"`
	Packets     Packets       `json:"packets"`
	PerSecond   Packets       `json:"per_second"`
	Stops       []Stop        `json:"stops"` // the most frequent first
	Host        Host          `json:"host"`
	SaveError   string        `json:"save_error,omitempty"` // why --save's file is behind
}

// Interface is one of the director's.
type Interface struct {
	Name        string `json:"name"`
	MAC         string `json:"mac"`
	MTU         int    `json:"mtu"`
	Queues      int    `json:"queues"`
	XDP         string `json:"xdp"` // native, generic
	XDPWhy      string `json:"xdp_why,omitempty"`
	ZeroCopy    bool   `json:"zero_copy"`
	ZeroCopyWhy string `json:"zero_copy_why,omitempty"`
	// The kernel's ring statistics, all queues together.
	RxDropped     uint64 `json:"rx_dropped"`      // for want of a frame
	RxRingFull    uint64 `json:"rx_ring_full"`    // because a worker was behind
	FillRingEmpty uint64 `json:"fill_ring_empty"` // how often there was no frame to receive into
	TxInvalid     uint64 `json:"tx_invalid"`
	NoRoom        uint64 `json:"no_room"`   // dropped, the transmit ring being full
	LinkDown      uint64 `json:"link_down"` // dropped, the link being down
}

// Worker is one thread with its queues.
type Worker struct {
	Number    int     `json:"number"`
	CPU       float64 `json:"cpu"` // share of one CPU over the last two seconds, 0 to 1
	Received  uint64  `json:"received"`
	PerSecond uint64  `json:"per_second"`
	Batches   uint64  `json:"batches"`
	Batch     float64 `json:"batch"`               // packets a batch, on average since the start
	PinnedTo  *int    `json:"pinned_to,omitempty"` // the only CPU it runs on (--cpus)
}

// Table is the connection table.
type Table struct {
	Capacity int               `json:"capacity"`
	Used     int               `json:"used"`
	Opened   uint64            `json:"opened"`
	Expired  uint64            `json:"expired"`
	Evicted  uint64            `json:"evicted"` // half-open ones that made room
	Refused  map[string]uint64 `json:"refused,omitempty"`
}

// Unreachable is a server that packets cannot be sent to.
type Unreachable struct {
	Service string `json:"service"`
	Server  string `json:"server"`
}

// Packets counts packets, and bytes of IP.
type Packets struct {
	Received    uint64 `json:"received"`
	ToServer    uint64 `json:"to_server"`
	ToClient    uint64 `json:"to_client"`
	ToHost      uint64 `json:"to_host"`
	Answered    uint64 `json:"answered"`
	BytesIn     uint64 `json:"bytes_in"`
	BytesOut    uint64 `json:"bytes_out"`
	Connections uint64 `json:"connections"`
}

// Stop is a reason why packets were not forwarded.
type Stop struct {
	Reason    string `json:"reason"`
	Packets   uint64 `json:"packets"`
	PerSecond uint64 `json:"per_second"`
	ToHost    bool   `json:"to_host"` // given to the kernel rather than dropped
	Help      string `json:"help"`
}

// Host is the way back to the kernel.
type Host struct {
	Injected uint64 `json:"injected"`
	Failed   uint64 `json:"failed"`
	RingFull uint64 `json:"ring_full"`
	OverRate uint64 `json:"over_rate"`
}

// Limits of a request. The largest that makes sense is a whole configuration in one atomic Change.
const (
	maxBody     = 32 << 20         // bytes of a Change
	maxCommands = 1 << 20          // in it
	maxPage     = 10_000           // connections of one answer
	firstPage   = 100              // of the first one of Client.Pages
	readTime    = 20 * time.Second // for a whole request
	headerTime  = 5 * time.Second
	writeTime   = time.Minute // for a whole answer
	idleTime    = 2 * time.Minute
	maxClients  = 64 // connected at a time
)
