package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"weir/internal/testnet"
)

// Ports of servers that only these tests have.
const (
	bulkPort = 9001 // both sides send and compare a stream
	echoPort = 9007 // every datagram comes back as it is
	linePort = 9002 // every byte comes back, for as long as the connection lasts
)

// stream returns n random bytes, different for each direction and each seed.
func stream(seed byte, n int64) io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{seed}), n) }

// compare reads r to its end and compares it, byte for byte, with want.
func compare(r, want io.Reader) error {
	a, b := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); ; {
		n, err := r.Read(a)
		if _, short := io.ReadFull(want, b[:n]); short != nil {
			return fmt.Errorf("more than the %d bytes that were sent", at)
		}
		if !bytes.Equal(a[:n], b[:n]) {
			i := 0
			for a[i] == b[i] {
				i++
			}
			return fmt.Errorf("byte %d is not what was sent", at+int64(i))
		}
		at += int64(n)
		if err == io.EOF {
			if rest, _ := io.Copy(io.Discard, want); rest > 0 {
				return fmt.Errorf("ended after %d bytes, %d early", at, rest)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("after %d bytes: %w", at, err)
		}
	}
}

// exchange sends one stream and receives the other, at the same time.
func exchange(c net.Conn, out, in byte, n int64) error {
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(c, stream(out, n))
		sent <- errors.Join(err, c.(*net.TCPConn).CloseWrite())
	}()
	return errors.Join(compare(c, stream(in, n)), <-sent)
}

// serveBulk makes every server exchange streams with its clients; what goes wrong there arrives in the channel.
func serveBulk(t *testing.T, d *director, n int64) <-chan error {
	results := make(chan error, 1000)
	for _, host := range d.Servers {
		accept(t, host, bulkPort, func(c net.Conn) {
			c.SetDeadline(time.Now().Add(time.Minute))
			if err := exchange(c, 'S', 'C', n); err != nil {
				results <- fmt.Errorf("%s: %w", host.Role, err)
			} else {
				results <- nil
			}
		})
	}
	return results
}

// serveLines makes every server give back every byte.
func serveLines(t *testing.T, d *director) {
	for _, host := range d.Servers {
		accept(t, host, linePort, func(c net.Conn) { io.Copy(c, c) })
	}
}

// accept serves TCP connections to a port of any of the host's addresses until the test ends.
func accept(t *testing.T, host *testnet.Host, port int, serve func(net.Conn)) {
	l, err := host.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
}

// serveEchoes makes every server give back every datagram as it is, from the address it was sent to.
func serveEchoes(t *testing.T, d *director, more ...netip.Addr) {
	for _, host := range d.Servers {
		for _, a := range slices.Concat([]netip.Addr{host.IP, host.IP6}, d.vipList(), more) {
			c, err := host.ListenPacket("udp", netip.AddrPortFrom(a, echoPort).String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			go echo(c)
		}
	}
}

// echo gives every datagram back until c is closed.
func echo(c net.PacketConn) {
	b := make([]byte, 64<<10)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		c.WriteTo(b[:n], from)
	}
}
