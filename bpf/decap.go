package bpf

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/cilium/ebpf/link"

	"weir/lb"
)

// Decap makes a server of mode TUN out of a host whose kernel has no tunl0: on one interface, packets that are sent to the
// server inside another IPv4 header (RFC 2003) lose that header. For tests and the lab.
type Decap struct {
	objects decapObjects

	mu     sync.Mutex
	link   link.Link // nil after Close
	closed uint64    // the count at Close
}

// AttachDecap puts decap on the interface at which outer packets for addr, an IPv4 address of the server, arrive: in native mode
// where the driver has it. The interface's MTU must have room for the outer header's 20 bytes beyond the inner packets'.
func AttachDecap(ifindex int, addr lb.Addr) (*Decap, error) {
	if !addr.Is4() {
		return nil, fmt.Errorf("decap: outer address %s: only IPv4 is known", addr)
	}
	iface, err := net.InterfaceByIndex(ifindex)
	if err != nil {
		return nil, fmt.Errorf("attach decap to interface %d: %w", ifindex, ErrInterface)
	}
	spec, err := loadDecap()
	if err != nil {
		return nil, err
	}
	wire := addr.As16()
	if err := spec.Variables[decapVarOwnIpv4].Set([4]byte(wire[12:])); err != nil {
		return nil, fmt.Errorf("decap: %w", err)
	}
	d := &Decap{}
	if err := spec.LoadAndAssign(&d.objects, nil); err != nil {
		return nil, fmt.Errorf("load decap: %w", explain(err))
	}
	// No flags: native mode, or generic where the driver has none.
	if d.link, err = link.AttachXDP(link.XDPOptions{Program: d.objects.Decap, Interface: ifindex}); err != nil {
		d.objects.Close()
		return nil, fmt.Errorf("attach decap to %s: %w", iface.Name, explain(err))
	}
	return d, nil
}

// Count returns how many packets were decapsulated.
func (d *Decap) Count() (n uint64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.link == nil {
		return d.closed, nil
	}
	err = d.objects.Decapsulated.Get(&n)
	return n, err
}

// Close takes decap off the interface. It may be called twice.
func (d *Decap) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.link == nil {
		return nil
	}
	_ = d.objects.Decapsulated.Get(&d.closed)
	err := errors.Join(d.link.Close(), d.objects.Close())
	d.link = nil
	return err
}
