package afxdp

import (
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// How often a kick calls sendto at most: enough for a ring of 2048 at the 32 frames a call of kernels without
// XDP_MAX_TX_SKB_BUDGET.
const maxCalls = 64

// atOnce is how many frames a sendto takes of kernels without XDP_MAX_TX_SKB_BUDGET (net/xdp/xsk.c, TX_BATCH_SIZE). Those kernels move the
// ring's consumer only when they have taken the last frame (net/xdp/xsk_queue.h, xskq_cons_peek_desc), so that what a call has taken is not
// seen before the ring is empty.
const atOnce = 32

// How often a queue that is down tries again.
const retryEvery = 10 * time.Millisecond

// kickIfDue kicks for many frames at once, and for few when they have waited for Options.Linger.
func (q *Queue) kickIfDue() {
	if len(q.pending) >= q.opt.KickAt || q.opt.Linger < 0 {
		q.Kick()
		return
	}
	now := time.Since(q.start)
	if q.waiting == 0 {
		q.waiting = now
	} else if now-q.waiting >= q.opt.Linger {
		q.Kick()
	}
}

// Kick hands all that waits to the kernel now, as far as it takes it. Poller.Wait does it before it blocks.
func (q *Queue) Kick() {
	q.waiting = 0
	if q.closed || q.down.Load() != 0 && !q.up() {
		return
	}
	unseen := 0 // frames that the calls since the consumer last moved may have taken
	for range maxCalls {
		room := q.xsk.NumFreeTxSlots()
		n := min(room, len(q.pending))
		if room == q.opt.Ring && n == 0 {
			break
		}
		err := q.transmit(n)
		if err != nil {
			q.fail(err)
			break
		}
		if q.xsk.NumFreeTxSlots() > room-n {
			unseen = 0
			q.complete()
			continue
		}
		// Not one frame gone: the device is full (EAGAIN), the next kick goes on.
		if unseen += atOnce; !q.late || unseen >= q.opt.Ring-room+n {
			break
		}
	}
	q.complete()
	q.unsent = q.xsk.NumFreeTxSlots() < q.opt.Ring || len(q.pending) > 0
}

// transmit puts the first n pending frames, for which there is room, into the transmit ring and calls sendto. Whatever sendto
// says, the frames are in the ring then: the library counts them before it calls, and the kernel takes them when it can.
func (q *Queue) transmit(n int) (err error) {
	for _, d := range q.pending[:n] {
		q.frames.place[d.Addr/uint64(q.opt.FrameSize)] = inSend
	}
	q.counters.kicks.Add(1)
	defer func() {
		q.pending = q.pending[:copy(q.pending, q.pending[n:])]
		if r := recover(); r != nil {
			err = sendtoError(r)
		}
	}()
	q.xsk.Transmit(q.pending[:n])
	return nil
}

// sendtoError turns the panic of the library's Transmit, which carries the errno as text, back into an error.
func sendtoError(r any) error {
	err, ok := r.(error)
	if !ok || !strings.HasPrefix(err.Error(), "sendto failed") {
		panic(r)
	}
	var rc uint64
	var errno unix.Errno
	if _, scan := fmt.Sscanf(err.Error(), "sendto failed with rc=%d and errno=%d", &rc, &errno); scan != nil {
		return err
	}
	return errno
}

// fail decides what an error of sendto means. Lack of memory passes; anything else is a link that is down (ENETDOWN: the interface
// is, ENXIO: it is gone; net/xdp/xsk.c, xsk_check_common) until sendto works again. What has not reached the ring is dropped then.
func (q *Queue) fail(err error) {
	if err == unix.ENOBUFS || err == unix.ENOMEM {
		return
	}
	errno, ok := err.(unix.Errno)
	if !ok {
		errno = unix.EIO
	}
	q.down.Store(int32(errno))
	q.retry = time.Since(q.start) + retryEvery
	q.counters.linkDown.Add(uint64(len(q.pending)))
	for _, d := range q.pending {
		q.frames.push(uint32(d.Addr / uint64(q.opt.FrameSize)))
	}
	q.pending = q.pending[:0]
}

// up tries, now and then, whether a queue that was down works again. What lay in the transmit ring goes out then.
func (q *Queue) up() bool {
	now := time.Since(q.start)
	if now < q.retry {
		return false
	}
	q.retry = now + retryEvery
	if err := q.transmit(0); err != nil {
		return false
	}
	q.down.Store(0)
	q.unsent = true
	return true
}

// Down returns why the queue can't transmit, nil when it can. It is learnt by transmitting, and unlearnt by itself.
func (q *Queue) Down() error {
	if errno := q.down.Load(); errno != 0 {
		return unix.Errno(errno)
	}
	return nil
}
