package sched

// calendar tells whose turn it is. The gaps between a server's turns grow as its walk goes on, by what an exponential distribution
// has between its ordered values: then it is the first at a slot with a chance in proportion to its weight.
type calendar struct {
	walks  []slotWalk
	room   []int32 // slots that the server may still take
	gaps   []int64 // rounds between the first two turns of a server, times roundParts: 1 for the heaviest
	steps  []int64 // that the server's walk has gone
	times  []int64 // of the server's next turn, in the same unit
	days   []int32 // first server of a round, the rounds modulo len(days)
	behind []int32 // the next server of the same round
	round  int64
}

const (
	calendarDays = 1 << 16
	roundParts   = 1 << 16
	longestGap   = (calendarDays - 1) * roundParts // a round is at most once in the calendar
)

func newCalendar(servers []*Server) *calendar {
	n := len(servers)
	c := &calendar{
		walks: make([]slotWalk, n), room: make([]int32, n), gaps: make([]int64, n), steps: make([]int64, n), times: make([]int64, n),
		days: make([]int32, calendarDays), behind: make([]int32, n),
	}
	for i := range c.days {
		c.days[i] = none
	}
	largest, total := int64(0), int64(0)
	for _, s := range servers {
		largest = max(largest, int64(s.Weight))
		total += int64(s.Weight)
	}
	for i, s := range servers {
		place, step := maglevHash(s, maglevPlaceKey), maglevHash(s, maglevStepKey)
		c.walks[i] = slotWalk{at: uint32(place % maglevSize), step: uint32(step%(maglevSize-1) + 1)}
		c.room[i] = int32(maglevSize*maglevMost*int64(s.Weight)/(100*total)) + 1
		c.gaps[i] = min(largest*roundParts/int64(s.Weight), longestGap)
	}
	for i := range int32(n) {
		c.again(i)
	}
	return c
}

// next takes out the server whose turn it is. There must be one.
func (c *calendar) next() int32 {
	for {
		day := &c.days[c.round%calendarDays]
		if i := *day; i != none {
			*day = c.behind[i]
			return i
		}
		c.round++
	}
}

// again enters the server for its next turn.
func (c *calendar) again(i int32) {
	gap := c.gaps[i] * maglevSize / (maglevSize - c.steps[i])
	c.steps[i]++
	c.times[i] += min(gap, longestGap)
	day := &c.days[c.times[i]/roundParts%calendarDays]
	c.behind[i] = *day
	*day = i
}
