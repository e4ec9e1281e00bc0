package admin

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"weir/conntrack"
	"weir/control/api"
	"weir/control/pcapng"
	"weir/dataplane"
	"weir/lb"
)

// captureLook is how often a capture looks for frames: often enough that the workers' rings do not run over at a million frames a second.
const captureLook = 5 * time.Millisecond

// Capture implements api.Backend. The workers' part ends before it returns.
func (d *Director) Capture(ctx context.Context, q api.CaptureQuery, w io.Writer) (done api.Captured, err error) {
	options := pcapng.Options{Snap: q.Snap, Filter: q.Filter.String(), Application: "weir"}
	ifaces := d.Shared.Table().Ifaces()
	for _, f := range ifaces {
		options.Interfaces = append(options.Interfaces, f.Name)
	}
	frames, err := d.Shared.Capture(newPacketFilter(&q.Filter, d.Shared), q.Snap)
	if errors.Is(err, dataplane.ErrCapturing) {
		return done, api.Refused(err)
	} else if err != nil {
		return done, err
	}
	stop := func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
		defer cancel()
		return frames.Stop(ctx)
	}
	defer func() { err = errors.Join(err, stop()) }()
	file, err := pcapng.New(w, options)
	if err != nil {
		return done, err
	}
	c := capturing{Captured: &done, query: &q, frames: frames, file: file, end: time.Now().Add(time.Duration(q.Seconds) * time.Second)}
	if err := c.run(ctx); err != nil {
		return done, err
	}
	if err := stop(); err != nil {
		return done, err
	}
	if err := c.drain(context.WithoutCancel(ctx)); err != nil { // what came before it was stopped
		return done, err
	}
	for i := range ifaces {
		done.Lost += frames.Lost(i, false) + frames.Lost(i, true)
	}
	return done, file.End(frames.Lost)
}

// capturing is a capture under way.
type capturing struct {
	*api.Captured
	query  *api.CaptureQuery
	frames *dataplane.Capture
	file   *pcapng.Writer
	end    time.Time
	frame  dataplane.CapturedFrame
}

// run captures until something ends it.
func (c *capturing) run(ctx context.Context) error {
	over := time.NewTimer(time.Until(c.end))
	defer over.Stop()
	look := time.NewTicker(captureLook)
	defer look.Stop()
	for {
		if err := c.drain(ctx); err != nil || c.Ended != "" {
			return err
		}
		if err := c.file.Flush(); err != nil {
			return err
		}
		select {
		case <-look.C:
		case <-over.C:
			c.Ended = "time"
			return nil
		case <-ctx.Done():
			c.Ended = "reader"
			return nil
		}
	}
}

// drain writes what is there, as far as the bounds allow.
func (c *capturing) drain(ctx context.Context) error {
	for c.Ended != "count" && c.Ended != "bytes" && c.frames.Next(&c.frame) {
		if c.frame.Time > c.end.UnixNano() {
			c.Ended = "time"
			return nil
		}
		if err := c.file.Write(&c.frame); err != nil {
			return err
		}
		c.Frames++
		c.Bytes += uint64(len(c.frame.Data))
		switch {
		case c.Frames >= uint64(c.query.Count):
			c.Ended = "count"
		case c.Bytes >= uint64(c.query.Bytes):
			c.Ended = "bytes"
		case c.Frames%256 == 0 && ctx.Err() != nil:
			return nil
		}
	}
	return nil
}

// packetFilter is a Filter of connections as it is asked about packets.
type packetFilter struct {
	*api.Filter
	proto  lb.Proto // 0: any
	shared *dataplane.Shared
}

func newPacketFilter(f *api.Filter, s *dataplane.Shared) *packetFilter {
	p := &packetFilter{Filter: f, shared: s}
	for _, proto := range []lb.Proto{lb.TCP, lb.UDP, lb.SCTP} {
		if strings.EqualFold(f.Protocol, proto.String()) {
			p.proto = proto
		}
	}
	return p
}

// Flow implements dataplane.CaptureFilter: a client's packet to a service, or a server's to a client or a local address.
func (p *packetFilter) Flow(f *lb.Flow) bool {
	return p.protocol(f) && (end(&p.Client, f.Src, f.SrcPort) && end(&p.Virtual, f.Dst, f.DstPort) ||
		end(&p.Server, f.Src, f.SrcPort) && (end(&p.Client, f.Dst, f.DstPort) || end(&p.Local, f.Dst, f.DstPort)))
}

// Conn implements dataplane.CaptureFilter.
func (p *packetFilter) Conn(c *conntrack.Conn) bool {
	shown := connection(c, p.shared.Now())
	return p.Matches(&shown)
}

// Alone implements dataplane.CaptureFilter: a packet without a connection has no state, mode and translation, and of a server's packet it
// cannot be said for which service it was.
func (p *packetFilter) Alone(f *lb.Flow) bool {
	any := api.End{}
	if p.State != "" || p.Mode != "" || !p.protocol(f) {
		return false
	}
	return p.Server == any && p.Local == any && end(&p.Client, f.Src, f.SrcPort) && end(&p.Virtual, f.Dst, f.DstPort) ||
		p.Virtual == any && end(&p.Server, f.Src, f.SrcPort) && (p.Local == any && end(&p.Client, f.Dst, f.DstPort) ||
			p.Client == any && end(&p.Local, f.Dst, f.DstPort))
}

func (p *packetFilter) protocol(f *lb.Flow) bool { return p.proto == 0 || p.proto == f.Proto }

// end reports whether e may mean an end of a packet; port 0 is one that is not known.
func end(e *api.End, a lb.Addr, port uint16) bool {
	if *e == (api.End{}) {
		return true
	}
	return a.IsValid() && (!e.Prefix.IsValid() || e.Prefix.Contains(a.Netip())) && (e.Port == 0 || port == 0 || e.Port == port)
}
