package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/cilium/ebpf/link"

	"weir/lb"
)

// Decap makes a server of mode TUN out of a host whose kernel has no tunnel devices: on one interface, packets that are sent to the
// server inside another IP packet, GUE or GRE lose what is around them. For tests and the lab.
type Decap struct {
	objects decapObjects

	mu     sync.Mutex
	link   link.Link // nil after Close
	closed uint64    // the count at Close
}

// GUEPort is where decap takes UDP for GUE: the port that IANA gave to it.
const GUEPort = 6080

// AttachDecap puts decap on the interface at which outer packets for addrs, an IPv4 and an IPv6 address of the server or one of them,
// arrive: in native mode where the driver has it. The interface's MTU must have room for the outer headers beyond the inner packets':
// 52 bytes for GUE over IPv6, the longest.
func AttachDecap(ifindex int, addrs ...lb.Addr) (*Decap, error) {
	iface, err := net.InterfaceByIndex(ifindex)
	if err != nil {
		return nil, fmt.Errorf("attach decap to interface %d: %w", ifindex, ErrInterface)
	}
	spec, err := loadDecap()
	if err != nil {
		return nil, err
	}
	var own4 [4]byte
	var own6 [16]byte
	for _, a := range addrs {
		if wire := a.As16(); a.Is4() {
			own4 = [4]byte(wire[12:])
		} else {
			own6 = wire
		}
	}
	port := binary.BigEndian.AppendUint16(nil, GUEPort)
	err = errors.Join(spec.Variables[decapVarOwnIpv4].Set(own4), spec.Variables[decapVarOwnIpv6].Set(own6), spec.Variables[decapVarGuePort].Set(port))
	if err != nil {
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
