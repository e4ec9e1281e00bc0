package e2e

import (
	"encoding/binary"
	"hash/crc32"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"weir/internal/testnet"
)

// pionPort is both ports of every association that github.com/pion/sctp begins.
const pionPort = 5000

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sctpSocket is an address's SCTP packets, by a raw socket, since the kernel may have no SCTP. A packet whose checksum is wrong goes no further.
type sctpSocket struct {
	packets net.PacketConn
	accept  func(*sctpConn) // called for each INIT of a new flow; nil: nobody is listening
	damaged *atomic.Int64

	mu    sync.Mutex
	conns map[sctpPeer]*sctpConn
}

type sctpPeer struct {
	addr       netip.Addr
	port, mine uint16
}

func listenSCTP(t *testing.T, ns *testnet.Namespace, at netip.Addr, damaged *atomic.Int64, accept func(*sctpConn)) *sctpSocket {
	t.Helper()
	network := "ip4:132"
	if at.Is6() {
		network = "ip6:132"
	}
	packets, err := ns.ListenPacket(network, at.String())
	if err != nil {
		t.Fatal(err)
	}
	s := &sctpSocket{packets: packets, accept: accept, damaged: damaged, conns: map[sctpPeer]*sctpConn{}}
	t.Cleanup(func() { packets.Close() })
	go s.receive()
	return s
}

func (s *sctpSocket) receive() {
	b := make([]byte, 64<<10)
	for {
		n, from, err := s.packets.ReadFrom(b)
		if err != nil {
			return
		}
		addr, _ := netip.AddrFromSlice(from.(*net.IPAddr).IP)
		if n < 16 {
			s.damaged.Add(1)
			continue
		}
		packet := append([]byte(nil), b[:n]...)
		if carried := binary.LittleEndian.Uint32(packet[8:]); carried != sctpChecksum(packet) {
			s.damaged.Add(1)
			continue
		}
		peer := sctpPeer{addr.Unmap(), binary.BigEndian.Uint16(packet), binary.BigEndian.Uint16(packet[2:])}
		s.mu.Lock()
		c := s.conns[peer]
		if c == nil && s.accept != nil && packet[12] == 1 {
			c = s.conn(peer)
			s.accept(c)
		}
		s.mu.Unlock()
		if c != nil {
			select {
			case c.in <- packet:
			default: // as a full socket buffer would
			}
		}
	}
}

// conn makes a flow's connection; the caller holds the mutex.
func (s *sctpSocket) conn(peer sctpPeer) *sctpConn {
	c := &sctpConn{socket: s, peer: peer, in: make(chan []byte, 4096), closed: make(chan struct{})}
	s.conns[peer] = c
	return c
}

// dial returns a connection from a port of its own.
func (s *sctpSocket) dial(port uint16, to netip.AddrPort) *sctpConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.conn(sctpPeer{to.Addr(), to.Port(), port})
	c.dialled = true
	return c
}

// sctpChecksum is what a packet's checksum must be, and clears it in the packet while it computes.
func sctpChecksum(packet []byte) uint32 {
	carried := [4]byte(packet[8:12])
	clear(packet[8:12])
	defer copy(packet[8:12], carried[:])
	return crc32.Checksum(packet, castagnoli)
}

// sctpConn is the packets of one association as pion wants them. The ports of one that was dialled are the caller's on the wire.
type sctpConn struct {
	socket  *sctpSocket
	peer    sctpPeer
	dialled bool
	in      chan []byte
	once    sync.Once
	closed  chan struct{}
}

func (c *sctpConn) Read(b []byte) (int, error) {
	select {
	case packet := <-c.in:
		if c.dialled {
			withPorts(packet, pionPort, pionPort)
		}
		return copy(b, packet), nil
	case <-c.closed:
		return 0, os.ErrClosed
	}
}

func (c *sctpConn) Write(b []byte) (int, error) {
	packet := append([]byte(nil), b...)
	if c.dialled {
		withPorts(packet, c.peer.mine, c.peer.port)
	}
	_, err := c.socket.packets.WriteTo(packet, &net.IPAddr{IP: c.peer.addr.AsSlice()})
	return len(b), err
}

func withPorts(packet []byte, src, dst uint16) {
	binary.BigEndian.PutUint16(packet, src)
	binary.BigEndian.PutUint16(packet[2:], dst)
	binary.LittleEndian.PutUint32(packet[8:], sctpChecksum(packet))
}

func (c *sctpConn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.socket.mu.Lock()
		delete(c.socket.conns, c.peer)
		c.socket.mu.Unlock()
	})
	return nil
}

func (c *sctpConn) LocalAddr() net.Addr              { return c.socket.packets.LocalAddr() }
func (c *sctpConn) RemoteAddr() net.Addr             { return &net.IPAddr{IP: c.peer.addr.AsSlice()} }
func (c *sctpConn) SetDeadline(time.Time) error      { return nil }
func (c *sctpConn) SetReadDeadline(time.Time) error  { return nil }
func (c *sctpConn) SetWriteDeadline(time.Time) error { return nil }
