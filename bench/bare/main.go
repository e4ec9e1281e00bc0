// Bare is the forwarder that weir's benchmarks on AF_XDP are measured against: it does with a packet only what any director must,
// receive it, set its MAC addresses and transmit it, on the same library. With one interface packets go back out of it, with two they
// are copied from the UMEM of one to the other's, in both directions.
//
//	bare --interface client0 --interface server0 --dst-mac 02:00:00:00:00:10            the library as it comes
//	bare --interface client0 --interface server0 --dst-mac 02:00:00:00:00:10 --burst 256
//	bare --interface client0 --interface server0 --wire --burst 256                       a cable, for TCP
//
// It serves queue 0, until SIGINT or SIGTERM; then it prints how many packets it has forwarded.
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/asavie/xdp"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

type config struct {
	interfaces []string
	dst        net.HardwareAddr
	wire       bool
	burst      int
	queue      bool
}

func main() {
	c, err := parse(os.Args[1:])
	if errors.Is(err, pflag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bare:", err)
		os.Exit(2)
	}
	if err := run(c); err != nil {
		fmt.Fprintln(os.Stderr, "bare:", err)
		os.Exit(1)
	}
}

func parse(args []string) (c config, err error) {
	flags := pflag.NewFlagSet("bare", pflag.ContinueOnError)
	flags.StringArrayVar(&c.interfaces, "interface", nil, "interface to forward on (give it twice for two)")
	dst := flags.String("dst-mac", "", "destination `MAC` of all that is forwarded (default: the two MACs are swapped)")
	flags.BoolVar(&c.wire, "wire", false, "leave MAC addresses as they are: what is on the two interfaces is as if joined by a cable")
	flags.IntVar(&c.burst, "burst", 0, "let that many packets gather, for some microseconds, and raise the kernel's transmit budget;\n"+
		"0: forward each batch as it is received, with the library's default options")
	flags.BoolVar(&c.queue, "queue", false, "forward through weir's own queue (dataplane/afxdp) instead of the plain library")
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	if n := len(c.interfaces); n != 1 && n != 2 || flags.NArg() > 0 {
		return c, errors.New("one or two --interface and no other arguments are allowed")
	}
	if c.burst < 0 || c.burst > maxBurst {
		return c, fmt.Errorf("--burst %d: allowed are 0 to %d", c.burst, maxBurst)
	}
	if *dst != "" {
		if c.dst, err = net.ParseMAC(*dst); err != nil || len(c.dst) != 6 {
			return c, fmt.Errorf("--dst-mac %s: not a MAC address", *dst)
		}
	}
	return c, nil
}

// forwarder moves what has arrived on one interface, and returns how many packets.
type forwarder interface {
	// forward never blocks.
	forward() int
	// fds are what to wait for when nothing is to be done.
	fds() []unix.PollFd
	socket(i int) int
}

func run(c config) error {
	var links []*net.Interface
	for _, name := range c.interfaces {
		l, err := net.InterfaceByName(name)
		if err != nil {
			return fmt.Errorf("--interface %s: %w", name, err)
		}
		links = append(links, l)
	}
	f, err := open(c, links)
	if err != nil {
		return err
	}
	for i, l := range links {
		program, err := xdp.NewProgram(1)
		if err != nil {
			return err
		}
		defer program.Close()
		if err := program.Attach(l.Index); err != nil {
			return fmt.Errorf("attach to %s: %w", l.Name, err)
		}
		defer program.Detach(l.Index)
		if err := program.Register(0, f.socket(i)); err != nil {
			return err
		}
	}
	var stop atomic.Bool
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-signals
		stop.Store(true)
	}()
	fmt.Println("forwarding")
	packets, last := uint64(0), time.Now()
	for !stop.Load() {
		n := f.forward()
		packets += uint64(n)
		switch {
		case n > 0:
			last = time.Now()
		case c.burst == 0 || time.Since(last) > time.Millisecond: // as the library's example; else after spinning a little
			_, _ = unix.Poll(f.fds(), 100)
		}
	}
	fmt.Printf("forwarded %d packets\n", packets)
	return nil
}

func open(c config, links []*net.Interface) (forwarder, error) {
	if c.queue {
		return openQueues(c, links)
	}
	return openSockets(c, links)
}

// address sets the MAC addresses of a packet that leaves by an interface with address src.
func (c *config) address(packet []byte, src net.HardwareAddr) {
	if len(packet) < 14 || c.wire {
		return
	}
	if c.dst != nil {
		copy(packet[0:6], c.dst)
		copy(packet[6:12], src)
		return
	}
	var dst [6]byte
	copy(dst[:], packet[6:12])
	copy(packet[6:12], packet[0:6])
	copy(packet[0:6], dst[:])
}
