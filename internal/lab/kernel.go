package lab

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"weir/internal/testnet"
)

// ByKernel has the servers' own kernels unwrap tunnels from now on, as real servers do, in place of bpf/decap: the named device of each, which
// is there once its module is loaded (tunl0 of ipip, gre0 of ip_gre, sit0, ip6tnl0 of ip6_tunnel) or setUp makes it. setUp are commands of ip that
// a server needs before, with RIP for its address. Decapsulated no longer counts; see Received.
func (l *Lab) ByKernel(device string, setUp ...string) error {
	for _, d := range l.decaps {
		if err := d.Close(); err != nil {
			return err
		}
	}
	l.decaps = nil
	for _, host := range l.Servers {
		for _, command := range append(slices.Clone(setUp), "link set "+device+" up") {
			command = strings.ReplaceAll(command, "RIP", host.IP.String())
			if _, err := host.Run("ip", strings.Fields(command)...); err != nil {
				return err
			}
		}
		host.Sysctl("net.ipv4.conf."+device+".rp_filter", "0")
	}
	return nil
}

// Received returns how many packets a device of the servers has received in all.
func (l *Lab) Received(device string) (sum uint64, err error) {
	for _, host := range l.Servers {
		n, e := received(host.Namespace, device)
		sum, err = sum+n, errors.Join(err, e)
	}
	return sum, err
}

func received(ns *testnet.Namespace, device string) (n uint64, err error) {
	out, err := ns.Run("cat", "/sys/class/net/"+device+"/statistics/rx_packets")
	if err == nil {
		_, err = fmt.Sscan(out, &n)
	}
	return n, err
}
