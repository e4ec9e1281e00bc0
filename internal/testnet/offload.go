package testnet

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// disableOffloads makes an interface of the current namespace compute and verify checksums in software and insert VLAN tags into the frame. A
// veth otherwise hands over frames whose checksum was never computed, which an XDP program's reader would see as wrong ones.
func disableOffloads(device string) error {
	for _, c := range []struct {
		command uint32 // include/uapi/linux/ethtool.h
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
	return nil
}

// ethtool sends one of the commands that carry a single number, and returns the number that comes back.
//
// The use of unsafe is sound: the kernel reads and writes the eight bytes of value during the call only, and value is kept alive by the
// pointer that the request holds, which escapes to the heap and so does not move.
func ethtool(device string, command, data uint32) (uint32, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	value := &struct{ command, data uint32 }{command, data} // struct ethtool_value
	request := &struct {                                    // struct ifreq
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(value)}
	if len(device) >= unix.IFNAMSIZ {
		return 0, unix.ENAMETOOLONG
	}
	copy(request.name[:], device)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(request))); errno != 0 {
		return 0, errno
	}
	return value.data, nil
}
