package lb

import "time"

// Service is a virtual service as it was configured. Immutable once handed over.
type Service struct {
	Key        ServiceKey
	Scheduler  string        // a name of sched.Names; "" is the default, wlc
	SchedFlags []string      // as ipvsadm's -b takes them: sh-fallback, sh-port, mh-fallback, mh-port, flag-1..3
	Persist    time.Duration // 0: none; whole seconds
	PersistLen int           // prefix length clients are grouped by; 0: the whole address
	OnePacket  bool          // every datagram is scheduled by itself (UDP only)
	Servers    []Server      // in the order they were added
}

// Server is a real server of a service as it was configured. Immutable once handed over.
type Server struct {
	Addr   Addr
	Port   uint16 // 0: the packet's own port is kept
	Mode   Mode
	Weight int32  // 0 to 65,535; 0 gets no new connections
	Upper  uint32 // connections at which the server counts as overloaded; 0: no limit
	Lower  uint32 // connections below which it is open again; 0: three quarters of Upper
	Tunnel Tunnel // TUN only
}

// Tunnel is the encapsulation towards a TUN server.
type Tunnel struct {
	Type  TunnelType
	Port  uint16 // GUE: destination port
	Csum  bool   // GUE, GRE: fill in the outer checksum
	Remcs bool   // GUE: remote checksum offload
}

// TunnelType is ipvsadm's --tun-type.
type TunnelType uint8

const (
	IPIP TunnelType = iota
	GUE
	GRE
)

func (t TunnelType) String() string { return [...]string{"ipip", "gue", "gre"}[t] }
