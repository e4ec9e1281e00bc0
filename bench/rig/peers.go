package rig

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"weir/bpf"
	"weir/internal/testnet"
	"weir/lb"
)

// Redirect is what XDP can do at most: new MAC addresses and out, in the driver. It balances nothing.
var Redirect = Candidate{Name: "XDP redirect (limit)", Modes: []lb.Mode{lb.DR}, start: func(s *setting) (*running, error) {
	run := &running{single: true}
	return run, s.director.Do(func() error {
		r, err := bpf.NewRedirect(s.front.Index, s.back.Index, s.listed[0].mac, s.back.MAC)
		if err != nil {
			return err
		}
		run.stop = r.Close
		return nil
	})
}}

// IPForward is the kernel as a router, with the VIP routed to one server. It balances nothing.
var IPForward = Candidate{Name: "kernel ip_forward", Modes: []lb.Mode{lb.DR}, start: func(s *setting) (*running, error) {
	s.director.Route(vip.Addr().String()+"/32", s.listed[0].addr.String())
	run, err := s.kernel()
	if err == nil {
		run.single = true
	}
	return run, err
}}

// StatelessDR is DR by nftables, at the netdev ingress hook: a flow's hash decides, so a change of servers moves flows.
var StatelessDR = Candidate{Name: "nftables ingress DR", Modes: []lb.Mode{lb.DR}, start: func(s *setting) (*running, error) {
	var macs []string
	for i, server := range s.listed {
		macs = append(macs, fmt.Sprintf("%d : %s", i, server.mac))
	}
	return s.nftables(fmt.Sprintf(`table netdev lb { chain in { type filter hook ingress device %s priority 0;
		ip daddr %s %s dport %d ether saddr set %s ether daddr set jhash ip saddr . %[3]s sport mod %[6]d map { %s } fwd to %s
		}
		}`,
		s.front.Name, vip.Addr(), s.protocol(), vip.Port(), s.back.MAC, len(s.listed), strings.Join(macs, ", "), s.back.Name))
}}

// DNAT is NAT by nftables, each flow's server chosen by numgen (in turn) or jhash (by the client). Of TCP, netfilter's connection tracking
// calls what follows an unanswered SYN invalid, and does not translate it.
func DNAT(name, choice string) Candidate {
	return Candidate{Name: name, Modes: []lb.Mode{lb.NAT}, UDPOnly: true, start: func(s *setting) (*running, error) {
		return s.nftables(s.dnat(choice))
	}}
}

// Masquerade is DNAT with the source translated as well: to the director's address, or where its ports are too few, to a range.
var Masquerade = Candidate{Name: "nftables DNAT + masquerade", Modes: []lb.Mode{lb.FULLNAT}, UDPOnly: true, start: func(s *setting) (*running, error) {
	source := "masquerade"
	if all := s.locals(); len(all) > 2 {
		source = fmt.Sprintf("snat to %s-%s", all[len(all)-1], all[0])
	}
	return s.nftables(s.dnat("numgen inc") + fmt.Sprintf(`
		table ip lb { chain out { type nat hook postrouting priority 100; oifname %s %s
		}
		}`, s.back.Name, source))
}}

func (s *setting) dnat(choice string) string {
	var servers []string
	for i, server := range s.listed {
		servers = append(servers, fmt.Sprintf("%d : %s . %d", i, server.addr, serverPort))
	}
	return fmt.Sprintf(`table ip lb { chain in { type nat hook prerouting priority -100;
		ip daddr %s udp dport %d dnat ip to %s mod %d map { %s }
		}
		}`, vip.Addr(), vip.Port(), choice, len(s.listed), strings.Join(servers, ", "))
}

func (s *setting) nftables(rules string) (*running, error) {
	if strings.Contains(rules, "table ip ") {
		if err := roomForFlows(s.reporter, 2*s.Flows); err != nil {
			return nil, err
		}
	}
	if _, err := s.director.Run("nft", rules); err != nil {
		return nil, err
	}
	return s.kernel()
}

// kernel has the director's own stack forward: with GRO, by which a veth takes frames redirected to it, and where the director has a CPU
// of its own, in a NAPI thread on it.
func (s *setting) kernel() (*running, error) {
	clients := clientNet.String()
	s.director.Route(clients, gateway.String())
	s.neighbour(s.reporter, s.front, gateway, gatewayMAC)
	before := napiThreads()
	for _, name := range s.interfaces() {
		script := "ethtool -K $0 gro on"
		if s.Layout == OwnCPU {
			script += " && echo 1 >/sys/class/net/$0/threaded"
		}
		if _, err := s.director.Run("sh", "-c", script, name); err != nil {
			return nil, err
		}
	}
	run := &running{}
	if s.Layout == OwnCPU {
		for deadline := time.Now().Add(time.Second); len(run.pids) == 0 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			for _, pid := range napiThreads() {
				if !slices.Contains(before, pid) {
					run.pids = append(run.pids, pid)
				}
			}
		}
		if len(run.pids) == 0 {
			return nil, fmt.Errorf("no NAPI thread of %s appeared", s.interfaces())
		}
		for _, pid := range run.pids {
			if err := pinProcess(pid, s.cpu); err != nil {
				return nil, err
			}
		}
	}
	return run, nil
}

// napiThreads returns the kernel threads that poll interfaces' queues.
func napiThreads() (pids []int) {
	names, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil || !strings.HasPrefix(string(b), "napi/") {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// roomForFlows lets netfilter have that many connections, with a bucket for each, for as long as the trial lasts. Both settings are the
// whole machine's (Documentation/networking/nf_conntrack-sysctl).
func roomForFlows(r testnet.Reporter, connections int) error {
	for _, name := range []string{"/proc/sys/net/netfilter/nf_conntrack_max", "/proc/sys/net/netfilter/nf_conntrack_buckets"} {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		was, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if was >= connections {
			continue
		}
		if err := os.WriteFile(name, []byte(strconv.Itoa(connections)), 0); err != nil {
			return err
		}
		r.Cleanup(func() { _ = os.WriteFile(name, b, 0) })
	}
	return nil
}

// gateway is who the kernel sends to what is for the clients.
var gateway = netip.MustParseAddr("192.0.2.254")
