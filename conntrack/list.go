package conntrack

// Range calls yield with connections from entry number from on (0 at first), templates included, until max entries have been looked at
// or yield returns false. It returns where to go on, 0 at the end. A connection that lives through all the calls is shown
// once; one that comes or goes meanwhile may be shown or not. c is yield's only until it returns.
func (t *Table) Range(from uint32, max int, yield func(ref Ref, c *Conn) bool) (next uint32) {
	end := t.pool.fresh.Load()
	var c Conn
	for n := from; n < end; n++ {
		if max--; max < 0 {
			return n
		}
		if t.mem.due[n].Load() == 0 {
			continue
		}
		if ref := t.load(n, &c); ref != 0 && !yield(ref, &c) {
			return n + 1
		}
	}
	return 0
}

// Stats is what a table has seen since New.
type Stats struct {
	Capacity int
	Used     int    // connections and templates now
	Opened   uint64 // inserted ones, and how they ended:
	Expired  uint64 // by their timeout
	Deleted  uint64 // by Delete
	Evicted  uint64 // half-open ones that made room in a full table
	Shed     uint64 // half-open ones that Table.Shed gave up
	Expelled uint64 // with their server

	// Refused is Inserts by Result, OK left out.
	Refused [results]uint64
}

// Stats adds up the table's counters. It takes each of the table's locks for a moment.
func (t *Table) Stats() Stats {
	s := Stats{Capacity: t.capacity}
	for i := range t.stripes {
		p := &t.stripes[i]
		p.Lock()
		s.Opened += p.opened
		s.Expired += p.ended[onTime]
		s.Deleted += p.ended[onDelete]
		s.Evicted += p.ended[onPressure]
		s.Shed += p.ended[onShed]
		s.Expelled += p.ended[onExpel]
		p.Unlock()
	}
	s.Used = int(s.Opened - s.Expired - s.Deleted - s.Evicted - s.Shed - s.Expelled)
	for i := range s.Refused {
		s.Refused[i] = t.refused[i].Load()
	}
	return s
}
