package packet

import (
	"encoding/binary"

	"weir/lb"
)

// SCTPMinLen is the common header and the header of one chunk (RFC 9260 section 3): a packet without any says nothing, and every receiver
// drops it (net/sctp/input.c, sctp_rcv).
//
//	|     Source Port Number        |     Destination Port Number   |
//	|                      Verification Tag                         |
//	|                           Checksum                            |
//	|   Chunk Type  |  Chunk Flags  |        Chunk Length           |
const SCTPMinLen = sctpHeader + sctpChunkHeader

const (
	sctpHeader      = 12
	sctpChunkHeader = 4
	sctpChecksum    = 8
)

// Types of chunks (RFC 9260 section 3.2).
const (
	ChunkInit       = 1
	ChunkAbort      = 6
	chunkCookieEcho = 10
	chunkCookieAck  = 11
)

// leadingChunk returns the type of the chunk that says what becomes of an association, as IPVS takes it (ip_vs_proto_sctp.c,
// set_sctp_state): the first one, but an ABORT that comes second, behind a cookie. Nothing else that is bundled changes a state. b has
// SCTPMinLen bytes at least.
func leadingChunk(b []byte) uint8 {
	first := b[sctpHeader]
	if first != chunkCookieEcho && first != chunkCookieAck {
		return first
	}
	// A length below the header's own would have the cookie follow itself.
	length := int(binary.BigEndian.Uint16(b[sctpHeader+2 : sctpHeader+4]))
	second := sctpHeader + (length+3)&^3
	if length >= sctpChunkHeader && second+sctpChunkHeader <= len(b) && b[second] == ChunkAbort {
		return ChunkAbort
	}
	return first
}

// updateCRC brings along the checksum of an SCTP packet of length bytes, of which l4 has the beginning, after its ports changed from old.
// Addresses are not part of it (RFC 9260 section 6.8). Of a packet whose length nobody knows, 0, it stays as it is.
func updateCRC(l4 []byte, old uint32, length int) {
	changed := old ^ binary.BigEndian.Uint32(l4)
	if changed == 0 || len(l4) < sctpHeader || length < sctpHeader {
		return
	}
	field := l4[sctpChecksum : sctpChecksum+4]
	binary.LittleEndian.PutUint32(field, binary.LittleEndian.Uint32(field)^crcDelta(changed, length)) // RFC 9260 appendix A: the low byte first
}

// CanTranslate reports whether Translate keeps the packet's checksum right. SCTP's covers the whole datagram, and how a change of the ports
// changes it depends on its length, which a first fragment does not tell: see Datagram.
func (p *Packet) CanTranslate(to *Endpoints) bool {
	changes := to.SrcPort != 0 && to.SrcPort != p.Flow.SrcPort || to.DstPort != 0 && to.DstPort != p.Flow.DstPort
	return p.Flow.Proto != lb.SCTP || p.Kind != Whole || !changes || p.datagramLen() != 0
}

// datagramLen returns how many bytes of layer 4 the packet's datagram has; 0: that is not known.
func (p *Packet) datagramLen() int {
	if _, fragment := p.piece4(); fragment {
		return int(p.Datagram)
	}
	return p.l4Len()
}
