package conntrack

import "weir/lb"

// Chunk types of SCTP that the table asks about by name (RFC 9260 section 3.2).
const (
	ChunkInit  uint8 = 1
	chunkAbort uint8 = 6
)

// OpensSCTP reports whether a client's SCTP packet without a connection may start one; chunk is its leading chunk's type
// (ip_vs_proto_sctp.c, sctp_conn_schedule).
func OpensSCTP(chunk uint8, sloppy bool) bool {
	return chunk == ChunkInit || sloppy && chunk != chunkAbort
}

// An SCTP packet's event is its leading chunk. All that carry or confirm data, or ask whether somebody is there, are one (sctp_events).
const (
	onData = iota
	onInit
	onInitAck
	onCookieEcho
	onCookieAck
	onShutdown
	onShutdownAck
	onShutdownComplete
	onError
	onAbort
	sctpEvents
)

// sctpEventOf maps chunk types to events; those from 15 on, which came after RFC 9260's, are data's.
var sctpEventOf = [16]uint8{
	1: onInit, 2: onInitAck, 6: onAbort, 7: onShutdown, 8: onShutdownAck, 9: onError, 10: onCookieEcho, 11: onCookieAck, 14: onShutdownComplete,
}

const (
	sI1 = Init1
	sIN = Init
	sCS = CookieSent
	sCR = CookieReplied
	sWA = CookieWait
	sCO = Cookie
	sCE = CookieEchoed
	sSD = ShutdownSent
	sSX = ShutdownReceived
	sSY = ShutdownAckSent
	sRJ = Rejected
	sCD = Closed
)

// sctpColumns are the states in the order of sctpRows' columns, which is that of IPVS's numbers.
var sctpColumns = [...]State{sNO, sI1, sIN, sCS, sCR, sWA, sCO, sCE, sES, sSD, sSX, sSY, sRJ, sCD}

// sctpRows are IPVS's transitions (ip_vs_proto_sctp.c of Linux 6.1, sctp_states), as its states are seen at the server. Columns:
// NONE, INIT1, INIT, C-SENT, C-REPLIED, C-WAIT, COOKIE, C-ECHOED, ESTABLISHED, S-SENT, S-RECEIVED, S-ACK-SENT, REJECTED, CLOSED.
var sctpRows = [sides][sctpEvents][len(sctpColumns)]State{
	input: {
		onData:             {sES, sI1, sIN, sCS, sCR, sWA, sCO, sCE, sES, sSD, sSX, sSY, sRJ, sCD},
		onInit:             {sI1, sIN, sIN, sCS, sCR, sWA, sCO, sCE, sES, sSD, sSX, sSY, sIN, sIN},
		onInitAck:          {sWA, sWA, sWA, sCS, sCR, sCO, sCO, sCE, sES, sSD, sSX, sSY, sRJ, sCD},
		onCookieEcho:       {sCR, sIN, sIN, sCR, sCR, sWA, sCO, sCE, sES, sSD, sSX, sSY, sRJ, sCD},
		onCookieAck:        {sES, sI1, sIN, sCS, sCR, sWA, sCO, sES, sES, sSD, sSX, sSY, sRJ, sCD},
		onShutdown:         {sSX, sI1, sIN, sCS, sCR, sWA, sCO, sCE, sSX, sSD, sSX, sSY, sRJ, sCD},
		onShutdownAck:      {sCD, sIN, sIN, sCS, sCR, sWA, sCO, sCE, sES, sCD, sSX, sCD, sRJ, sCD},
		onShutdownComplete: {sCD, sCD, sCD, sCS, sCR, sWA, sCO, sCE, sES, sSD, sSX, sCD, sRJ, sCD},
		onError:            {sCD, sI1, sIN, sCS, sCR, sWA, sCO, sCD, sES, sSD, sSX, sSY, sRJ, sCD},
		onAbort:            {sCD, sCD, sCD, sCD, sCD, sRJ, sCD, sCD, sCD, sCD, sCD, sCD, sCD, sCD},
	},
	output: {
		onData:             {sES, sI1, sIN, sCS, sCR, sWA, sCO, sCE, sES, sSD, sSX, sSY, sRJ, sCD},
		onInit:             {sWA, sWA, sWA, sWA, sWA, sWA, sWA, sWA, sES, sWA, sWA, sWA, sWA, sWA},
		onInitAck:          {sCS, sCS, sCS, sCS, sCR, sWA, sCO, sCE, sES, sSD, sSX, sSY, sRJ, sCD},
		onCookieEcho:       {sCE, sCE, sCE, sCE, sCE, sCE, sCE, sCE, sES, sSD, sSX, sSY, sRJ, sCD},
		onCookieAck:        {sES, sES, sES, sES, sES, sES, sES, sES, sES, sSD, sSX, sSY, sRJ, sCD},
		onShutdown:         {sSD, sSD, sSD, sSD, sSD, sSD, sSD, sSD, sSD, sSD, sSX, sSY, sRJ, sCD},
		onShutdownAck:      {sSY, sSY, sSY, sSY, sSY, sWA, sCO, sCE, sES, sSY, sSY, sSY, sRJ, sCD},
		onShutdownComplete: {sCD, sI1, sIN, sCS, sCR, sWA, sCO, sCE, sES, sSD, sSX, sSY, sRJ, sCD},
		onError:            {sCD, sCD, sCD, sCD, sCD, sWA, sCO, sCE, sES, sSD, sSX, sSY, sRJ, sCD},
		onAbort:            {sCD, sRJ, sCD, sCD, sCD, sCD, sCD, sCD, sCD, sCD, sCD, sCD, sCD, sCD},
	},
	inputOnly: {
		onData:             {sES, sI1, sIN, sCS, sCR, sES, sCO, sCE, sES, sSD, sSX, sSY, sRJ, sCD},
		onInit:             {sI1, sIN, sIN, sIN, sIN, sIN, sCO, sCE, sES, sSD, sSX, sSY, sIN, sIN},
		onInitAck:          {sCE, sCE, sCE, sCE, sCE, sCE, sCO, sCE, sES, sSD, sSX, sSY, sRJ, sCD},
		onCookieEcho:       {sES, sES, sES, sES, sES, sES, sCO, sCE, sES, sSD, sSX, sSY, sRJ, sCD},
		onCookieAck:        {sES, sI1, sIN, sES, sES, sWA, sES, sES, sES, sSD, sSX, sSY, sRJ, sCD},
		onShutdown:         {sSX, sI1, sIN, sCS, sCR, sWA, sCO, sCE, sSX, sSD, sSX, sSY, sRJ, sCD},
		onShutdownAck:      {sCD, sIN, sIN, sCS, sCR, sWA, sCO, sCE, sCD, sCD, sSX, sCD, sRJ, sCD},
		onShutdownComplete: {sCD, sCD, sCD, sCD, sCD, sWA, sCO, sCE, sES, sSD, sCD, sCD, sRJ, sCD},
		onError:            {sCD, sI1, sIN, sCS, sCR, sWA, sCO, sCE, sES, sSD, sSX, sSY, sRJ, sCD},
		onAbort:            {sCD, sCD, sCD, sCD, sCD, sRJ, sCD, sCD, sCD, sCD, sCD, sCD, sCD, sCD},
	},
}

// sctpSlots is how many states a table by State has room for, a power of two: an index is masked, not checked.
const sctpSlots = 32

// sctpNext is sctpRows by State instead of by column.
var sctpNext = func() (t [sides][sctpEvents][sctpSlots]State) {
	for side := range t {
		for event := range t[side] {
			for column, from := range sctpColumns {
				t[side][event][from] = sctpRows[side][event][column]
			}
		}
	}
	return t
}()

// maxRTO is SCTP's longest retransmission timeout and a second (RFC 9260 section 16, RTO.Max; IP_VS_SCTP_MAX_RTO).
const maxRTO = 60 + 1

// sctpTimeouts are IPVS's, in seconds, which nothing changes (sctp_timeouts).
var sctpTimeouts = [sctpSlots]uint32{
	NoState: 2, Init1: 3 + 1, Init: maxRTO, CookieSent: maxRTO, CookieReplied: maxRTO, CookieWait: maxRTO, Cookie: maxRTO, CookieEchoed: maxRTO,
	Established: 15 * 60, ShutdownSent: maxRTO, ShutdownReceived: maxRTO, ShutdownAckSent: maxRTO, Rejected: 3 + 1, Closed: maxRTO,
}

// nextSCTP returns the state after an SCTP packet with this leading chunk.
func nextSCTP(s State, mode lb.Mode, dir Dir, chunk uint8) State {
	side := input
	switch {
	case oneWay(mode):
		side = inputOnly
	case dir == Reverse:
		side = output
	}
	return sctpNext[side][sctpEventOf[min(chunk, 15)]][s%sctpSlots]
}

// opening reports whether an SCTP connection in s has yet to be established.
func (s State) opening() bool { return s == NoState || s >= Init1 && s <= CookieEchoed }
