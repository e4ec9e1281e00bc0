package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

const (
	// MaxInject is the longest frame that Inject takes, in bytes.
	MaxInject = len(injectSlot{}.Packet)
	// InjectBatch is the most frames that one call of Inject takes.
	InjectBatch = 64
)

// injector is inject.c and the memory it takes packets from, shared by all interfaces.
type injector struct {
	mark []byte // struct reentry of steer.h

	mu      sync.Mutex // held for a whole run
	objects injectObjects
	slots   *ebpf.Memory
}

func newInjector(secret uint64) (*injector, error) {
	spec, err := loadInject()
	if err != nil {
		return nil, err
	}
	if err := spec.Variables[injectVarReentrySecret].Set(secret); err != nil {
		return nil, fmt.Errorf("inject: %w", err)
	}
	spec.Maps[injectMapSlots].MaxEntries = InjectBatch
	in := &injector{mark: reentryMark(secret)}
	if err := spec.LoadAndAssign(&in.objects, nil); err != nil {
		return nil, fmt.Errorf("load inject: %w", explain(err))
	}
	if in.slots, err = in.objects.Slots.Memory(); err != nil {
		in.objects.Close()
		return nil, fmt.Errorf("inject: map its slots: %w", err)
	}
	return in, nil
}

func reentryMark(secret uint64) []byte {
	return binary.NativeEndian.AppendUint64(append(make([]byte, 12), 0x88, 0xb5), secret)
}

// Inject gives frames, InjectBatch at most, to the kernel as if this interface had just received them: with their MAC header and
// VLAN tags, and without meeting steer again. It returns how many it gave. The calling thread must be in the interface's network
// namespace. A frame shorter than an Ethernet header or longer than MaxInject is left out.
//
// It needs Linux 5.18 (BPF_F_TEST_XDP_LIVE_FRAMES). A call costs 15 us and each frame in it 0.35 us more, what the stack does with
// it not counted (BenchmarkInject; Linux 6.18, 2 cores, November 2026). Until the stack lets go of a frame it occupies a page; when
// a local socket leaves one unread for a minute, the kernel says so in its log every minute (net/core/page_pool.c,
// page_pool_release_retry, "stalled pool shutdown") and does nothing else.
func (a *Attachment) Inject(frames [][]byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.link == nil {
		return 0, fmt.Errorf("inject into %s: steer is not attached to it any more", a.iface.Name)
	}
	n, err := a.steer.injector.run(a, frames)
	if err != nil {
		return 0, fmt.Errorf("inject into %s: %w", a.iface.Name, explain(err))
	}
	return n, nil
}

func (in *injector) run(a *Attachment, frames [][]byte) (int, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	n, err := in.fill(frames)
	if n == 0 || err != nil {
		return 0, err
	}
	var reenter uint32
	if a.Mode == Generic {
		reenter = 1
	}
	if err := errors.Join(in.objects.Reenter.Set(reenter), in.objects.Next.Set(uint32(0))); err != nil {
		return 0, err
	}
	// BatchSize not less than Repeat: then a signal, of which Go's scheduler sends many, cannot end the run half-way
	// (net/bpf/test_run.c, bpf_test_timer_continue looks for one between batches).
	_, err = a.objects.Steer.Run(&ebpf.RunOptions{
		Data:      in.mark,
		Context:   xdpMD{DataEnd: uint32(len(in.mark)), IngressIfindex: uint32(a.iface.Index)},
		Repeat:    uint32(n),
		BatchSize: InjectBatch,
		Flags:     unix.BPF_F_TEST_XDP_LIVE_FRAMES,
	})
	return n, err
}

// fill writes the frames where inject takes them from.
func (in *injector) fill(frames [][]byte) (n int, err error) {
	var length [4]byte
	for _, f := range frames {
		if n == InjectBatch {
			break
		}
		if len(f) < 14 || len(f) > MaxInject {
			continue
		}
		at := int64(n) * int64((len(length)+MaxInject+7)&^7) // array maps round their values up to 8 bytes (kernel/bpf/arraymap.c)
		binary.NativeEndian.PutUint32(length[:], uint32(len(f)))
		if _, err = in.slots.WriteAt(length[:], at); err != nil {
			return 0, err
		}
		if _, err = in.slots.WriteAt(f, at+int64(len(length))); err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

func (in *injector) Close() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.objects.Close()
}

// xdpMD is struct xdp_md of include/uapi/linux/bpf.h.
type xdpMD struct {
	Data, DataEnd, DataMeta                     uint32
	IngressIfindex, RxQueueIndex, EgressIfindex uint32
}
