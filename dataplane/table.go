package dataplane

import (
	"weir/dataplane/forward"
	"weir/dataplane/packet"
	"weir/lb"
)

// Table is the snapshot that workers read: every service, and every server that a service or a connection names. Immutable;
// control builds the next one aside (Edit) and publishes it with one store. What outlives it is reached through pointers that
// successive tables share: a Service's Picker, a Server's Load.
type Table struct {
	services shards[*Service]
	servers  []*serverPage // by lb.ServerID.Slot
	marks    []lb.MarkRule // firewall marks; the first rule that matches decides
	nat      shards[int]   // NAT servers by protocol, address and port: how many services have them
	tunnels  shards[int]   // TUN servers' addresses: how many servers have them
	sysctls  lb.Sysctls
	clampMSS bool    // lower the MSS of TCP's first packets to what fits
	ifaces   []Iface // the director's interfaces, by the index that paths and connections hold

	own map[lb.Addr]bool // the host's own addresses

	tunnelSources [2]lb.Prefix // IPv4's and IPv6's: where outer sources are taken from; zero: the path's own is used
}

// Iface is one of the director's interfaces.
type Iface struct {
	Name    string
	Ifindex int
	MAC     [6]byte
	MTU     int // bytes of IP packet
	// Addr and Addr6 are its first IPv4 and IPv6 address, the senders of ICMP errors about answers; zero if it has none.
	Addr, Addr6 lb.Addr
}

// Service is a virtual service as workers see it. Immutable; an edit makes a new one with the same Picker.
type Service struct {
	Key        lb.ServiceKey
	Persist    uint32 // seconds that a client keeps its server; 0: none
	PersistLen int    // prefix length that clients are grouped by
	OnePacket  bool   // UDP: every datagram is scheduled by itself, and no connection is made
	Picker     *Picker
	// Versions are the last states of the server list, the current one last. A picker that has fallen behind catches up
	// through them one by one, so that a scheduler sees every change in order. Never empty.
	Versions []Version
}

// Server is a real server as workers see it. Immutable; a change of its path makes a new one.
type Server struct {
	ID   lb.ServerID
	Mode lb.Mode
	Port uint16 // 0: the client's own destination port is kept
	lane lane   // made by SetServer
	Addr lb.Addr
	Load *lb.Load

	Tunnel lb.Tunnel // TUN
	Weight int32
	// Path leads to the server; nil while it cannot be reached.
	Path *forward.Path
	// Removed: no service lists it any more, but connections still name it.
	Removed bool

	hop forward.Hop // made by SetServer: what DR and NAT need, whatever the connection
}

const pageBits = 8 // servers of one page: an edit copies the pages it touches and the list of pages

type serverPage [1 << pageBits]*Server

// NewTable returns the table of a director without services.
func NewTable() *Table {
	return &Table{sysctls: lb.DefaultSysctls()}
}

// Service returns the service a flow is addressed to: by its mark, else by address and port, else FTP's if it may be a data
// connection, else by address alone (ip_vs_ctl.c, ip_vs_service_find).
func (t *Table) Service(f *lb.Flow) *Service {
	for i := range t.marks {
		if t.marks[i].Matches(f) {
			if s := t.services.get(lb.ServiceKey{Mark: t.marks[i].Mark, Is6: !f.Dst.Is4()}); s != nil {
				return s
			}
			break
		}
	}
	key := lb.ServiceKey{Addr: f.Dst, Port: f.DstPort, Proto: f.Proto}
	if s := t.services.get(key); s != nil {
		return s
	}
	if f.Proto == lb.TCP && (f.DstPort == ftpData || f.DstPort >= unprivileged) {
		key.Port = FTPControl
		if s := t.services.get(key); s != nil {
			return s
		}
	}
	key.Port = 0
	return t.services.get(key)
}

// Server returns the server with that ID, nil if its slot is empty or has another owner by now.
func (t *Table) Server(id lb.ServerID) *Server {
	slot := id.Slot()
	page := slot >> pageBits
	if page >= uint32(len(t.servers)) || t.servers[page] == nil {
		return nil
	}
	if s := t.servers[page][slot&(1<<pageBits-1)]; s != nil && s.ID == id {
		return s
	}
	return nil
}

// isNATServer reports whether a service has a NAT server that sends from f's source.
func (t *Table) isNATServer(f *lb.Flow) bool {
	key := lb.ServiceKey{Addr: f.Src, Port: f.SrcPort, Proto: f.Proto}
	if t.nat.get(key) > 0 {
		return true
	}
	key.Port = 0
	return t.nat.get(key) > 0
}

// isTunnelServer reports whether a service has a TUN server at addr.
func (t *Table) isTunnelServer(addr lb.Addr) bool {
	return t.tunnels.get(lb.ServiceKey{Addr: addr}) > 0
}

// Sysctls returns the settings in force.
func (t *Table) Sysctls() lb.Sysctls { return t.sysctls }

// Ifaces returns the director's interfaces, in the order of their indices. The slice is the table's own.
func (t *Table) Ifaces() []Iface { return t.ifaces }

// Edit is a table in the making; it shares with its origin whatever it does not change. It belongs to one goroutine.
type Edit struct {
	table    Table
	services shardsEdit
	nat      shardsEdit
	tunnels  shardsEdit
	pages    map[uint32]bool // these pages are the edit's own
}

// Edit starts a successor of t. It stays without effect until Table is called and the result published.
func (t *Table) Edit() *Edit {
	e := &Edit{table: *t, pages: map[uint32]bool{}}
	e.table.servers = append([]*serverPage(nil), t.servers...)
	return e
}

// SetService adds s or puts it in the place of the service with its key.
func (e *Edit) SetService(s *Service) { e.table.services.set(&e.services, s.Key, s) }

// RemoveService takes a service out; its servers stay until RemoveServer.
func (e *Edit) RemoveService(key lb.ServiceKey) { e.table.services.remove(&e.services, key) }

// SetServer adds s or puts it in the place of the server in its slot.
func (e *Edit) SetServer(s *Server) {
	v := *s
	v.lane = laneOf(&v)
	v.hop = forward.Hop{Path: v.Path, To: packet.Endpoints{Dst: v.Addr, DstPort: v.Port}}
	*e.slot(v.ID.Slot()) = &v
}

// RemoveServer empties a slot.
func (e *Edit) RemoveServer(id lb.ServerID) { *e.slot(id.Slot()) = nil }

func (e *Edit) slot(slot uint32) **Server {
	n := slot >> pageBits
	for uint32(len(e.table.servers)) <= n {
		e.table.servers = append(e.table.servers, nil)
	}
	if !e.pages[n] {
		page := new(serverPage)
		if old := e.table.servers[n]; old != nil {
			*page = *old
		}
		e.table.servers[n] = page
		e.pages[n] = true
	}
	return &e.table.servers[n][slot&(1<<pageBits-1)]
}

// SetMarks sets the rules that give firewall marks.
func (e *Edit) SetMarks(rules []lb.MarkRule) { e.table.marks = append([]lb.MarkRule(nil), rules...) }

// SetSysctls sets the settings.
func (e *Edit) SetSysctls(s lb.Sysctls) { e.table.sysctls = s }

// CountNAT adds n (one for a server that came, minus one for one that went) to the services that have a NAT server there, and returns how
// many they are.
func (e *Edit) CountNAT(proto lb.Proto, addr lb.Addr, port uint16, n int) int {
	return add(&e.table.nat, &e.nat, lb.ServiceKey{Addr: addr, Port: port, Proto: proto}, n)
}

// add adds n to the number of a key, which goes when it comes to nothing.
func add(s *shards[int], e *shardsEdit, key lb.ServiceKey, n int) int {
	part := s.own(e, &key)
	before := len(part)
	part[key] += n
	if n = part[key]; n == 0 {
		delete(part, key)
	}
	s.count += len(part) - before
	return n
}

// CountTunnel adds n to the servers that packets are tunnelled to at addr, and returns how many they are.
func (e *Edit) CountTunnel(addr lb.Addr, n int) int {
	return add(&e.table.tunnels, &e.tunnels, lb.ServiceKey{Addr: addr}, n)
}

// SetTunnelSources has outer headers of TUN take their source, by the flow, out of one block of each family at most.
func (e *Edit) SetTunnelSources(blocks []lb.Prefix) {
	e.table.tunnelSources = [2]lb.Prefix{}
	for _, b := range blocks {
		e.table.tunnelSources[family(b.Addr)] = b
	}
}

// SetClampMSS has the MSS of TCP's first packets lowered to what fits the ways on both sides, or not.
func (e *Edit) SetClampMSS(on bool) { e.table.clampMSS = on }

// SetIfaces sets the director's interfaces. Their order never changes in the life of a director.
func (e *Edit) SetIfaces(ifaces []Iface) { e.table.ifaces = append([]Iface(nil), ifaces...) }

// Table ends the edit, which must not be used any more, and returns the new table.
func (e *Edit) Table() *Table { return &e.table }
