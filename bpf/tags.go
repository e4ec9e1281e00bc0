package bpf

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"weir/lb"
)

// Tags makes a host one behind a trunk: its IPv4 packets to a peer get VLAN tags, and those from there must have the same, which are taken
// off; others are dropped. It stands for VLAN devices in tests. It needs Linux 6.6 (TCX).
type Tags struct {
	mu      sync.Mutex
	objects tagsObjects
	links   []link.Link // nil after Close
}

// AttachTags begins at an interface, for the peer with that MAC address.
func AttachTags(ifindex int, peer net.HardwareAddr, vlans lb.VLANs) (*Tags, error) {
	spec, err := loadTags()
	if err != nil {
		return nil, err
	}
	key, err := macKey(peer)
	if err != nil {
		return nil, err
	}
	var etherTypes, ids [lb.MaxVLANs]uint16
	for i := range vlans.Len() {
		etherTypes[i], ids[i] = vlans.Tag(i)
	}
	err = errors.Join(spec.Variables[tagsVarTags].Set(uint32(vlans.Len())), spec.Variables[tagsVarEthertypes].Set(etherTypes),
		spec.Variables[tagsVarIds].Set(ids), spec.Variables[tagsVarPeer].Set(key.Byte))
	if err != nil {
		return nil, fmt.Errorf("tags: %w", err)
	}
	t := &Tags{}
	if err := spec.LoadAndAssign(&t.objects, nil); err != nil {
		return nil, fmt.Errorf("load tags: %w", explain(err))
	}
	for _, at := range []struct {
		program *ebpf.Program
		where   ebpf.AttachType
	}{{t.objects.Push, ebpf.AttachTCXEgress}, {t.objects.Pop, ebpf.AttachTCXIngress}} {
		l, err := link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: at.program, Attach: at.where})
		if err != nil {
			_ = t.Close()
			return nil, fmt.Errorf("attach tags to interface %d: %w", ifindex, explain(err))
		}
		t.links = append(t.links, l)
	}
	return t, nil
}

// Counts returns how many packets got tags, lost them, and were dropped for wrong ones.
func (t *Tags) Counts() (pushed, popped, refused uint64, err error) {
	err = errors.Join(t.objects.Pushed.Get(&pushed), t.objects.Popped.Get(&popped), t.objects.Refused.Get(&refused))
	return pushed, popped, refused, err
}

// Close takes the programs off the interface. It may be called twice.
func (t *Tags) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for _, l := range t.links {
		errs = append(errs, l.Close())
	}
	t.links = nil
	return errors.Join(append(errs, t.objects.Close())...)
}
