package rig

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"weir/lb"
)

// IPVS is the kernel's own balancer, which weir is to be measured by above all. It has no FULLNAT.
var IPVS = Candidate{Name: "IPVS", Modes: []lb.Mode{lb.DR, lb.NAT, lb.TUN}, absent: noIPVS, start: func(s *setting) (*running, error) {
	// IPVS takes packets on their way up to a socket (net/netfilter/ipvs/ip_vs_core.c, LOCAL_IN): the VIP has to be the director's own.
	s.director.AddAddr("lo", vip.Addr().String()+"/32")
	rules := []string{fmt.Sprintf("-A %s -s rr", s.service(vip))}
	for _, server := range s.listed {
		rules = append(rules, fmt.Sprintf("-a %s -r %s:%d %s", s.service(vip), server.addr, s.portOf(), modeFlags[s.Mode]))
	}
	for _, rule := range rules {
		if _, err := s.director.Run("ipvsadm", strings.Fields(rule)...); err != nil {
			return nil, err
		}
	}
	return s.kernel()
}}

// ipvsTableBits is the size of IPVS's connection table where we are who loads it: the largest that it takes, 2^20 buckets. By default it has
// 4,096 (net/netfilter/ipvs/Kconfig, IP_VS_TAB_BITS), which would make a million flows a comparison of lists.
const ipvsTableBits = 20

// noIPVS returns why this machine cannot run IPVS, nil when it can. It loads the module.
func noIPVS() error {
	if _, err := os.Stat("/proc/net/ip_vs"); err != nil {
		out, err := exec.Command("modprobe", "ip_vs", "conn_tab_bits="+strconv.Itoa(ipvsTableBits)).CombinedOutput()
		if errors.Is(err, exec.ErrNotFound) {
			return errors.New("this kernel has no ip_vs built in, and there is no modprobe")
		}
		if err != nil {
			return fmt.Errorf("this kernel has no ip_vs: modprobe: %s", strings.TrimSpace(string(out)))
		}
	}
	if _, err := exec.LookPath("ipvsadm"); err != nil {
		return errors.New("there is no ipvsadm")
	}
	return nil
}

// Absent returns which candidates this machine has no means to run, and why: a line each.
func Absent() (lines []string) {
	for _, c := range []Candidate{IPVS} {
		if err := c.absent(); err != nil {
			lines = append(lines, fmt.Sprintf("%s is left out: %s", c.Name, err))
		}
	}
	return lines
}
