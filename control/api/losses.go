package api

// Loss is packets lost between an interface and weir, for one cause.
type Loss struct {
	Packets uint64
	Help    string // what they are and what may be done, as half a sentence
}

// Losses lists every cause, in the same order each time, with how many packets were lost since the start.
func (f *Interface) Losses() []Loss {
	return []Loss{
		{f.RxDropped, "received packets dropped by the kernel for want of a frame or for their length: more queues and workers, or a smaller MTU"},
		{f.RxRingFull, "received packets dropped because a worker was behind: more queues and workers"},
		{f.TxInvalid, "frames refused by the kernel on transmission: please report it, with the driver's name"},
		{f.NoRoom, "packets dropped because the link transmits more slowly than they come"},
		{f.LinkDown, "packets dropped because the link was down"},
	}
}
