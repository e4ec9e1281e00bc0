package rig

import (
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"weir/internal/testpkt"
	"weir/lb"
)

// check looks at the packets that the sink kept: each must have gone to a server with everything that the mode asks for and every checksum
// right, and all of a flow (as a server sees it) to the same server. It returns how many it looked at.
func (s *setting) check(run *running) (int, error) {
	frames, err := s.sink.Samples()
	if err != nil {
		return 0, err
	}
	byMAC := make(map[string]server)
	for _, server := range s.listed {
		byMAC[server.mac.String()] = server
	}
	servers := make(map[netip.AddrPort]string) // of a flow, as it arrives
	seen := make(map[string]bool)
	for _, f := range frames {
		v, err := testpkt.Parse(f)
		if err != nil {
			return 0, fmt.Errorf("a server got %x: %w", f, err)
		}
		mac := v.DstMAC.String()
		server, ok := byMAC[mac]
		if !ok {
			return 0, fmt.Errorf("a packet went to %s, which is no server's: %x", mac, f)
		}
		if err := s.right(&v.IP, server); err != nil {
			return 0, fmt.Errorf("to server %s: %w: %x", server.addr, err, f)
		}
		flow := v.Src
		if v.Inner != nil {
			flow = v.Inner.Src
		}
		// FULLNAT may use a local address and port once for each server.
		if before, ok := servers[flow]; ok && before != mac && s.Mode != lb.FULLNAT {
			return 0, fmt.Errorf("flow from %s went to two servers, %s and %s", flow, before, mac)
		}
		servers[flow], seen[mac] = mac, true
	}
	if want := len(s.listed); !run.single && s.Flows >= 100*want && len(frames) > 500 && len(seen) != want {
		return 0, fmt.Errorf("%d of %d servers got packets", len(seen), want)
	}
	return len(frames), nil
}

// right reports what is wrong with a packet that a server got.
func (s *setting) right(ip *testpkt.IP, server server) error {
	inner := ip
	if s.Mode == lb.TUN {
		if ip.Inner == nil || ip.Src.Addr().String() != s.ends().back || ip.Dst.Addr() != server.addr {
			return fmt.Errorf("not in a tunnel from %s to the server", s.ends().back)
		}
		inner = ip.Inner
	}
	for _, layer := range []*testpkt.IP{ip, inner} {
		if layer.Checksums != nil {
			return layer.Checksums
		}
	}
	want := s.ends().vip
	if s.Mode == lb.NAT || s.Mode == lb.FULLNAT {
		want = netip.AddrPortFrom(server.addr, serverPort)
	}
	if inner.Dst != want {
		return fmt.Errorf("sent to %s, want %s", inner.Dst, want)
	}
	if size := inner.Length + 14 + 4; !slices.Contains(s.sizes(), size) {
		return fmt.Errorf("a frame of %d bytes was sent", size)
	}
	if (s.Traffic == UDP) != (inner.Proto == unix.IPPROTO_UDP) {
		return fmt.Errorf("sent by protocol %d", inner.Proto)
	}
	if s.Traffic != UDP && inner.Flags != testpkt.SYN && !slices.Contains(s.flags(), inner.Flags) {
		return fmt.Errorf("sent with flags %#x", inner.Flags)
	}
	isClient := s.ends().clients.Contains(inner.Src.Addr())
	if isClient == (s.Mode == lb.FULLNAT) {
		return fmt.Errorf("sent from %s", inner.Src)
	}
	return nil
}
