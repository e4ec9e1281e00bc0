// Package reason names what can become of a packet that is not forwarded. A packet is not an error: who stops one returns a
// Reason, and the counter of that name is its log line.
package reason

// Reason says why a packet was not forwarded. The zero value, None, means it may go on.
type Reason uint8

const (
	None Reason = iota

	// Malformed: what the bytes themselves forbid.
	Truncated   // ends inside a header
	BadIPHeader // version, header length or total length impossible (RFC 791); of what opens a connection, becomes IPv6 or is an error to be made anew, also the checksum
	BadL4Header // TCP data offset or UDP length impossible (RFC 9293, RFC 768); of an ICMP error that is to be made anew, its checksum

	// Not weir's: goes on to the kernel.
	NotIP        // neither IPv4 nor IPv6 behind the tags
	NotL4        // a protocol weir does not balance
	Fragment     // a fragment of a protocol that weir does not balance
	ICMPError    // an ICMP error about no connection
	IPsec        // AH or ESP that follows no connection
	NoService    // no connection and no service
	NoConnection // no connection and not the start of one
	LocalServer  // its server is the director itself
	NotUnicast   // to a broadcast or multicast address, of Ethernet or IP
	SourceRoute  // its IPv4 options say which way it is to go on, or make no sense

	// Refused or lost.
	Martian           // would open a connection from an address that no client can have: loopback, multicast, the host's own, ...
	StrayAnswer       // a NAT server's packet of no connection, with nat_icmp_send: answered with ICMP port unreachable
	DropPacket        // a new connection refused by drop_packet
	NoServer          // the scheduler has no server for it: all at weight 0 or overloaded
	ServerRemoved     // its connection's server is no longer configured
	ServerUnreachable // no route, or the neighbour does not answer
	TTLExceeded       // answered with ICMP time exceeded (RFC 1812 5.3.1)
	TooBig            // does not fit the path's MTU, and may not be cut: its sender is told
	CannotCross       // an ICMP error that the other version does not have, or pieces of a datagram without a checksum, on a connection between IPv4 and IPv6
	TableFull         // connection table at its capacity
	PortsExhausted    // FULLNAT: no local port left towards the server
	ReplyConflict     // another connection already owns the server's answers of this one
	FragmentHeld      // waits for its datagram's first fragment, or as the first one of SCTP for the last; what becomes of it then is counted as well
	FragmentLate      // was held, and what it waited for did not come in time
	FragmentDuplicate // the same piece of its datagram has come before
	FragmentOverlap   // part of its datagram has come before: the whole of it is dropped (RFC 5722)
	FragmentTableFull // no room to wait in, or others took it
	BadQuote          // an ICMP error about weir's own tunnel that says nothing to the client
	NoTxRoom          // the out queue had no free frame or no room in its ring
	HostRefused       // the host path was full or over its rate

	Count // how many there are
)

// names are stable: they are label values in metrics.
var names = [Count]string{
	None:              "none",
	Truncated:         "truncated",
	BadIPHeader:       "bad-ip-header",
	BadL4Header:       "bad-l4-header",
	NotIP:             "not-ip",
	NotL4:             "not-l4",
	Fragment:          "fragment",
	ICMPError:         "icmp-error",
	IPsec:             "ipsec",
	NoService:         "no-service",
	NoConnection:      "no-connection",
	LocalServer:       "local-server",
	NotUnicast:        "not-unicast",
	SourceRoute:       "source-route",
	Martian:           "martian",
	StrayAnswer:       "stray-answer",
	DropPacket:        "drop-packet",
	NoServer:          "no-server",
	ServerRemoved:     "server-removed",
	ServerUnreachable: "server-unreachable",
	TTLExceeded:       "ttl-exceeded",
	TooBig:            "too-big",
	CannotCross:       "cannot-cross",
	TableFull:         "table-full",
	PortsExhausted:    "ports-exhausted",
	ReplyConflict:     "reply-conflict",
	FragmentHeld:      "fragment-held",
	FragmentLate:      "fragment-late",
	FragmentDuplicate: "fragment-duplicate",
	FragmentOverlap:   "fragment-overlap",
	FragmentTableFull: "fragment-table-full",
	BadQuote:          "bad-quote",
	NoTxRoom:          "no-tx-room",
	HostRefused:       "host-refused",
}

func (r Reason) String() string {
	if r < Count {
		return names[r]
	}
	return "unknown"
}

// ToHost reports whether a packet with this reason is given back to the kernel rather than dropped.
func (r Reason) ToHost() bool { return r >= NotIP && r <= SourceRoute }
