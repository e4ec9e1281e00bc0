package dataplane

import (
	"context"
	"errors"
	"testing"
	"time"

	"weir/conntrack"
)

// stuck is a queue whose Recv waits to be let go.
type stuck struct {
	Queue
	entered, leave chan struct{}
}

func (q *stuck) Recv([]Frame) int {
	q.entered <- struct{}{}
	<-q.leave
	return 0
}
func (q *stuck) Flush() {}

func TestSettleWaitsForTheTurnUnderWay(t *testing.T) {
	conns, err := conntrack.New(conntrack.Options{Capacity: 16})
	if err != nil {
		t.Fatal(err)
	}
	defer conns.Close()
	s := NewShared(conns, nil)
	q := &stuck{entered: make(chan struct{}), leave: make(chan struct{})}
	w := NewWorker(s, 0, 1, []IfaceQueue{{Queue: q}}, nil)
	if err := s.Settle(t.Context()); err != nil {
		t.Fatalf("a worker that sleeps: %v", err)
	}
	go w.Turn()
	<-q.entered
	short, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if err := s.Settle(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a worker in its turn: %v, want to have waited in vain", err)
	}
	settled := make(chan error)
	go func() { settled <- s.Settle(t.Context()) }()
	q.leave <- struct{}{}
	if err := <-settled; err != nil {
		t.Errorf("after the turn: %v", err)
	}
}
