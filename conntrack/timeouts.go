package conntrack

import "weir/lb"

// Timeouts says how long a connection of TCP or UDP lives after its latest packet, by state, in seconds, and which of IPVS's two transition
// tables TCP follows. SCTP's are fixed, as in IPVS. A connection takes its timeout from here with every packet; a change leaves the others as they are.
type Timeouts struct {
	TCP    [tcpStates]uint32 // by State
	UDP    uint32
	Secure bool // the transitions of secure_tcp under attack: ESTABLISHED only once the server has answered
}

// DefaultTimeouts returns IPVS's (ip_vs_proto_tcp.c, tcp_timeouts; ip_vs_proto_udp.c, udp_timeouts).
func DefaultTimeouts() Timeouts {
	return Timeouts{
		TCP: [tcpStates]uint32{NoState: 2, Established: 15 * 60, SynSent: 2 * 60, SynRecv: 60, FinWait: 2 * 60, TimeWait: 2 * 60,
			Close: 10, CloseWait: 60, LastAck: 30, Listen: 2 * 60, SynAck: 2 * 60},
		UDP: 5 * 60,
	}
}

// Set changes t as `ipvsadm --set tcp tcpfin udp` does: seconds, 0 keeps what was (ip_vs_ctl.c, ip_vs_set_timeout).
func (t *Timeouts) Set(tcp, tcpFin, udp uint32) {
	if tcp != 0 {
		t.TCP[Established] = tcp
	}
	if tcpFin != 0 {
		t.TCP[FinWait] = tcpFin
	}
	if udp != 0 {
		t.UDP = udp
	}
}

func (t *Timeouts) of(p lb.Proto, s State) uint32 {
	if p == lb.TCP && int(s) < tcpStates {
		return t.TCP[s]
	}
	if p == lb.SCTP {
		return sctpTimeouts[s%sctpSlots]
	}
	return t.UDP
}

func (t *Timeouts) transitions() *transitions {
	if t.Secure {
		return &secure
	}
	return &plain
}

// templateAgain is how long a template whose time is up lives on while connections hang on it, and its timeout from then on
// (ip_vs_conn.c, ip_vs_conn_expire).
const templateAgain = 60
