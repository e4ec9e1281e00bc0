package testnet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// disableOffloads makes an interface of the current namespace compute and verify checksums in software and insert VLAN tags into the frame. A
// veth otherwise hands over frames whose checksum was never computed, which an XDP program's reader would see as wrong ones.
func disableOffloads(device string) error {
	for _, c := range []struct {
		command uint32
		name    string
	}{
		{unix.ETHTOOL_STXCSUM, "transmit checksums"},
		{unix.ETHTOOL_SRXCSUM, "receive checksums"},
		{unix.ETHTOOL_SFLAGS, "VLAN tags"}, // no flag set: neither tags nor LRO
	} {
		if _, err := ethtool(device, c.command, 0); err != nil {
			return fmt.Errorf("turn off offload of %s on %s: %w", c.name, device, err)
		}
	}
	if err := disableServiceTags(device); err != nil {
		return fmt.Errorf("turn off offload of service tags on %s: %w", device, err)
	}
	return nil
}

// disableServiceTags does for 802.1ad what the above does for 802.1Q. Only netlink knows these features
// (Documentation/networking/ethtool-netlink.rst, FEATURES_SET): a bit that is named without a value is turned off.
func disableServiceTags(device string) error {
	family, err := netlink.GenlFamilyGet(unix.ETHTOOL_GENL_NAME)
	if err != nil {
		return err
	}
	req := nl.NewNetlinkRequest(int(family.ID), unix.NLM_F_ACK)
	req.AddData(&nl.Genlmsg{Command: unix.ETHTOOL_MSG_FEATURES_SET, Version: unix.ETHTOOL_GENL_VERSION})
	header := nl.NewRtAttr(unix.NLA_F_NESTED|unix.ETHTOOL_A_FEATURES_HEADER, nil)
	header.AddRtAttr(unix.ETHTOOL_A_HEADER_DEV_NAME, nl.ZeroTerminated(device))
	req.AddData(header)
	wanted := nl.NewRtAttr(unix.NLA_F_NESTED|unix.ETHTOOL_A_FEATURES_WANTED, nil)
	bits := wanted.AddRtAttr(unix.NLA_F_NESTED|unix.ETHTOOL_A_BITSET_BITS, nil)
	for _, name := range []string{"tx-vlan-stag-hw-insert", "rx-vlan-stag-hw-parse"} {
		bit := bits.AddRtAttr(unix.NLA_F_NESTED|unix.ETHTOOL_A_BITSET_BITS_BIT, nil)
		bit.AddRtAttr(unix.ETHTOOL_A_BITSET_BIT_NAME, nl.ZeroTerminated(name))
	}
	req.AddData(wanted)
	_, err = req.Execute(unix.NETLINK_GENERIC, 0)
	return err
}

// Stats returns what the driver itself counts, by the names that ethtool -S prints: of a veth, rx_queue_0_xdp_packets and the like.
func (d *Device) Stats() map[string]uint64 {
	d.NS.net.t.Helper()
	var stats map[string]uint64
	err := d.NS.Do(func() (err error) {
		stats, err = driverStats(d.Name)
		return err
	})
	if err != nil {
		d.NS.net.t.Fatalf("%s/%s: statistics: %v", d.NS.Name, d.Name, err)
	}
	return stats
}

// The structures below are those of include/uapi/linux/ethtool.h; each begins with the command's number.

// ethtool sends one of the commands that carry a single number (struct ethtool_value), and returns the number that comes back.
func ethtool(device string, command, data uint32) (uint32, error) {
	b := make([]byte, 8)
	binary.NativeEndian.PutUint32(b, command)
	binary.NativeEndian.PutUint32(b[4:], data)
	err := ethtoolCall(device, b)
	return binary.NativeEndian.Uint32(b[4:]), err
}

func driverStats(device string) (map[string]uint64, error) {
	const (
		ethSSStats    = 1 // enum ethtool_stringset
		ethGstringLen = 32
		maxStats      = 1 << 16
	)
	// struct ethtool_sset_info: how many there are.
	info := make([]byte, 16+4)
	binary.NativeEndian.PutUint32(info, unix.ETHTOOL_GSSET_INFO)
	binary.NativeEndian.PutUint64(info[8:], 1<<ethSSStats)
	if err := ethtoolCall(device, info); err != nil {
		return nil, err
	}
	n := int(binary.NativeEndian.Uint32(info[16:]))
	if n > maxStats {
		return nil, fmt.Errorf("%d of them", n)
	}
	// struct ethtool_gstrings and struct ethtool_stats: their names and values.
	names := make([]byte, 12+n*ethGstringLen)
	binary.NativeEndian.PutUint32(names, unix.ETHTOOL_GSTRINGS)
	binary.NativeEndian.PutUint32(names[4:], ethSSStats)
	binary.NativeEndian.PutUint32(names[8:], uint32(n))
	if err := ethtoolCall(device, names); err != nil {
		return nil, err
	}
	values := make([]byte, 8+8*n)
	binary.NativeEndian.PutUint32(values, unix.ETHTOOL_GSTATS)
	binary.NativeEndian.PutUint32(values[4:], uint32(n))
	if err := ethtoolCall(device, values); err != nil {
		return nil, err
	}
	stats := map[string]uint64{}
	for i := range n {
		name, _, _ := bytes.Cut(names[12+i*ethGstringLen:][:ethGstringLen], []byte{0})
		stats[string(name)] = binary.NativeEndian.Uint64(values[8+8*i:])
	}
	return stats, nil
}

// ethtoolCall hands a command over to the kernel, which answers in its bytes.
//
// The use of unsafe is sound: the kernel reads and writes command during the call only and no further than the lengths in it say, which the
// callers above take from len(command); it is pinned meanwhile, because the request points at it by a number.
func ethtoolCall(device string, command []byte) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&command[0])
	request := struct { // struct ifreq
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&command[0])}
	if len(device) >= unix.IFNAMSIZ {
		return unix.ENAMETOOLONG
	}
	copy(request.name[:], device)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	return nil
}
