package conntrack

import "weir/lb"

// State is a connection's state, with IPVS's numbers for TCP (include/uapi/linux/ip_vs.h, IP_VS_TCP_S_*).
type State uint8

const (
	NoState State = iota
	Established
	SynSent
	SynRecv
	FinWait
	TimeWait
	Close
	CloseWait
	LastAck
	Listen
	SynAck

	UDP     // every UDP connection
	Assured // a template that once had an established connection

	// SCTP's beside NONE and ESTABLISHED, in the order of IPVS's IP_VS_SCTP_S_*.
	Init1
	Init
	CookieSent
	CookieReplied
	CookieWait
	Cookie
	CookieEchoed
	ShutdownSent
	ShutdownReceived
	ShutdownAckSent
	Rejected
	Closed
	states
)

// tcpStates is how many states TCP has.
const tcpStates = int(SynAck) + 1

// String returns the state's name as ipvsadm -Lnc shows it.
func (s State) String() string {
	if s >= states {
		return "ERR!"
	}
	return [...]string{"NONE", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT", "TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK",
		"LISTEN", "SYNACK", "UDP", "ASSURED",
		"INIT1", "INIT", "C-SENT", "C-REPLIED", "C-WAIT", "COOKIE", "C-ECHOED", "S-SENT", "S-RECEIVED", "S-ACK-SENT", "REJECTED", "CLOSED"}[s]
}

// Active reports whether a connection in s counts as active rather than inactive (ip_vs_proto_tcp.c, tcp_state_active_table; of SCTP
// only the established ones do, ip_vs_proto_sctp.c, set_sctp_state).
func (s State) Active() bool { return s == Established || s == SynSent || s == SynRecv || s == SynAck }

// TCP flag bits, as in the header's byte 13 (RFC 9293 section 3.1).
const (
	FIN uint8 = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
)

// OpensTCP reports whether a client's TCP packet without a connection may start one (ip_vs_proto_tcp.c, tcp_conn_schedule).
func OpensTCP(tcpFlags uint8, sloppy bool) bool {
	if sloppy && tcpFlags&RST == 0 {
		return true
	}
	return tcpFlags&(SYN|RST) == SYN
}

// A packet's event is the first of RST, SYN, FIN, ACK that it carries (tcp_state_idx).
const (
	onSYN = iota
	onFIN
	onACK
	onRST
	onNone // none of them: the state becomes CLOSE
	events
)

// eventOf maps the low five flag bits to the event.
var eventOf = func() (t [32]uint8) {
	for f := range uint8(len(t)) {
		switch {
		case f&RST != 0:
			t[f] = onRST
		case f&SYN != 0:
			t[f] = onSYN
		case f&FIN != 0:
			t[f] = onFIN
		case f&ACK != 0:
			t[f] = onACK
		default:
			t[f] = onNone
		}
	}
	return t
}()

// The three columns of IPVS's tables: the client's packets, the server's, and the client's when the server's do not pass.
const (
	input = iota
	output
	inputOnly
	sides
)

// transitions is next state by side, event and state (padded to 16, so that an index is masked, not checked).
type transitions [sides][events][16]State

const (
	sNO = NoState
	sES = Established
	sSS = SynSent
	sSR = SynRecv
	sFW = FinWait
	sTW = TimeWait
	sCL = Close
	sCW = CloseWait
	sLA = LastAck
	sLI = Listen
	sSA = SynAck
)

// allClose is what a packet without any of the four flags does.
var allClose = [16]State{sCL, sCL, sCL, sCL, sCL, sCL, sCL, sCL, sCL, sCL, sCL}

// plain and secure are IPVS's transitions (ip_vs_proto_tcp.c of Linux 6.1, tcp_states and tcp_states_dos). Columns:
// NONE, ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT, TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK, LISTEN, SYNACK.
var plain = transitions{
	input: {
		onSYN:  {sSR, sES, sES, sSR, sSR, sSR, sSR, sSR, sSR, sSR, sSR},
		onFIN:  {sCL, sCW, sSS, sTW, sTW, sTW, sCL, sCW, sLA, sLI, sTW},
		onACK:  {sES, sES, sSS, sES, sFW, sTW, sCL, sCW, sCL, sLI, sES},
		onRST:  {sCL, sCL, sCL, sSR, sCL, sCL, sCL, sCL, sLA, sLI, sSR},
		onNone: allClose,
	},
	output: {
		onSYN:  {sSS, sES, sSS, sSR, sSS, sSS, sSS, sSS, sSS, sLI, sSR},
		onFIN:  {sTW, sFW, sSS, sTW, sFW, sTW, sCL, sTW, sLA, sLI, sTW},
		onACK:  {sES, sES, sSS, sES, sFW, sTW, sCL, sCW, sLA, sES, sES},
		onRST:  {sCL, sCL, sSS, sCL, sCL, sTW, sCL, sCL, sCL, sCL, sCL},
		onNone: allClose,
	},
	inputOnly: {
		onSYN:  {sSR, sES, sES, sSR, sSR, sSR, sSR, sSR, sSR, sSR, sSR},
		onFIN:  {sCL, sFW, sSS, sTW, sFW, sTW, sCL, sCW, sLA, sLI, sTW},
		onACK:  {sES, sES, sSS, sES, sFW, sTW, sCL, sCW, sCL, sLI, sES},
		onRST:  {sCL, sCL, sCL, sSR, sCL, sCL, sCL, sCL, sLA, sLI, sCL},
		onNone: allClose,
	},
}

var secure = transitions{
	input: {
		onSYN:  {sSR, sES, sES, sSR, sSR, sSR, sSR, sSR, sSR, sSR, sSA},
		onFIN:  {sCL, sCW, sSS, sTW, sTW, sTW, sCL, sCW, sLA, sLI, sSA},
		onACK:  {sES, sES, sSS, sSR, sFW, sTW, sCL, sCW, sCL, sLI, sSA},
		onRST:  {sCL, sCL, sCL, sSR, sCL, sCL, sCL, sCL, sLA, sLI, sCL},
		onNone: allClose,
	},
	output: {
		onSYN:  {sSS, sES, sSS, sSA, sSS, sSS, sSS, sSS, sSS, sLI, sSA},
		onFIN:  {sTW, sFW, sSS, sTW, sFW, sTW, sCL, sTW, sLA, sLI, sTW},
		onACK:  {sES, sES, sSS, sES, sFW, sTW, sCL, sCW, sLA, sES, sES},
		onRST:  {sCL, sCL, sSS, sCL, sCL, sTW, sCL, sCL, sCL, sCL, sCL},
		onNone: allClose,
	},
	inputOnly: {
		onSYN:  {sSA, sES, sES, sSR, sSA, sSA, sSA, sSA, sSA, sSA, sSA},
		onFIN:  {sCL, sFW, sSS, sTW, sFW, sTW, sCL, sCW, sLA, sLI, sTW},
		onACK:  {sES, sES, sSS, sES, sFW, sTW, sCL, sCW, sCL, sLI, sES},
		onRST:  {sCL, sCL, sCL, sSR, sCL, sCL, sCL, sCL, sLA, sLI, sCL},
		onNone: allClose,
	},
}

// next returns the state after a TCP packet.
func (t *transitions) next(s State, mode lb.Mode, dir Dir, tcpFlags uint8) State {
	side := input
	switch {
	case oneWay(mode):
		side = inputOnly
	case dir == Reverse:
		side = output
	}
	return t[side][eventOf[tcpFlags&31]][s&15]
}
