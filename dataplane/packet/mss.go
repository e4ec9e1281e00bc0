package packet

import (
	"encoding/binary"

	"weir/lb"
)

// Options of TCP (RFC 9293 section 3.1) that the walk has to know: those of one byte, and the one that it is for.
const (
	tcpOptionEnd, tcpOptionNop = 0, 1
	tcpOptionMSS               = 2
)

// BeginsTCP reports whether the packet is a SYN or a SYN/ACK, with its header at hand.
func (p *Packet) BeginsTCP() bool {
	return p.TCPFlags&SYN != 0 && p.Flow.Proto == lb.TCP && p.Kind == Whole
}

// ClampMSS lowers the maximum segment size that a TCP packet names to most bytes, with the checksum brought along by the difference. A
// packet that names none, or a smaller one, stays as it is: without the option it stands for 536 bytes, or 1,220 over IPv6 (RFC 9293
// section 3.7.1).
func (p *Packet) ClampMSS(most int) {
	l4 := p.L4Bytes()
	header := l4[:min(len(l4), int(l4[12]>>4)*4)]
	for at := TCPMinLen; at+1 < len(header) && header[at] != tcpOptionEnd; {
		if header[at] == tcpOptionNop {
			at++
			continue
		}
		length := int(header[at+1])
		if length < 2 || at+length > len(header) {
			return
		}
		if value := header[at+2 : at+length]; header[at] == tcpOptionMSS && len(value) == 2 {
			if int(binary.BigEndian.Uint16(value)) <= most {
				return
			}
			before := foldSum(sum(0, header)) // the option need not begin at a word
			binary.BigEndian.PutUint16(value, uint16(most))
			field := header[tcpChecksum : tcpChecksum+2]
			binary.BigEndian.PutUint16(field, Update16(binary.BigEndian.Uint16(field), before, foldSum(sum(0, header))))
			return
		}
		at += length
	}
}
