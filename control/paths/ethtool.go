package paths

import (
	"encoding/binary"
	"errors"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// driver returns the name of the interface's driver, "" where it does not say.
func driver(name string) string {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	info, err := unix.IoctlGetEthtoolDrvinfo(fd, name)
	if err != nil {
		return ""
	}
	return unix.ByteSliceToString(info.Driver[:])
}

// ethtool asks a device about itself by netlink (Documentation/networking/ethtool-netlink.rst), because /sys shows the namespace it was
// mounted in. header is the number of the request's header attribute.
func ethtool(index int, command uint8, header int) ([]syscall.NetlinkRouteAttr, error) {
	family, err := netlink.GenlFamilyGet(unix.ETHTOOL_GENL_NAME)
	if err != nil {
		return nil, err
	}
	req := nl.NewNetlinkRequest(int(family.ID), 0)
	req.AddData(&nl.Genlmsg{Command: command, Version: unix.ETHTOOL_GENL_VERSION})
	device := nl.NewRtAttr(unix.NLA_F_NESTED|header, nil)
	device.AddRtAttr(unix.ETHTOOL_A_HEADER_DEV_INDEX, nl.Uint32Attr(uint32(index)))
	req.AddData(device)
	msgs, err := req.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil {
		return nil, err
	}
	if len(msgs) != 1 || len(msgs[0]) < nl.SizeofGenlmsg {
		return nil, errors.New("not one answer")
	}
	return nl.ParseRouteAttr(msgs[0][nl.SizeofGenlmsg:])
}

// channels returns how many receive and transmit queues the device has in use, false where the driver does not say.
func channels(index int) (rx, tx int, ok bool) {
	attrs, err := ethtool(index, unix.ETHTOOL_MSG_CHANNELS_GET, unix.ETHTOOL_A_CHANNELS_HEADER)
	if err != nil {
		return 0, 0, false
	}
	for _, a := range attrs {
		if len(a.Value) != 4 {
			continue
		}
		n := int(binary.NativeEndian.Uint32(a.Value))
		switch a.Attr.Type {
		case unix.ETHTOOL_A_CHANNELS_RX_COUNT:
			rx += n
		case unix.ETHTOOL_A_CHANNELS_TX_COUNT:
			tx += n
		case unix.ETHTOOL_A_CHANNELS_COMBINED_COUNT:
			rx, tx = rx+n, tx+n
		}
	}
	return rx, tx, rx > 0 && tx > 0
}

// hidesTags returns what of rx-vlan-hw-parse and rx-vlan-stag-hw-parse (net/ethtool/common.c, netdev_features_strings) is on: then the
// device tells 802.1Q and 802.1ad tags beside the frame.
func hidesTags(index int) string {
	attrs, err := ethtool(index, unix.ETHTOOL_MSG_FEATURES_GET, unix.ETHTOOL_A_FEATURES_HEADER)
	if err != nil {
		return ""
	}
	var on []string
	for _, feature := range nested(attrs, unix.ETHTOOL_A_FEATURES_ACTIVE, unix.ETHTOOL_A_BITSET_BITS) {
		bit, _ := nl.ParseRouteAttr(feature.Value)
		for _, a := range bit {
			if a.Attr.Type == unix.ETHTOOL_A_BITSET_BIT_NAME {
				if name := unix.ByteSliceToString(a.Value); name == "rx-vlan-hw-parse" || name == "rx-vlan-stag-hw-parse" {
					on = append(on, name)
				}
			}
		}
	}
	return strings.Join(on, " ")
}

// nested returns the attributes inside those of the given types, from the outermost in.
func nested(attrs []syscall.NetlinkRouteAttr, types ...uint16) []syscall.NetlinkRouteAttr {
	for _, t := range types {
		var inside []syscall.NetlinkRouteAttr
		for _, a := range attrs {
			if a.Attr.Type&^unix.NLA_F_NESTED == t {
				inside, _ = nl.ParseRouteAttr(a.Value)
			}
		}
		attrs = inside
	}
	return attrs
}
