package rig

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"weir/internal/testnet"
	"weir/lb"
)

// Candidate is a forwarder that trials can be made of.
type Candidate struct {
	Name string
	// Modes that it knows; a trial of another leaves it out.
	Modes []lb.Mode
	// UDPOnly: TCP of which it sees one direction only, as the generator's, it does not forward.
	UDPOnly bool
	// IPv6: it forwards that, too.
	IPv6  bool
	start func(*setting) (*running, error)
	// absent returns why this machine has no means to run it; nil: every machine has.
	absent func() error
}

// setting is what a candidate is started in.
type setting struct {
	*network
	Load
	reporter testnet.Reporter
	cpu      int // the director's
	listed   []server
}

// running is a candidate that forwards.
type running struct {
	pids []int        // of those that do the forwarding, for their CPU time; none: softirqs do
	stop func() error // nil: it goes with the network
	// single: it sends everything to the first server.
	single bool
}

// Programs are the paths of what a trial runs.
type Programs struct {
	Weir    string   // the daemon
	Weiradm string   // what changes it; only Changes runs it
	Against []string // other builds of it
	Bare    string   // bench/bare
}

var everyMode = []lb.Mode{lb.DR, lb.NAT, lb.FULLNAT, lb.TUN}

// process runs a command on the director's CPU until the trial ends, and waits until it says that it is ready.
func (s *setting) process(ready string, command ...string) (*running, error) {
	p := s.director.Start("taskset", append([]string{"--cpu-list", strconv.Itoa(s.cpu)}, command...)...)
	if err := p.WaitOutput(ready, readyWithin); err != nil {
		return nil, err
	}
	return &running{pids: []int{p.Pid}, stop: func() error {
		if err := p.Stop(10 * time.Second); err != nil {
			return fmt.Errorf("%w: %s", err, strings.TrimSpace(p.Output()))
		}
		return nil
	}}, nil
}

// Bare is the forwarder on the plain library, with its own flags (bench/bare). It sets MACs and knows no mode but DR.
func Bare(path, name string, flags ...string) Candidate {
	return Candidate{Name: name, Modes: []lb.Mode{lb.DR}, start: func(s *setting) (*running, error) {
		command := append([]string{path, "--dst-mac", s.listed[0].mac.String()}, flags...)
		for _, name := range s.interfaces() {
			command = append(command, "--interface", name)
		}
		run, err := s.process("forwarding", command...)
		if err == nil {
			run.single = true
		}
		return run, err
	}}
}

var modeFlags = map[lb.Mode]string{lb.DR: "-g", lb.NAT: "-m", lb.FULLNAT: "-F", lb.TUN: "-i"}

// Weir is the daemon, with further flags.
func Weir(path, name string, flags ...string) Candidate {
	return Candidate{Name: name, Modes: everyMode, IPv6: true, start: func(s *setting) (*running, error) {
		command := []string{path, "--assign-addresses", "--admin-socket", "", "--connections", strconv.Itoa(max(1<<16, 2*s.Flows))}
		for _, name := range s.interfaces() {
			command = append(command, "--interface", name)
		}
		service := s.service(s.ends().vip)
		command = append(command, "--rule", fmt.Sprintf("-A %s -s rr", service))
		for _, server := range s.listed {
			at := netip.AddrPortFrom(server.addr, s.portOf())
			command = append(command, "--rule", fmt.Sprintf("-a %s -r %s %s", service, at, modeFlags[s.Mode]))
		}
		if s.Mode == lb.FULLNAT {
			for _, a := range s.locals() {
				command = append(command, "--local-address", a)
			}
		}
		return s.process("msg=ready", append(command, flags...)...)
	}}
}

// portOf returns the port that servers of the trial's mode are reached at.
func (s *setting) portOf() uint16 {
	if s.Mode == lb.NAT || s.Mode == lb.FULLNAT {
		return serverPort
	}
	return vip.Port()
}

// locals returns local addresses enough for the flows: a server's share of them by 64,512 ports each, and one to spare.
func (s *setting) locals() (all []string) {
	a := s.ends().local
	for range s.Flows/len(s.listed)/64512 + 2 {
		all = append(all, a.String())
		a = a.Prev()
	}
	return all
}
