package bpf

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// XDPMode is where in an interface's receive path a program runs.
type XDPMode uint8

const (
	Auto    XDPMode = iota // native, or generic where the driver refuses
	Native                 // in the driver, before the kernel has made an skb
	Generic                // in the stack (net/core/dev.c, do_xdp_generic): any interface, slower
)

func (m XDPMode) String() string { return [...]string{"auto", "native", "generic"}[m] }

// Attachment is steer on one interface.
type Attachment struct {
	Mode        XDPMode // Native or Generic: what it came to
	NativeError error   // why Auto did not come to Native; nil otherwise

	steer   *Steer
	iface   *net.Interface
	objects steerObjects // its own program, sockets and accepted MACs; the shared maps in it are clones

	mu   sync.Mutex
	link link.Link // nil after Close
}

// Attach puts steer on an interface that has the given number of receive queues and the given MAC address. Until SetSocket has
// been called for a queue, its frames all go to the kernel.
//
// ErrPrivilege, ErrInterface and ErrAttached say what is in the way; so does ErrUnsupported in mode Native.
func (s *Steer) Attach(ifindex, queues int, mac net.HardwareAddr, mode XDPMode) (*Attachment, error) {
	if queues < 1 {
		return nil, fmt.Errorf("steer: %d queues: an interface has at least one", queues)
	}
	own, err := macKey(mac)
	if err != nil {
		return nil, err
	}
	// BPF_LINK_CREATE says EINVAL of an interface that is not there, as of much else.
	iface, err := net.InterfaceByIndex(ifindex)
	if err != nil {
		return nil, fmt.Errorf("attach steer to interface %d: %w", ifindex, ErrInterface)
	}
	a := &Attachment{steer: s, iface: iface}
	if err := a.load(own, queues); err != nil {
		return nil, err
	}
	if err := a.attach(mode); err != nil {
		a.objects.Close()
		return nil, err
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		a.close()
		return nil, errors.New("steer: closed")
	}
	s.attached[a] = true
	return a, nil
}

func (a *Attachment) load(own steerMac, queues int) error {
	spec := a.steer.spec.Copy()
	spec.Maps[steerMapSockets].MaxEntries = uint32(queues)
	spec.Maps[steerMapAcceptedMacs].MaxEntries = maxAcceptedMACs
	if err := spec.Variables[steerVarOwnMac].Set(own); err != nil {
		return fmt.Errorf("steer: %w", err)
	}
	if err := spec.Variables[steerVarReentrySecret].Set(a.steer.secret); err != nil {
		return fmt.Errorf("steer: %w", err)
	}
	if err := spec.LoadAndAssign(&a.objects, &ebpf.CollectionOptions{MapReplacements: a.steer.shared}); err != nil {
		return fmt.Errorf("load steer: %w", explain(err))
	}
	return nil
}

func (a *Attachment) attach(mode XDPMode) (err error) {
	if mode != Generic {
		a.link, err = link.AttachXDP(link.XDPOptions{Program: a.objects.Steer, Interface: a.iface.Index, Flags: link.XDPDriverMode})
		if err == nil {
			a.Mode = Native
			return nil
		}
		// Generic mode would help with none of these.
		if e := explain(err); errors.Is(e, ErrPrivilege) || errors.Is(e, ErrInterface) || errors.Is(e, ErrAttached) {
			return fmt.Errorf("attach steer to %s in native mode: %w", a.iface.Name, e)
		}
		if mode == Native {
			return fmt.Errorf("attach steer to %s in native mode: %w", a.iface.Name, refusal(err, a.iface.MTU))
		}
		a.NativeError = refusal(err, a.iface.MTU)
	}
	a.link, err = link.AttachXDP(link.XDPOptions{Program: a.objects.Steer, Interface: a.iface.Index, Flags: link.XDPGenericMode})
	if err != nil {
		return fmt.Errorf("attach steer to %s in generic mode: %w", a.iface.Name, explain(err))
	}
	a.Mode = Generic
	return nil
}

// SetSocket sends what steer redirects on a queue to the AF_XDP socket fd, which must have its receive ring. When the socket is
// closed the kernel takes it out, and the queue's frames go to the kernel again (net/xdp/xsk.c, xsk_delete_from_maps).
func (a *Attachment) SetSocket(queue, fd int) error {
	if err := a.objects.Sockets.Put(uint32(queue), uint32(fd)); err != nil {
		return fmt.Errorf("steer: socket of queue %d: %w", queue, err)
	}
	return nil
}

const maxAcceptedMACs = 256

// AcceptMAC also takes frames sent to mac, for instance a virtual router's (RFC 9568 section 7.3).
func (a *Attachment) AcceptMAC(mac net.HardwareAddr) error {
	key, err := macKey(mac)
	if err != nil {
		return err
	}
	err = a.objects.AcceptedMacs.Put(key, uint8(1))
	if isFull(err) {
		return fmt.Errorf("steer's accepted MAC addresses: %w: it holds %d", ErrFull, maxAcceptedMACs)
	}
	if err != nil {
		return fmt.Errorf("steer: accept MAC %s: %w", mac, err)
	}
	return nil
}

// Close takes the program off the interface. It may be called twice.
func (a *Attachment) Close() error {
	a.steer.mu.Lock()
	delete(a.steer.attached, a)
	a.steer.mu.Unlock()
	return a.close()
}

func (a *Attachment) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.link == nil {
		return nil
	}
	err := errors.Join(a.link.Close(), a.objects.Close())
	a.link = nil
	return err
}

func macKey(mac net.HardwareAddr) (key steerMac, err error) {
	if len(mac) != len(key.Byte) {
		return key, fmt.Errorf("steer: MAC address %q: Ethernet's have 6 bytes, this one has %d", mac, len(mac))
	}
	copy(key.Byte[:], mac)
	return key, nil
}
