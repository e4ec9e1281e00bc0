package dataplane

// TurnInFull is Turn with every packet taken the long way, for tests to hold the quick one against.
func (w *Worker) TurnInFull() {
	t := w.shared.table.Load()
	w.now = w.shared.clock()
	for i := range w.queues {
		in := &w.queues[i]
		for n := in.Queue.Recv(w.frames[:1]); n > 0; n = in.Queue.Recv(w.frames[:1]) {
			f := &w.frames[0]
			w.hashes[0], w.places[0] = w.shared.conns.Hash(&w.parse(f, 0).packet.Flow), 0
			w.handle(t, in, f, 0)
		}
	}
	for i := range w.queues {
		w.queues[i].Queue.Flush()
	}
	w.meters.show()
	w.public.show(&w.count)
}
