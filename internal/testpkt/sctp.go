package testpkt

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// Chunk is one of an SCTP packet's (RFC 9260 section 3.2). Its length is that of the body and four; padding follows by itself.
type Chunk struct {
	Type, Flags uint8
	Body        []byte
}

// Types of chunks that tests name.
const (
	ChunkData             = 0
	ChunkInit             = 1
	ChunkInitAck          = 2
	ChunkSack             = 3
	ChunkHeartbeat        = 4
	ChunkAbort            = 6
	ChunkShutdown         = 7
	ChunkShutdownAck      = 8
	ChunkError            = 9
	ChunkCookieEcho       = 10
	ChunkCookieAck        = 11
	ChunkShutdownComplete = 14
)

// SCTP returns an SCTP packet with one empty chunk of each type.
func SCTP(src, dst netip.AddrPort, chunks ...uint8) Packet {
	p := newPacket(src.Addr(), dst.Addr(), layers.IPProtocolSCTP)
	p.srcPort, p.dstPort = src.Port(), dst.Port()
	for _, typ := range chunks {
		p = p.Chunk(typ, nil)
	}
	return p
}

// Chunk adds a chunk to an SCTP packet, in front of its payload.
func (p Packet) Chunk(typ uint8, body []byte) Packet {
	p.chunks = append(p.chunks[:len(p.chunks):len(p.chunks)], Chunk{Type: typ, Body: body})
	return p
}

// vtag is every packet's verification tag.
const vtag = 0x5ca1ab1e

func (p *Packet) prependSCTP(buf gopacket.SerializeBuffer) {
	for i := len(p.chunks) - 1; i >= 0; i-- {
		c := p.chunks[i]
		b, _ := buf.PrependBytes((4 + len(c.Body) + 3) &^ 3)
		clear(b)
		b[0], b[1] = c.Type, c.Flags
		binary.BigEndian.PutUint16(b[2:], uint16(4+len(c.Body)))
		copy(b[4:], c.Body)
	}
	prepend(buf, &layers.SCTP{SrcPort: layers.SCTPPort(p.srcPort), DstPort: layers.SCTPPort(p.dstPort), VerificationTag: vtag})
	// gopacket counts in what the checksum's bytes were before.
	b := buf.Bytes()
	binary.LittleEndian.PutUint32(b[8:], crc32c(b))
}

// crc32c is an SCTP packet's checksum, bit by bit (RFC 9260 appendix A): nothing of it is shared with what is judged.
func crc32c(b []byte) uint32 {
	crc := ^uint32(0)
	for i, c := range b {
		if i < 8 || i >= 12 {
			crc ^= uint32(c)
		}
		for range 8 {
			crc = crc>>1 ^ 0x82f63b78&-(crc&1)
		}
	}
	return ^crc
}

func (ip *IP) parseSCTP(b []byte) error {
	var h layers.SCTP
	if err := h.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
		return fmt.Errorf("SCTP: %w", err)
	}
	ip.ports(uint16(h.SrcPort), uint16(h.DstPort))
	ip.Payload, ip.CRC = h.Payload, binary.LittleEndian.Uint32(b[8:])
	if want := crc32c(b); !ip.MF && ip.Checksums == nil && ip.CRC != want {
		ip.Checksums = fmt.Errorf("SCTP checksum %#08x does not hold, want %#08x", ip.CRC, want)
	}
	for rest := h.Payload; len(rest) >= 4; {
		n := int(binary.BigEndian.Uint16(rest[2:]))
		if n < 4 || n > len(rest) {
			break // of a fragment, or damaged on purpose
		}
		ip.Chunks = append(ip.Chunks, Chunk{rest[0], rest[1], rest[4:n]})
		rest = rest[min((n+3)&^3, len(rest)):]
	}
	return nil
}
