package main

import (
	"context"
	"errors"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"weir/dataplane"
	"weir/dataplane/afxdp"
	"weir/dataplane/host"
)

// startWorkers starts W workers; worker w has the queues q of every interface with q mod W = w.
func (d *director) startWorkers(ctx context.Context) error {
	n := runtime.NumCPU()
	if len(d.config.cpus) > 0 {
		n = len(d.config.cpus)
	}
	for _, queues := range d.queues {
		n = min(n, len(queues))
	}
	injectors := make([]host.Injector, len(d.attachments))
	for i, a := range d.attachments {
		injectors[i] = a
	}
	var err error
	if d.host, err = host.New(injectors, n, host.Options{Rate: d.config.hostRate, MaxPacket: d.maxPacket(), Logger: d.log}); err != nil {
		return err
	}
	d.deferred(d.host.Close)
	// A worker keeps a thread, and while it spins, a scheduler slot of Go's; control and its timers need theirs too.
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), n+2))
	// Workers end before the queues they use.
	d.deferred(func() error {
		d.cancel()
		for _, p := range d.pollers {
			p.Wake()
		}
		d.wg.Wait()
		var errs []error
		for _, p := range d.pollers {
			errs = append(errs, p.Close())
		}
		return errors.Join(errs...)
	})
	for w := range n {
		var mine []dataplane.IfaceQueue
		var sockets []*afxdp.Queue
		for i, queues := range d.queues {
			for number := w; number < len(queues); number += n {
				mine = append(mine, dataplane.IfaceQueue{Iface: i, Queue: queues[number]})
				sockets = append(sockets, queues[number])
			}
		}
		poller, err := afxdp.NewPoller(sockets)
		if err != nil {
			return err
		}
		worker := dataplane.NewWorker(d.shared, w, n, mine, d.host.Sender(w))
		d.workers, d.pollers = append(d.workers, worker), append(d.pollers, poller)
		cpu := anyCPU
		if w < len(d.config.cpus) {
			cpu = d.config.cpus[w]
		}
		thread := d.load.worker(worker, cpu)
		d.wg.Go(func() {
			runtime.LockOSThread() // until the end of the goroutine, and of the thread with it
			if cpu != anyCPU {
				if err := pin(cpu); err != nil { // it was allowed when the command line was read
					d.fail(err)
				}
			}
			if err := prefer(); err != nil {
				d.log.Warn("the worker's thread has no higher priority than others: control work may be in its way", "error", err)
			}
			thread.Store(int32(unix.Gettid()))
			work(ctx, worker, poller)
		})
	}
	return nil
}

// anyCPU is where a worker runs that is not pinned: wherever the kernel puts it.
const anyCPU = -1

// preference is how much nicer other threads are than a worker: three steps are about twice the share of a CPU that both want (sched(7)). What waits
// for a worker is a ring of 2,048 packets, 20 ms at 100,000 a second; with many changes a second and fewer CPUs than threads that work on them, a
// worker like any other came too late for it. Ten steps were too many where clients and servers share the CPUs: a worker that comes at once finds fewer
// packets each time (wrk, 64 connections: 0.8 to 1.0 of a bare wire's requests, beside 1.1 without preference).
const preference = 3

// prefer has the kernel run this thread before others that want the same CPU.
func prefer() error {
	const lowest = 20 // the system call returns 20 minus the nice value, getpriority(2)
	now, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return err
	}
	return unix.Setpriority(unix.PRIO_PROCESS, 0, max(-20, lowest-now-preference))
}

const (
	// spinTurns is how many turns without a packet a worker makes before it blocks: some microseconds, about what being woken
	// costs. With 64 and the generator on the same CPU, weir forwarded 5 % less than with 4.
	spinTurns = 8
	// napTime bounds how long it blocks, so that connections end within a second of their time.
	napTime = 250 * time.Millisecond
	// yieldTurns is how many turns with packets a worker makes before it tells Go's scheduler that it is alive. A goroutine that has run
	// for 10 ms without that has its processor taken away in the next sendto, and gets it back in a slow path (runtime/proc.go, retake
	// and exitsyscall): 9 % of the CPU time per packet at full load (AMD EPYC, 2 CPUs, Linux 6.18, 2026-11-22). But a yield costs a goroutine
	// that keeps its thread six futex calls and as many switches of threads, since Go passes it to another thread and back:
	// counting turns without packets as well, which is one yield for each time it is woken, took the director's threads from 670 to
	// 734 ns a packet (NAT, 65,536 flows, all on one CPU; medians of 15 runs, 2026-11-23).
	yieldTurns = 16
)

// work is a worker's life. An idle one sleeps in poll and uses no CPU.
func work(ctx context.Context, w *dataplane.Worker, p *afxdp.Poller) {
	idle, busy := 0, 0
	for ctx.Err() == nil {
		taken, done := w.Turn()
		switch {
		case taken > 0:
			idle = 0
			if busy++; busy%yieldTurns == 0 {
				runtime.Gosched()
			}
		case idle < spinTurns || !done:
			idle++
		default:
			p.Wait(napTime)
		}
	}
	p.Wait(0) // hands over what was sent last
}
