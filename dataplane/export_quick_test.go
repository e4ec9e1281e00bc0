package dataplane

// TurnInFull is Turn with every packet taken the long way, for tests to hold the quick one against.
func (w *Worker) TurnInFull() {
	t := w.shared.table.Load()
	w.now = w.shared.clock()
	for i := range w.queues {
		in := &w.queues[i]
		for n := in.Queue.Recv(w.frames[:1]); n > 0; n = in.Queue.Recv(w.frames[:1]) {
			l, f := &w.looks[0], &w.frames[0]
			l.why = l.packet.Parse(f.Buf, f.Off, f.End)
			w.hashes[0], w.places[0] = w.shared.conns.Hash(&l.packet.Flow), 0
			w.handle(t, in, f, 0)
		}
		in.Queue.Flush()
	}
	w.meters.show()
	w.public.show(&w.count)
}
