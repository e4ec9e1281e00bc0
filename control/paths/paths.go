// Package paths says how a server is reached: out of which interface, to which MAC address, from which source. It knows
// nothing of its own; the kernel's routes and neighbours decide, and a Watcher follows them as they change.
//
//	w, err := paths.New(paths.Options{Interfaces: given})
//	go w.Run(ctx)
//	p := w.Watch(addr)
//	for range w.Changes() {
//		servers, own := w.Take()
//		// w.Get each of the servers, build a table, publish it; own: w.OwnAddresses() differ
//	}
//
// weir's packets do not pass the kernel's neighbour code, so the kernel would neither resolve a server's MAC address nor
// find out that it changed. The Watcher therefore asks it to, for as long as the server is watched (see neighbour.go).
package paths

import (
	"errors"

	"weir/lb"
)

// State tells what a Path is good for.
type State uint8

const (
	// Unresolved: there is a route, but the next hop's MAC address is not known now. The kernel is being asked for it.
	Unresolved State = iota
	// Resolved: frames can be sent.
	Resolved
	// Local: the server is this host; its packets go to the kernel as they are.
	Local
	// Refused: no route, or one that weir cannot use. Someone has to change something; Reason says what.
	Refused
)

func (s State) String() string {
	switch s {
	case Unresolved:
		return "unresolved"
	case Resolved:
		return "resolved"
	case Local:
		return "local"
	}
	return "refused"
}

// Path is how one server is reached. Two Paths that send the same packet the same way are equal (==).
type Path struct {
	State  State
	Iface  int      // index of the interface frames leave through, one of those given to weir; lo's when Local
	DstMAC [6]byte  // the next hop's; zero unless Resolved
	SrcMAC [6]byte  // the interface's own (a bond's, on its members)
	VLANs  lb.VLANs // the tags of its frames
	MTU    int      // bytes of IP packet that fit: the route's where it is smaller than the device's

	Source  lb.Addr // the address the kernel would send from: the outer source of TUN
	Gateway lb.Addr // the next hop; zero when the server is on link

	// Reason is why the path is Unresolved or Refused, for people.
	Reason string
}

// Usable reports whether packets can be brought to the server.
func (p Path) Usable() bool { return p.State == Resolved || p.State == Local }

// Err returns the Reason of a Refused path, nil for every other: an unresolved next hop is an event of the network,
// a refused path a mistake in someone's configuration.
func (p Path) Err() error {
	if p.State != Refused {
		return nil
	}
	return errors.New(p.Reason)
}
