package dataplane

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// turns counts the beginnings and ends of a worker's turns: the number is odd while one is under way.
type turns struct {
	n atomic.Uint64
	_ [56]byte // control reads it while the worker's other memory is in use
}

// begin must come before the turn loads the table: then whoever publishes a table and finds an even number knows that the
// worker's next turn has that table (sync/atomic's operations have one order for all).
func (t *turns) begin() { t.n.Store(t.n.Load() + 1) }
func (t *turns) end()   { t.n.Store(t.n.Load() + 1) }

// turning is the list of all workers' turns.
type turning struct {
	mu  sync.Mutex
	all []*turns
}

func (t *turning) join(w *turns) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = append(t.all, w)
}

// Settle waits until no worker is in a turn that began before the call: from then on no packet is handled by a table older than
// the one published last. A worker that sleeps has nothing to handle and begins its next turn with that table, so it is not
// waited for. A turn is a few hundred packets long; an error, when ctx ends first, names the worker that hangs.
func (s *Shared) Settle(ctx context.Context) error {
	s.turning.mu.Lock()
	all := s.turning.all
	s.turning.mu.Unlock()
	for i, t := range all {
		at := t.n.Load()
		for tries := 0; at%2 == 1 && t.n.Load() == at; tries++ {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("worker %d is still in a turn with the table before: %w", i, err)
			}
			if tries < 10 {
				runtime.Gosched()
			} else {
				time.Sleep(20 * time.Microsecond)
			}
		}
	}
	return nil
}
