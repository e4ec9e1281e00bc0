package conntrack

import (
	"sync/atomic"

	"weir/lb"
)

// A connection is an entry, a cache line that has all a packet from the client needs, and the rest of it, half a line for its answers
// and its end. What is one for many connections is not in them: a server's address goes by the ServerID, a local address by its index.
// All words are read and written by sync/atomic only.
//
// The head's incarnation is what makes lock-free reading sound: words 1-5 and the server's port are written only while the head says "free" (mode 0), and
// the incarnation grows when an entry is freed. So words read between two loads of the head with the same incarnation and a
// mode belong to that connection. The other words change while the connection lives, each by itself: the
// head's state and flags, the timer and the path under the connection's stripe (but for the flags of UDP's packets, Renew's and a template's ASSURED, hence
// the head by compare-and-swap), the coarse second by compare-and-swap, the number of controlled connections by addition.
type (
	entry [8]atomic.Uint64
	rest  [4]atomic.Uint64
)

// Words of an entry.
const (
	wHead      = iota // incarnation(32) | protocol(8) | mode(8; 0: free) | state(8) | flags(8)
	wClientHi         // in a free entry: the next free one
	wClientLo         //
	wVirtualHi        //
	wVirtualLo        //
	wPorts            // client port | virtual port | local port | index of the local address
	wServer           // ServerID(32) | last seen, coarse second(32)
	wTimer            // client tag(16) | spare(16) | timeout in seconds(32)
)

// Words of the rest.
const (
	rPath       = iota // client interface(16) | client MAC(48): one word, so the two never come apart
	rServerPort        // spare(16) | client VLANs(32) | server port(16)
	rOffsets           // sequence offset per direction: room for SYN proxy and TOA
	rControl           // entry number of the controlling template(32) | number of controlled connections(32)
)

func packHead(incarnation uint32, proto lb.Proto, mode lb.Mode, state State, flags Flags) uint64 {
	return uint64(incarnation)<<32 | uint64(proto)<<24 | uint64(mode)<<16 | uint64(state)<<8 | uint64(flags)
}

func headIncarnation(h uint64) uint32 { return uint32(h >> 32) }
func headProto(h uint64) lb.Proto     { return lb.Proto(h >> 24) }
func headMode(h uint64) lb.Mode       { return lb.Mode(h >> 16) }
func headState(h uint64) State        { return State(h >> 8) }
func headFlags(h uint64) Flags        { return Flags(h) }
func headFree(h uint64) bool          { return headMode(h) == 0 }

// write fills the free entry n from c; the head comes last and makes it a connection.
func (m *memory) write(n uint32, c *Conn, control uint32) (incarnation uint32) {
	e, r := &m.entries[n], &m.rests[n]
	e[wClientHi].Store(c.Client.Hi)
	e[wClientLo].Store(c.Client.Lo)
	e[wVirtualHi].Store(c.Virtual.Hi)
	e[wVirtualLo].Store(c.Virtual.Lo)
	e[wPorts].Store(uint64(c.ClientPort)<<48 | uint64(c.VirtualPort)<<32 | uint64(c.LocalPort)<<16 | uint64(c.LocalIndex))
	e[wServer].Store(uint64(c.ServerID)<<32 | uint64(c.LastSeen))
	e[wTimer].Store(uint64(c.ClientTag)<<48 | uint64(c.Timeout))
	r[rPath].Store(packPath(c.ClientIface, c.ClientMAC))
	r[rServerPort].Store(packServerPort(c.ClientVLANs, c.ServerPort))
	r[rOffsets].Store(0)
	r[rControl].Store(uint64(control) << 32)
	incarnation = headIncarnation(e[wHead].Load())
	e[wHead].Store(packHead(incarnation, c.Proto, c.Mode, c.State, c.Flags))
	return incarnation
}

// read fills c, but for Control, with connection n as it is with head h. What it has read is n's if the head's incarnation is still the same afterwards.
func (t *Table) read(n uint32, h uint64, c *Conn) {
	e, r := &t.mem.entries[n], &t.mem.rests[n]
	c.setHead(h)
	c.Client = lb.Addr{Hi: e[wClientHi].Load(), Lo: e[wClientLo].Load()}
	c.Virtual = lb.Addr{Hi: e[wVirtualHi].Load(), Lo: e[wVirtualLo].Load()}
	p := e[wPorts].Load()
	c.ClientPort, c.VirtualPort, c.LocalPort, c.LocalIndex = uint16(p>>48), uint16(p>>32), uint16(p>>16), uint16(p)
	s := e[wServer].Load()
	c.ServerID, c.LastSeen = lb.ServerID(s>>32), uint32(s)
	w := e[wTimer].Load()
	c.ClientTag, c.Timeout = uint16(w>>48), uint32(w)
	c.ClientIface, c.ClientMAC = unpackPath(r[rPath].Load())
	c.ClientVLANs, c.ServerPort = unpackServerPort(r[rServerPort].Load())
	c.Controlled = uint32(r[rControl].Load())
	c.Server, c.Local = t.servers.addr(c.ServerID), lb.Addr{}
	if c.needsPort() {
		c.Local = t.ports.addr(c.LocalIndex)
	}
}

func (c *Conn) setHead(h uint64) {
	c.Proto, c.Mode, c.State, c.Flags = headProto(h), headMode(h), headState(h), headFlags(h)
}

func packPath(iface uint16, mac [6]byte) uint64 {
	return uint64(iface)<<48 | uint64(mac[0])<<40 | uint64(mac[1])<<32 | uint64(mac[2])<<24 |
		uint64(mac[3])<<16 | uint64(mac[4])<<8 | uint64(mac[5])
}

func unpackPath(w uint64) (iface uint16, mac [6]byte) {
	return uint16(w >> 48), [6]byte{byte(w >> 40), byte(w >> 32), byte(w >> 24), byte(w >> 16), byte(w >> 8), byte(w)}
}

func packServerPort(vlans lb.VLANs, port uint16) uint64 { return uint64(vlans)<<16 | uint64(port) }

func unpackServerPort(w uint64) (vlans lb.VLANs, port uint16) { return lb.VLANs(w >> 16), uint16(w) }
