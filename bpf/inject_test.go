package bpf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weir/internal/testpkt"
	"weir/lb"
)

// Frames that steer would redirect are given back, and a packet socket on the interface, which sees what the stack sees, must find
// them there as they were.
func TestInjectedFramesReachTheStack(t *testing.T) {
	for _, mode := range []XDPMode{Native, Generic} {
		t.Run(mode.String(), func(t *testing.T) {
			s := load(t, Options{})
			must(t, s.AddService(lb.UDP, lb.AddrFrom(vip), 53))
			near, a, sniffer := sniffed(t, s, mode)
			_, _, other := sniffed(t, s, mode)
			before := counters(t, s)

			datagram := testpkt.UDP(at(client, 7), at(vip, 53)).To(near.Attrs().HardwareAddr)
			var sent [][]byte
			for size := 60; size <= 1514; size += 97 {
				sent = append(sent, datagram.Size(size).Bytes())
			}
			sent = append(sent, datagram.Bytes(), datagram.Size(MaxInject).Bytes())
			for _, frames := range [][][]byte{sent[:1], sent[1:]} {
				if n, err := a.Inject(frames); n != len(frames) || err != nil {
					t.Fatalf("%d of %d frames were taken (%v)", n, len(frames), err)
				}
			}
			for i, want := range sent {
				if got, _ := receive(t, sniffer); !bytes.Equal(got, want) {
					t.Fatalf("frame %d is\n%x, want\n%x", i, got, want)
				}
			}
			if n, err := unix.Poll([]unix.PollFd{{Fd: int32(other), Events: unix.POLLIN}}, 0); n != 0 || err != nil {
				t.Errorf("something came to the other interface (%v)", err)
			}

			want := ""
			if mode == Generic {
				want = fmt.Sprintf("pass_reentry by %d", len(sent))
			}
			if got := difference(before, counters(t, s)); got != want {
				t.Errorf("steer counted %q, want %q", got, want)
			}
		})
	}
}

func TestInjectedVLANTagsAreTheKernels(t *testing.T) {
	for _, mode := range []XDPMode{Native, Generic} {
		t.Run(mode.String(), func(t *testing.T) {
			s := load(t, Options{})
			near, a, sniffer := sniffed(t, s, mode)
			datagram := testpkt.UDP(at(client, 7), at(vip, 53)).To(near.Attrs().HardwareAddr).Text("hello")
			_, err := a.Inject([][]byte{datagram.VLAN(7).Bytes()})
			must(t, err)
			got, tag := receive(t, sniffer)
			if !bytes.Equal(got, datagram.Bytes()) || tag != 7 {
				t.Errorf("the stack got tag %d on\n%x, want tag 7 on\n%x", tag, got, datagram.Bytes())
			}
		})
	}
}

func TestInjectLeavesOutWhatIsNoFrame(t *testing.T) {
	s := load(t, Options{})
	near, a, sniffer := sniffed(t, s, Native)
	good := testpkt.UDP(at(client, 7), at(vip, 53)).To(near.Attrs().HardwareAddr).Bytes()
	n, err := a.Inject([][]byte{nil, good[:13], make([]byte, MaxInject+1), good})
	if n != 1 || err != nil {
		t.Errorf("%d frames taken (%v), want the last alone", n, err)
	}
	if got, _ := receive(t, sniffer); !bytes.Equal(got, good) {
		t.Errorf("the stack got\n%x, want\n%x", got, good)
	}
	many := make([][]byte, InjectBatch+1)
	for i := range many {
		many[i] = good
	}
	if n, err := a.Inject(many); n != InjectBatch || err != nil {
		t.Errorf("%d frames taken of %d (%v), want %d", n, len(many), err, InjectBatch)
	}

	must(t, a.Close())
	if _, err := a.Inject([][]byte{good}); err == nil {
		t.Error("a frame was taken for an interface that steer has left")
	}
	must(t, s.Close())
	if _, err := a.Inject([][]byte{good}); err == nil {
		t.Error("a frame was taken after Close")
	}
}

// sniffed returns a veth with steer on it, and a packet socket that sees what the stack receives there.
func sniffed(t *testing.T, s *Steer, mode XDPMode) (netlink.Link, *Attachment, int) {
	t.Helper()
	near, _ := newVeth(t, 1)
	a, err := s.Attach(near.Attrs().Index, 1, near.Attrs().HardwareAddr, mode)
	must(t, err)
	t.Cleanup(func() { a.Close() })
	must(t, a.SetSocket(0, xdpSocket(t)))

	all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	must(t, unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1))
	must(t, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: near.Attrs().Index}))
	return near, a, fd
}

// receive returns the next frame and the VLAN tag that the kernel has taken off it; 0 is none.
func receive(t *testing.T, fd int) (frame []byte, vlan uint16) {
	t.Helper()
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for deadline := time.Now().Add(5 * time.Second); ; {
		n, err := unix.Poll(poll, int(time.Until(deadline).Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if must(t, err); n == 0 {
			t.Fatal("no frame arrived in 5 s")
		}
		break
	}
	frame, oob := make([]byte, 4096), make([]byte, 256)
	n, oobn, _, _, err := unix.Recvmsg(fd, frame, oob, 0)
	must(t, err)
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	must(t, err)
	for _, m := range messages {
		// struct tpacket_auxdata: status, len, snaplen, mac, net, vlan_tci (include/uapi/linux/if_packet.h).
		if m.Header.Type == unix.PACKET_AUXDATA && binary.NativeEndian.Uint32(m.Data)&unix.TP_STATUS_VLAN_VALID != 0 {
			vlan = binary.NativeEndian.Uint16(m.Data[16:])
		}
	}
	return frame[:n], vlan
}

func BenchmarkInject(b *testing.B) {
	for _, mode := range []XDPMode{Native, Generic} {
		for _, batch := range []int{1, 8, InjectBatch} {
			b.Run(fmt.Sprintf("%s/batch=%d", mode, batch), func(b *testing.B) {
				s, err := Load(Options{})
				if err != nil {
					b.Fatal(err)
				}
				defer s.Close()
				veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "bench"}, PeerName: "benchp"}
				if err := netlink.LinkAdd(veth); err != nil {
					b.Fatal(err)
				}
				defer netlink.LinkDel(veth)
				a, err := s.Attach(veth.Attrs().Index, 1, testpkt.DirectorMAC, mode)
				if err != nil {
					b.Fatal(err)
				}
				frames := make([][]byte, batch)
				for i := range frames { // to nobody: the stack drops it at once
					frames[i] = testpkt.UDP(netip.AddrPortFrom(client, 7), netip.AddrPortFrom(vip, 53)).Size(64).Bytes()
				}
				for n := 0; n < b.N; n += batch {
					if _, err := a.Inject(frames); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
