package testnet

import (
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Wire reads and writes whole frames at an interface, past the namespace's IP stack (packet(7)).
type Wire struct {
	fd  int
	buf [65536]byte
	oob [64]byte
}

// Wire opens the interface for frames. It sees those that arrive, not those the host sends. The host's own stack sees them too.
func (d *Device) Wire() *Wire {
	d.NS.net.t.Helper()
	w := &Wire{fd: -1}
	err := d.NS.Do(func() (err error) {
		all := uint16(unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8) // network order, on little endian
		// Opened without a protocol, so that nothing is received from other interfaces before bind names one.
		if w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		unix.SetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20)
		if err := unix.SetsockoptInt(w.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(w.fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1); err != nil {
			return err
		}
		return unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: d.Index})
	})
	if err != nil {
		d.NS.net.t.Fatalf("%s/%s: packet socket: %v", d.NS.Name, d.Name, err)
	}
	d.NS.net.t.Cleanup(w.Close)
	return w
}

// Send puts a frame on the wire.
func (w *Wire) Send(frame []byte) error {
	_, err := unix.Write(w.fd, frame)
	if err != nil {
		return fmt.Errorf("send frame: %w", err)
	}
	return nil
}

// Recv returns the next frame that match takes (any, when nil); false when none came within the limit.
func (w *Wire) Recv(limit time.Duration, match func(frame []byte) bool) ([]byte, bool) {
	deadline := time.Now().Add(limit)
	for {
		left := time.Until(deadline)
		fds := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, max(0, int(left.Milliseconds())))
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return nil, false
		}
		frame, err := w.read()
		if err != nil {
			return nil, false
		}
		if match == nil || match(frame) {
			return frame, true
		}
	}
}

// read returns the next frame with its outermost VLAN tag put back where it was: the kernel takes it out of the frame before packet sockets
// see it (skb_vlan_untag in net/core/dev.c) and tells it aside, in a struct tpacket_auxdata.
func (w *Wire) read() ([]byte, error) {
	n, oobn, _, _, err := unix.Recvmsg(w.fd, w.buf[:], w.oob[:], 0)
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(w.oob[:oobn])
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		if m.Header.Level != unix.SOL_PACKET || m.Header.Type != unix.PACKET_AUXDATA || len(m.Data) < 20 {
			continue
		}
		status, tci, tpid := binary.NativeEndian.Uint32(m.Data), binary.NativeEndian.Uint16(m.Data[16:]), binary.NativeEndian.Uint16(m.Data[18:])
		if status&unix.TP_STATUS_VLAN_VALID != 0 && n >= 12 {
			frame := make([]byte, 0, n+4)
			frame = append(frame, w.buf[:12]...)
			frame = binary.BigEndian.AppendUint16(frame, tpid)
			frame = binary.BigEndian.AppendUint16(frame, tci)
			return append(frame, w.buf[12:n]...), nil
		}
	}
	return append([]byte(nil), w.buf[:n]...), nil
}

// Close closes the socket; it may be called twice.
func (w *Wire) Close() {
	if w.fd >= 0 {
		unix.Close(w.fd)
		w.fd = -1
	}
}
