package main

import (
	"fmt"
	"net"
	"time"

	"github.com/asavie/xdp"
	"golang.org/x/sys/unix"
)

const (
	maxBurst = 1024
	linger   = 3 * time.Microsecond
)

// arm is one interface on the plain library.
type arm struct {
	*xdp.Socket
	mac   net.HardwareAddr
	since time.Time // when packets were first seen to wait for a full burst; zero: none do
}

// sockets forwards from each arm to the next, or back where there is one arm.
type sockets struct {
	config
	arms  []*arm
	polls []unix.PollFd
}

func openSockets(c config, links []*net.Interface) (*sockets, error) {
	s := &sockets{config: c}
	options := xdp.DefaultSocketOptions
	if c.burst > 0 {
		options = xdp.SocketOptions{
			NumFrames: 4096, FrameSize: 2048,
			FillRingNumDescs: 2048, CompletionRingNumDescs: 2048, RxRingNumDescs: 2048, TxRingNumDescs: 2048,
		}
	}
	for _, l := range links {
		xsk, err := xdp.NewSocket(l.Index, 0, &options)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.Name, err)
		}
		if c.burst > 0 {
			// ENOPROTOOPT on kernels that send 32 frames per call.
			_ = unix.SetsockoptInt(xsk.FD(), unix.SOL_XDP, unix.XDP_MAX_TX_SKB_BUDGET, max(c.burst, 32))
			_ = unix.SetsockoptInt(xsk.FD(), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 8<<20)
		}
		a := &arm{Socket: xsk, mac: l.HardwareAddr}
		a.refill()
		s.arms = append(s.arms, a)
		s.polls = append(s.polls, unix.PollFd{Fd: int32(xsk.FD()), Events: unix.POLLIN})
	}
	return s, nil
}

func (s *sockets) socket(i int) int { return s.arms[i].FD() }

func (s *sockets) fds() []unix.PollFd { return s.polls }

func (s *sockets) forward() (n int) {
	for i, in := range s.arms {
		n += s.move(in, s.arms[len(s.arms)-1-i])
	}
	return n
}

func (s *sockets) move(in, out *arm) int {
	waiting := in.NumReceived()
	if waiting == 0 || waiting < s.burst && in.lingers() {
		return 0
	}
	in.since = time.Time{}
	if s.burst > 0 {
		waiting = min(waiting, maxBurst)
	}
	descs := in.Receive(waiting)
	n := len(descs)
	for _, d := range descs {
		s.address(in.GetFrame(d), out.mac)
	}
	out.Complete(out.NumCompleted())
	if in == out {
		out.Transmit(descs)
		in.refill()
		return n
	}
	free := out.GetDescs(min(n, out.NumFreeTxSlots()))
	for i := range free {
		free[i].Len = uint32(copy(out.GetFrame(free[i]), in.GetFrame(descs[i])))
	}
	out.Transmit(free)
	in.refill()
	return len(free)
}

// lingers reports whether the packets that wait may wait a little longer.
func (a *arm) lingers() bool {
	if a.since.IsZero() {
		a.since = time.Now()
	}
	return time.Since(a.since) < linger
}

// refill leaves half of the frames to transmit.
func (a *arm) refill() {
	if n := a.NumFreeFillSlots(); n > 0 {
		a.Fill(a.GetDescs(n))
	}
}
