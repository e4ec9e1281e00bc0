package packet

import "weir/dataplane/reason"

// ParseInFull is Parse with every frame looked at the long way.
func (p *Packet) ParseInFull(buf []byte, off, end int) reason.Reason {
	p.Buf, p.Off, p.End, p.Kind, p.Cut = buf, off, end, Whole, 0
	return p.parse(buf[off:end:end])
}
