package main

import (
	"net"

	"golang.org/x/sys/unix"

	"weir/dataplane"
	"weir/dataplane/afxdp"
)

// queues forwards through dataplane/afxdp.
type queues struct {
	config
	queues []*afxdp.Queue
	macs   []net.HardwareAddr
	polls  []unix.PollFd
	frames [dataplane.BatchSize]dataplane.Frame
}

func openQueues(c config, links []*net.Interface) (*queues, error) {
	f := &queues{config: c}
	for _, l := range links {
		q, err := afxdp.Open(l.Index, 0, afxdp.Options{KickAt: c.burst, Budget: c.burst})
		if err != nil {
			return nil, err
		}
		f.queues = append(f.queues, q)
		f.macs = append(f.macs, l.HardwareAddr)
		f.polls = append(f.polls, unix.PollFd{Fd: int32(q.FD()), Events: unix.POLLIN})
	}
	return f, nil
}

func (f *queues) socket(i int) int { return f.queues[i].FD() }

func (f *queues) fds() []unix.PollFd {
	for _, q := range f.queues {
		q.Kick()
	}
	return f.polls
}

func (f *queues) forward() (n int) {
	for i, in := range f.queues {
		o := len(f.queues) - 1 - i
		n += f.move(in, f.queues[o], f.macs[o])
	}
	for _, q := range f.queues {
		q.Flush()
	}
	return n
}

func (f *queues) move(in, out *afxdp.Queue, mac net.HardwareAddr) (sent int) {
	n := in.Recv(f.frames[:])
	for _, frame := range f.frames[:n] {
		f.address(frame.Packet(), mac)
		if in != out {
			to, ok := out.Alloc()
			if !ok {
				in.Drop(&frame)
				continue
			}
			to.End += copy(to.Buf[to.Off:], frame.Packet())
			in.Drop(&frame)
			frame = to
		}
		if out.Send(&frame) {
			sent++
		}
	}
	return sent
}
