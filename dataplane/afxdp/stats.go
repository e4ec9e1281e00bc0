package afxdp

import (
	"fmt"
	"sync/atomic"
)

// counters are written by the queue's goroutine, none of them per packet that goes well.
type counters struct {
	noRoom, linkDown, foreign, kicks atomic.Uint64
}

// Stats counts what a queue has not received or not sent, since Open.
type Stats struct {
	RxDropped     uint64 // by the kernel, for want of a frame or because the packet was too long for one
	RxRingFull    uint64 // by the kernel, because the worker was behind
	FillRingEmpty uint64 // how often the kernel found no frame to receive into
	RxInvalid     uint64 // frames offered to receive into that the kernel refused: always 0
	TxInvalid     uint64 // frames to transmit that the kernel refused: always 0
	NoRoom        uint64 // dropped by Send, the transmit ring being full
	LinkDown      uint64 // dropped by Send, the link being down
	Foreign       uint64 // frames that were not the caller's to give, or the kernel's: always 0
	Kicks         uint64 // calls of sendto
}

// Stats may be called from any goroutine.
func (q *Queue) Stats() (Stats, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := Stats{
		NoRoom:   q.counters.noRoom.Load(),
		LinkDown: q.counters.linkDown.Load(),
		Foreign:  q.counters.foreign.Load(),
		Kicks:    q.counters.kicks.Load(),
	}
	if q.closed {
		return s, nil
	}
	lib, err := q.xsk.Stats()
	if err != nil {
		return s, fmt.Errorf("AF_XDP statistics: %w", err)
	}
	kernel := lib.KernelStats
	s.RxDropped = kernel.Rx_dropped
	s.RxRingFull = kernel.Rx_ring_full
	s.FillRingEmpty = kernel.Rx_fill_ring_empty_descs
	s.RxInvalid = kernel.Rx_invalid_descs
	s.TxInvalid = kernel.Tx_invalid_descs
	return s, nil
}
