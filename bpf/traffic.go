package bpf

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

//go:generate go tool bpf2go -go-package bpf -target bpfel -cflags "-I/usr/include/x86_64-linux-gnu -O2 -g -Wall -Wextra -Werror -Wno-address-of-packed-member" -type mac -type count -type sample traffic traffic.c

// Generator sends copies of packets out of an interface, from as many sources as it has flows, millions per second and CPU:
// the kernel's BPF_PROG_RUN makes the frames (Linux 5.18, BPF_F_TEST_XDP_LIVE_FRAMES), and they leave as if redirected by XDP. A
// veth takes them while XDP is attached to its other end. Its methods belong to one goroutine, locked to a thread that is in the
// interface's network namespace.
type Generator struct {
	// Batch is how many frames Send and Run have the kernel make before it lets the receiver's softirq run. More of them wake a receiver on the
	// same CPU less often, but well below the 256 that a veth's ring holds (drivers/net/veth.c, VETH_RING_SIZE) none is lost while the softirq is
	// late. Default 128.
	Batch int

	objects struct {
		Program *ebpf.Program  `ebpf:"generate"`
		Sent    *ebpf.Variable `ebpf:"sent"`
		Until   *ebpf.Variable `ebpf:"until"`
		Gap     *ebpf.Variable `ebpf:"gap"`
		Due     *ebpf.Variable `ebpf:"due"`
		Stamp   *ebpf.Variable `ebpf:"stamp"`
	}
	packet  []byte // the longest
	least   int    // length of the shortest
	stampAt uint32
	closed  bool
}

// generatorBatch is Generator.Batch's default.
const generatorBatch = 128

// maxFlows is one flow per source port of an IPv4 /8.
const maxFlows = 1 << 24

// maxPackets is traffic.c's PACKETS, and headSize its HEAD.
const (
	maxPackets = 16
	headSize   = 80
)

// NewGenerator prepares to send packets, 1 to 16 of them that take turns: whole frames without FCS, of at least 60 bytes (80 with IPv6), IPv4
// without options or IPv6 without extension headers, TCP or UDP, with valid checksums. They have headers in the same places, and may differ in
// length and in their first 80 bytes. Flow 0 has the first packet's own source; the next ones have the ports above it and, when those
// are used up, the addresses above it. The flows, 1 to 16,777,216 of them, take turns in a scattered order.
func NewGenerator(ifindex, flows int, list ...[]byte) (*Generator, error) {
	if flows < 1 || flows > maxFlows {
		return nil, fmt.Errorf("generator: %d flows: allowed are 1 to %d", flows, maxFlows)
	}
	if len(list) < 1 || len(list) > maxPackets {
		return nil, fmt.Errorf("generator: %d packets: allowed are 1 to %d", len(list), maxPackets)
	}
	at, err := locate(list[0])
	if err != nil {
		return nil, fmt.Errorf("generator: %w", err)
	}
	packet, least := list[0], len(list[0])
	for _, p := range list {
		if len(p) > len(packet) {
			packet = p
		}
		least = min(least, len(p))
	}
	var packets [maxPackets]trafficPacket
	for n, p := range list {
		if its, err := locate(p); err != nil || its != at {
			return nil, fmt.Errorf("generator: packet %d has not the first one's headers (%v)", n, err)
		}
		if len(p) > headSize && !bytes.Equal(p[headSize:], packet[headSize:len(p)]) {
			return nil, fmt.Errorf("generator: packet %d differs behind its first %d bytes", n, headSize)
		}
		var head [headSize]byte
		copy(head[:], p)
		for i := range packets[n].Head {
			packets[n].Head[i] = binary.NativeEndian.Uint64(head[i*8:])
		}
		packets[n].Surplus = uint64(len(packet) - len(p))
	}
	if _, err := net.InterfaceByIndex(ifindex); err != nil {
		return nil, fmt.Errorf("generator: interface %d: %w", ifindex, ErrInterface)
	}
	spec, err := loadTraffic()
	if err != nil {
		return nil, err
	}
	port := uint32(binary.BigEndian.Uint16(list[0][at.port:]))
	ports := 65536 - port
	flow := func(n uint32) trafficSource { return trafficSource{Number: n, Addr: n / ports, Port: n % ports} }
	for name, value := range map[string]any{
		"packets":       packets,
		"packet_count":  uint32(len(list)),
		"out_ifindex":   uint32(ifindex),
		"all":           flow(uint32(flows)),
		"stride":        flow(stride(uint32(flows))),
		"first_addr":    binary.BigEndian.Uint32(list[0][at.addr:]),
		"first_port":    port,
		"ports":         ports,
		"addr_at":       at.addr,
		"port_at":       at.port,
		"ip_check_at":   at.ipCheck,
		"l4_check_at":   at.l4Check,
		"l4_check_kept": flag(at.unchecked),
		"is_udp":        flag(at.udp),
		"stamp_at":      at.payload,
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("generator: %s: %w", name, err)
		}
	}
	g := &Generator{Batch: generatorBatch, packet: packet, least: least, stampAt: at.payload}
	if err := spec.LoadAndAssign(&g.objects, nil); err != nil {
		return nil, fmt.Errorf("load generator: %w", explain(err))
	}
	return g, nil
}

// stride is near the golden ratio's part of flows and shares no factor with it: it comes by every flow, far from the one before.
func stride(flows uint32) uint32 {
	gcd := func(a, b uint32) uint32 {
		for b != 0 {
			a, b = b, a%b
		}
		return a
	}
	s := uint32(float64(flows) * 0.6180339887)
	for s > 1 && gcd(s, flows) != 1 {
		s--
	}
	return min(max(s, 1), flows)
}

func flag(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// offsets of what differs between flows, in bytes from the start of the frame; addr is that of the source's last four bytes.
type offsets struct {
	addr, port, ipCheck, l4Check, payload uint32
	udp, unchecked                        bool // unchecked: UDP without a checksum
}

// locate finds them. RFC 791, 8200, 768, 9293; IEEE 802.1Q.
func locate(packet []byte) (o offsets, err error) {
	const least, least6 = 60, 80
	if len(packet) < least || len(packet) > 3500 {
		return o, fmt.Errorf("a packet of %d bytes: allowed are %d to 3500", len(packet), least)
	}
	l3 := uint32(14)
	ethertype := binary.BigEndian.Uint16(packet[12:])
	for ; (ethertype == unix.ETH_P_8021Q || ethertype == unix.ETH_P_8021AD) && l3 < 22; l3 += 4 {
		ethertype = binary.BigEndian.Uint16(packet[l3+2:])
	}
	var proto byte
	var l4 uint32
	switch {
	case ethertype == unix.ETH_P_IP && packet[l3] == 0x45:
		proto, l4 = packet[l3+9], l3+20
		o.addr, o.ipCheck = l3+12, l3+10
	case ethertype == unix.ETH_P_IPV6 && len(packet) >= least6:
		proto, l4 = packet[l3+6], l3+40
		o.addr = l3 + 20
	case ethertype == unix.ETH_P_IPV6:
		return o, fmt.Errorf("an IPv6 packet of %d bytes: allowed are %d and more", len(packet), least6)
	default:
		return o, errors.New("the packet is neither IPv4 without options nor IPv6")
	}
	o.port = l4
	switch proto {
	case unix.IPPROTO_UDP:
		o.l4Check, o.payload, o.udp = l4+6, l4+8, true
		o.unchecked = binary.BigEndian.Uint16(packet[o.l4Check:]) == 0
	case unix.IPPROTO_TCP:
		o.l4Check, o.payload = l4+16, l4+20
	default:
		return o, fmt.Errorf("protocol %d is neither TCP nor UDP", proto)
	}
	return o, nil // two tags and TCP, the longest: a checksum that ends at 60 with IPv4, at 80 with IPv6
}

// Send sends that many packets as fast as it can.
func (g *Generator) Send(n int) error {
	if g.closed {
		return errors.New("generator: closed")
	}
	if n <= 0 {
		return nil
	}
	sent, err := g.Sent()
	if err != nil {
		return err
	}
	if err := g.objects.Until.Set(sent + uint64(n)); err != nil {
		return fmt.Errorf("generator: %w", err)
	}
	_, err = g.objects.Program.Run(&ebpf.RunOptions{
		Data:      g.packet,
		Repeat:    uint32(n),
		BatchSize: uint32(g.Batch),
		Flags:     unix.BPF_F_TEST_XDP_LIVE_FRAMES,
	})
	if err != nil {
		return fmt.Errorf("generator: %w", explain(err))
	}
	return nil
}

// Sent returns how many packets have been sent so far. What the interface had no room for is not taken off.
func (g *Generator) Sent() (n uint64, err error) {
	if err := g.objects.Sent.Get(&n); err != nil {
		return 0, fmt.Errorf("generator: %w", err)
	}
	return n, nil
}

// Run sends count packets (0: without end) at rate packets per second (0: as fast as it can), until ctx is done. It keeps the
// rate over any stretch of some milliseconds, and catches up on none that it missed by more.
func (g *Generator) Run(ctx context.Context, count uint64, rate float64) error {
	// Making the page pool of a run costs some 50 us: 4 % of a burst of 1 << 14 at 4 Mpps.
	const burst, patience = 1 << 17, 5 * time.Millisecond
	var sent uint64
	due, last := 0.0, time.Now()
	for (count == 0 || sent < count) && ctx.Err() == nil {
		n := uint64(burst)
		if rate > 0 {
			now := time.Now()
			due = min(due+now.Sub(last).Seconds()*rate, max(patience.Seconds()*rate, 1))
			last = now
			// Not for less than half a millisecond's packets.
			if least := max(rate*500e-6, 1); due < least {
				time.Sleep(time.Duration((least - due) / rate * float64(time.Second)))
				continue
			}
			n = min(n, uint64(due))
			due -= float64(n)
		}
		if count > 0 {
			n = min(n, count-sent)
		}
		if err := g.Send(int(n)); err != nil {
			return err
		}
		sent += n
	}
	return nil
}

// gapShift is traffic.c's GAP_SHIFT.
const gapShift = 6

// Stream sends rate packets per second, evenly, until ctx is done: no more than a few at a time leave together. What it misses by more
// than 250 us it does not make up for. It keeps the CPU busy all the time, and looks at ctx some twenty times a second.
func (g *Generator) Stream(ctx context.Context, rate float64) error {
	if g.closed {
		return errors.New("generator: closed")
	}
	if rate < 1 || rate > 1e9 {
		return fmt.Errorf("generator: %v packets per second: allowed are 1 to 1e9", rate)
	}
	const turns, batch = 1 << 20, 16
	if err := errors.Join(g.objects.Until.Set(^uint64(0)), g.objects.Due.Set(uint64(0)),
		g.objects.Gap.Set(uint64(1e9/rate*(1<<gapShift)))); err != nil {
		return fmt.Errorf("generator: %w", err)
	}
	defer func() { _ = g.objects.Gap.Set(uint64(0)) }()
	for ctx.Err() == nil {
		_, err := g.objects.Program.Run(&ebpf.RunOptions{
			Data: g.packet, Repeat: turns, BatchSize: batch, Flags: unix.BPF_F_TEST_XDP_LIVE_FRAMES,
		})
		if err != nil {
			return fmt.Errorf("generator: %w", explain(err))
		}
	}
	return nil
}

// Stamp has one packet in n, a power of two, carry the time it was made in the first four bytes of its payload, for a Sink that measures
// latency; 0: none, as from the start. The rest of those bytes are to be 0 in the packet.
func (g *Generator) Stamp(n uint32) error {
	switch {
	case g.closed:
		return errors.New("generator: closed")
	case n&(n-1) != 0:
		return fmt.Errorf("generator: a stamp in one of %d packets: not a power of two", n)
	case int(g.stampAt)+4 > 60 && (int(g.stampAt)+4 > headSize || g.least < headSize):
		return errors.New("generator: the packet's payload has no room for a stamp")
	}
	return g.objects.Stamp.Set(n)
}

// Close lets go of the program. Calling it again is harmless.
func (g *Generator) Close() error {
	if g.closed {
		return nil
	}
	g.closed = true
	return g.objects.Program.Close()
}
