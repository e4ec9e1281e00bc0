package bpf

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// What a caller may want to tell apart, by errors.Is.
var (
	ErrPrivilege   = errors.New("not permitted: it takes root, or CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_NET_RAW")
	ErrInterface   = errors.New("no such interface")
	ErrAttached    = errors.New("another XDP program is attached to it already")
	ErrUnsupported = errors.New("the driver refuses native XDP")
	ErrFull        = errors.New("the map is full")
)

// explain puts the sentence for people in front of what the kernel said; both can be found in the result.
func explain(err error) error {
	switch {
	// EACCES is the verifier's, also of what it lets only those do who have CAP_PERFMON (kernel/bpf/verifier.c, check_cond_jmp_op).
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES) && strings.Contains(err.Error(), "pointer comparison prohibited"):
		return fmt.Errorf("%w (%w)", ErrPrivilege, errno(err))
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("%w (%w)", ErrInterface, errno(err))
	// net/core/dev.c, dev_xdp_attach: EBUSY for a program or link in the same mode, EEXIST for one in the other mode.
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		return fmt.Errorf("%w (%w)", ErrAttached, errno(err))
	}
	return err
}

// errno returns the kernel's word without the library's.
func errno(err error) error {
	var e unix.Errno
	if errors.As(err, &e) {
		return e
	}
	return err
}

// isFull: a full hash gives E2BIG (kernel/bpf/hashtab.c).
func isFull(err error) bool { return errors.Is(err, unix.E2BIG) }

// refusal says why a driver refused native XDP, as far as its errno tells, and what to try. The kernel has a sentence of the
// driver's own, but gives it only to netlink, not to BPF_LINK_CREATE.
func refusal(err error, mtu int) error {
	why := "for a reason of its own; try generic mode"
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
		why = "it has no native XDP, or not with the present MTU and offloads; " +
			"try generic mode, or lower the MTU and turn LRO off (ethtool -K IFACE lro off)"
	// drivers/net/veth.c, veth_xdp_set: the other end's MTU counts, and must leave room in a page of 4,096 for 256 bytes of headroom,
	// the Ethernet header and skb_shared_info: 3,506.
	case errors.Is(err, unix.ERANGE):
		why = fmt.Sprintf("its MTU of %d, or of a veth the other end's, is too large: a frame must fit one page. "+
			"Set 3498 bytes or less (veth: 3506), or use generic mode", mtu)
	case errors.Is(err, unix.EINVAL):
		why = fmt.Sprintf("its MTU of %d is too large (a frame must fit one page: 3498 bytes is a common limit), or LRO is on; "+
			"try a smaller MTU and ethtool -K IFACE lro off, or generic mode", mtu)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.ENOMEM):
		why = "it has too few queues or rings, or too little memory; try fewer queues (ethtool -L IFACE combined N), or generic mode"
	}
	return fmt.Errorf("%w: %s (%w)", ErrUnsupported, why, errno(err))
}
