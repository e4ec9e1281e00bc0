package conntrack

import "weir/lb"

// Conn is a connection as plain data, owned by whoever declared it. Lookup fills what its direction needs; Load fills everything.
type Conn struct {
	Client, Virtual         lb.Addr // CIP and VIP, as the client's packets carry them
	Local                   lb.Addr // FULLNAT: LIP
	ClientPort, VirtualPort uint16
	LocalPort, LocalIndex   uint16 // FULLNAT: the port on LIP, and LIP's place in the table's list

	ServerID lb.ServerID
	LastSeen uint32 // coarse second of the latest packet
	Timeout  uint32 // seconds after LastSeen at which the connection ends
	Proto    lb.Proto
	Mode     lb.Mode
	State    State
	Flags    Flags

	// ClientTag is a short hash of ClientMAC, ClientIface and ClientVLANs, made by the worker: a packet with another tag came another way.
	ClientTag uint16

	// Filled by Lookup for Reverse only, and by Load.
	ClientIface uint16   // the interface, as the worker numbers them, and the MAC address that the latest client packet
	ClientMAC   [6]byte  // came from,
	ClientVLANs lb.VLANs // and its VLAN tags
	ServerPort  uint16   // RIP's port
	Server      lb.Addr  // RIP: that of ServerID
	Controlled  uint32   // templates: how many connections hang on it

	// Control is read by Insert only: the template this connection hangs on, or 0.
	Control Ref
}

// Flags are facts about a connection that its state does not tell.
type Flags uint8

const (
	Template   Flags = 1 << iota // a persistence template, not a flow; the only one Insert's caller sets
	HasControl                   // hangs on a template
	Seen                         // a second packet has come: a UDP flow that is more than one stray datagram; a template: one-packet datagrams go by it
	Answered                     // the server has sent a packet
	Retired                      // a template that is found no more; it waits for the connections on it to end
)

// Ref names a connection: the entry's number and its incarnation. A Ref whose connection has ended never touches another one.
// The zero Ref is none.
type Ref uint64

func newRef(n, incarnation uint32) Ref { return Ref(n)<<32 | Ref(incarnation) }

func (r Ref) number() uint32      { return uint32(r >> 32) }
func (r Ref) incarnation() uint32 { return uint32(r) }

// Dir is the direction of a packet within its connection.
type Dir uint8

const (
	None    Dir = iota // no connection
	Forward            // client to server
	Reverse            // server to client
)

func (d Dir) String() string { return [...]string{"none", "forward", "reverse"}[d] }

// ForwardFlow returns the flow of the client's packets.
func (c *Conn) ForwardFlow() lb.Flow {
	return lb.Flow{Src: c.Client, Dst: c.Virtual, SrcPort: c.ClientPort, DstPort: c.VirtualPort, Proto: c.Proto}
}

// ReverseFlow returns the flow of the server's packets; false when they do not pass the director.
func (c *Conn) ReverseFlow() (lb.Flow, bool) {
	f := lb.Flow{Src: c.Server, SrcPort: c.ServerPort, Proto: c.Proto}
	switch {
	case c.Flags&Template != 0:
		return lb.Flow{}, false
	case c.Mode == lb.NAT:
		f.Dst, f.DstPort = c.Client, c.ClientPort
	case c.Mode == lb.FULLNAT:
		f.Dst, f.DstPort = c.Local, c.LocalPort
	default:
		return lb.Flow{}, false
	}
	return f, true
}

// Expires returns in how many seconds the connection ends if no packet comes; 0 when it is due.
func (c *Conn) Expires(now uint32) uint32 {
	if end := c.LastSeen + c.Timeout; end > now {
		return end - now
	}
	return 0
}

// Begins reports whether a client's packet asks for a new connection: TCP's SYN, SCTP's INIT (ip_vs_core.c, is_new_conn).
func Begins(proto lb.Proto, tcpFlags uint8) bool {
	return proto == lb.TCP && tcpFlags&SYN != 0 || proto == lb.SCTP && tcpFlags == ChunkInit
}

// Reopens reports whether a client's packet on c starts a new connection that should be scheduled anew, as IPVS's
// conn_reuse_mode decides (ip_vs_core.c, is_new_conn_expected; 0: never, 1: the default, 2: also FIN_WAIT in the modes whose
// answers do not pass). The caller then deletes c and inserts another.
func (c *Conn) Reopens(tcpFlags uint8, reuseMode int) bool {
	if reuseMode == 0 || !Begins(c.Proto, tcpFlags) || c.Flags&HasControl != 0 {
		return false
	}
	switch c.State {
	case TimeWait, Close, Closed:
		return true
	case FinWait:
		return reuseMode&2 != 0 && oneWay(c.Mode)
	}
	return false
}

// oneWay reports whether only the client's packets pass the director.
func oneWay(m lb.Mode) bool { return m != lb.NAT && m != lb.FULLNAT }
