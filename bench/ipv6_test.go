package bench

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"weir/internal/testpkt"
	"weir/lb"
)

// sixth returns the IPv6 address that stands for an IPv4 one.
func sixth(v4 uint32) lb.Addr { return lb.Addr{Hi: 0x20010db8 << 32, Lo: uint64(v4)} }

// packets6 is packets over IPv6, whose shortest UDP frame has 62 bytes.
func packets6(n int) [][]byte {
	virtual := netip.AddrPortFrom(sixth(lb.AddrFrom(vip.Addr()).V4()).Netip(), vip.Port())
	frame := testpkt.UDP(netip.AddrPortFrom(sixth(198<<24|18<<16).Netip(), 1024), virtual).Size(62).Bytes()
	memory := make([]byte, n*len(frame))
	list := make([][]byte, n)
	for i := range list {
		f := memory[i*len(frame):][:len(frame):len(frame)]
		copy(f, frame) // the checksum is no longer right then, and nobody looks
		binary.BigEndian.PutUint32(f[34:], 198<<24|18<<16+uint32(i>>14))
		binary.BigEndian.PutUint16(f[54:], uint16(1024+i&0x3fff))
		list[i] = f
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(n, func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// BenchmarkWorkerIPv6 is BenchmarkWorker over the other family, to be held against it.
func BenchmarkWorkerIPv6(b *testing.B) {
	for _, mode := range []lb.Mode{lb.DR, lb.NAT, lb.FULLNAT, lb.TUN} {
		for _, flows := range []int{1_024, 65_536, 1_000_000} {
			r := established{make: func() *rig { return newRigOf(b, mode, flows, 1, sixth) }, packets: func() [][]byte { return packets6(flows) }}
			b.Run(fmt.Sprintf("mode=%s/flows=%d", mode, flows), r.benchmark)
			r.close()
		}
	}
}
