// Package pcapng writes a capture as Wireshark, tcpdump and tshark read it.
//
//	w, err := pcapng.New(out, pcapng.Options{Interfaces: []string{"eth0", "eth1"}})
//	w.Write(&frame)     // and again
//	w.Flush()           // whenever the reader is to see what there is
//	w.End(capture.Lost) // how much is missing
//
// What the format has no better place for is in its interfaces: eth0 has "eth0 in" for what was received by it and forwarded,
// "eth0 out" for what was sent, and for each reason of what was received and not forwarded one of its own, "eth0 in no-service".
// frame.interface_name shows it in Wireshark and filters by it.
package pcapng

import (
	"io"
	"runtime"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"weir/dataplane"
	"weir/dataplane/reason"
)

// Options describe a capture.
type Options struct {
	Interfaces  []string // names, in the order of Table.Ifaces; at least one
	Snap        int      // bytes of a frame at most
	Filter      string   // in words
	Application string   // who captures, with version
}

// Writer writes to one file. It belongs to one goroutine.
type Writer struct {
	options Options
	file    *pcapgo.NgWriter
	numbers map[place]int // of the file's interfaces
	frames  map[place]uint64
}

// place is what becomes an interface of the file.
type place struct {
	iface int
	out   bool
	why   reason.Reason
}

// New begins a file: its header, and an interface for either direction of each of the director's.
func New(out io.Writer, o Options) (*Writer, error) {
	w := &Writer{options: o, numbers: map[place]int{}, frames: map[place]uint64{}}
	first := place{}
	section := pcapgo.NgSectionInfo{Hardware: runtime.GOARCH, OS: runtime.GOOS, Application: o.Application}
	var err error
	if w.file, err = pcapgo.NewNgWriterInterface(out, w.describe(first), pcapgo.NgWriterOptions{SectionInfo: section}); err != nil {
		return nil, err
	}
	w.numbers[first] = 0
	for i := range o.Interfaces {
		for _, p := range []place{{iface: i}, {iface: i, out: true}} {
			if _, err := w.number(p); err != nil {
				return nil, err
			}
		}
	}
	return w, nil
}

func (w *Writer) describe(p place) pcapgo.NgInterface {
	f := pcapgo.NgInterface{LinkType: layers.LinkTypeEthernet, Name: w.options.Interfaces[p.iface], SnapLength: uint32(w.options.Snap), Filter: w.options.Filter}
	switch {
	case p.out && p.why != reason.None:
		f.Name += " out " + p.why.String()
		f.Description = "made to be sent, and dropped. " + p.why.Help()
	case p.out:
		f.Name += " out"
		f.Description = "sent"
	case p.why != reason.None:
		f.Name += " in " + p.why.String()
		f.Description = "received, and not forwarded. " + p.why.Help()
	default:
		f.Name += " in"
		f.Description = "received, and forwarded"
	}
	return f
}

// number returns the number of an interface in the file, which it writes if it is new.
func (w *Writer) number(p place) (int, error) {
	n, known := w.numbers[p]
	if known {
		return n, nil
	}
	n, err := w.file.AddInterface(w.describe(p))
	if err != nil {
		return 0, err
	}
	w.numbers[p] = n
	return n, nil
}

// Write adds a frame.
func (w *Writer) Write(f *dataplane.CapturedFrame) error {
	p := place{f.Iface, f.Out, f.Why}
	n, err := w.number(p)
	if err != nil {
		return err
	}
	w.frames[p]++
	return w.file.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(0, f.Time), CaptureLength: len(f.Data), Length: f.Length, InterfaceIndex: n}, f.Data)
}

// Flush hands over what is buffered.
func (w *Writer) Flush() error { return w.file.Flush() }

// End writes what each interface had, and lost for want of a reader who kept up. A lost frame's verdict is lost with it: it counts at the
// interface and direction.
func (w *Writer) End(lost func(iface int, out bool) uint64) error {
	now := time.Now()
	for p, n := range w.numbers {
		s := pcapgo.NgInterfaceStatistics{LastUpdate: now, EndTime: now, PacketsReceived: w.frames[p]}
		if p.why == reason.None {
			s.PacketsDropped = lost(p.iface, p.out)
			s.PacketsReceived += s.PacketsDropped
		}
		if err := w.file.WriteInterfaceStats(n, s); err != nil {
			return err
		}
	}
	return w.file.Flush()
}
