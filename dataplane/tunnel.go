package dataplane

import (
	"weir/dataplane/packet"
	"weir/dataplane/reason"
	"weir/lb"
)

// wrap makes w.hop say what the outer headers of a packet to s, a TUN server with a path, are.
func (w *Worker) wrap(t *Table, p *packet.Packet, s *Server) reason.Reason {
	w.hop.Source, w.hop.Server, w.hop.Tunnel, w.hop.ID = s.Path.Source, s.Addr, s.Tunnel, w.nextID()
	block := &t.tunnelSources[family(s.Addr)]
	if s.Tunnel.Type == lb.GUE || block.Addr.IsValid() {
		hash := w.shared.conns.Hash(&p.Flow)
		w.hop.Entropy = uint32(hash)
		if block.Addr.IsValid() {
			w.hop.Source = within(block, hash)
		}
	}
	w.hop.MTU = w.shared.mtus.get(s.Addr, w.now)
	if !w.hop.Source.IsValid() { // the host has no address of this family yet
		return reason.ServerUnreachable
	}
	return reason.None
}

// family indexes what there is one of for each family.
func family(a lb.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// within returns the address of a block that a hash stands for. An IPv4 block's first and last are left out where it has more than two:
// on a link they are the network and broadcast addresses (RFC 919, RFC 3021).
func within(block *lb.Prefix, hash uint64) lb.Addr {
	a := block.Addr
	if !a.Is4() {
		// A hash has 64 bits; a shorter prefix gets zeros in between.
		free := min(128-block.Bits, 64)
		if free < 64 {
			hash &= 1<<free - 1
		}
		a.Lo |= hash
		return a
	}
	free := uint64(1) << (32 - block.Bits)
	if free <= 2 {
		return lb.AddrFrom4(a.V4() | uint32(hash%free))
	}
	return lb.AddrFrom4(a.V4() | uint32(1+hash%(free-2)))
}
