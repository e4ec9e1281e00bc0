package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Redirect sends every IPv4 packet that an interface receives out of another, with new MAC addresses, in the driver: what benchmarks
// compare forwarders with.
type Redirect struct {
	program *ebpf.Program
	link    link.Link // nil after Close
}

// NewRedirect attaches it to interface from, in native mode. A veth named by to has to have XDP attached to its other end.
func NewRedirect(from, to int, dst, src net.HardwareAddr) (*Redirect, error) {
	spec, err := loadTraffic()
	if err != nil {
		return nil, err
	}
	var macs [3]uint32
	both := append(append([]byte(nil), dst...), src...)
	if len(both) != 12 {
		return nil, fmt.Errorf("redirect: %s and %s: not Ethernet addresses", dst, src)
	}
	for i := range macs {
		macs[i] = binary.NativeEndian.Uint32(both[4*i:])
	}
	if err := errors.Join(spec.Variables["macs"].Set(macs), spec.Variables["out_ifindex"].Set(uint32(to))); err != nil {
		return nil, fmt.Errorf("redirect: %w", err)
	}
	var objects struct {
		Program *ebpf.Program `ebpf:"redirect"`
	}
	if err := spec.LoadAndAssign(&objects, nil); err != nil {
		return nil, fmt.Errorf("load redirect: %w", explain(err))
	}
	r := &Redirect{program: objects.Program}
	r.link, err = link.AttachXDP(link.XDPOptions{Program: r.program, Interface: from, Flags: link.XDPDriverMode})
	if err != nil {
		_ = r.program.Close()
		return nil, fmt.Errorf("attach redirect to interface %d: %w", from, explain(err))
	}
	return r, nil
}

// Close takes it off the interface. Calling it again is harmless.
func (r *Redirect) Close() error {
	if r.link == nil {
		return nil
	}
	err := errors.Join(r.link.Close(), r.program.Close())
	r.link = nil
	return err
}
