package ipvsadm

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"

	"weir/lb"
)

// Save prints rules as `ipvsadm -S` does, or `ipvsadm -S -n`, so that -R and ParseFile read them: sorted, and without thresholds
// and timeouts, which ipvsadm leaves out. FULLNAT servers have -F. WriteTo loses nothing.
func Save(w io.Writer, l Listing, numeric bool) error { return save(w, l, numeric, etcServices()) }

func save(w io.Writer, l Listing, numeric bool, names *serviceNames) error {
	out := bufio.NewWriter(w)
	p := printer{Options: Options{Numeric: numeric}, w: out, names: names}
	for i := range p.services(l) {
		s := &l.Services[i].Service
		p.ruleService(s)
		for _, i := range p.servers(s.Servers) {
			p.ruleServer(s, &s.Servers[i])
		}
	}
	return out.Flush()
}

// WriteTo writes everything that the rules are as lines that ParseFile reads back to the same rules: services and servers in the
// order they were added, thresholds, and timeouts where they were set; ports as numbers.
func (r *Rules) WriteTo(w io.Writer) (int64, error) {
	count := &counter{w: w}
	out := bufio.NewWriter(count)
	p := printer{Options: Options{Numeric: true}, w: out, full: true}
	if r.set != (Timeouts{}) {
		fmt.Fprintf(out, "--set %d %d %d\n", r.set.TCP, r.set.TCPFin, r.set.UDP)
	}
	for s := range r.all {
		p.ruleService(&s.Service)
		for i := range s.Servers {
			p.ruleServer(&s.Service, &s.Servers[i])
		}
	}
	err := out.Flush()
	return count.n, err
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// ruleName is a service as options.
func (p *printer) ruleName(k lb.ServiceKey) string {
	switch {
	case k.Mark != 0:
		name := fmt.Sprintf("-f %d", int32(k.Mark)) // signed, as ipvsadm prints it; ParseLine understands that, ipvsadm itself does not
		if p.full {
			name = fmt.Sprintf("-f %d", k.Mark)
		}
		if k.Is6 {
			name += " -6"
		}
		return name
	case k.Proto == lb.UDP:
		return "-u " + p.addrPort(k.Addr, k.Port, k.Proto)
	case k.Proto == lb.SCTP:
		return "--sctp-service " + p.addrPort(k.Addr, k.Port, k.Proto)
	}
	return "-t " + p.addrPort(k.Addr, k.Port, k.Proto)
}

func (p *printer) ruleService(s *Service) {
	fmt.Fprintf(p.w, "-A %s -s %s", p.ruleName(s.Key), s.Scheduler)
	if s.Persist != 0 {
		fmt.Fprintf(p.w, " -p %d", s.Persist/time.Second)
		if mask := netmask(s); mask != "" {
			fmt.Fprintf(p.w, " -M %s", mask)
		}
	}
	if s.Engine != "" {
		fmt.Fprintf(p.w, " --pe %s", s.Engine)
	}
	if s.OnePacket {
		fmt.Fprint(p.w, " -o")
	}
	if len(s.SchedFlags) > 0 {
		fmt.Fprintf(p.w, " -b %s", joinFlags(s.SchedFlags))
	}
	fmt.Fprintln(p.w)
}

func (p *printer) ruleServer(svc *Service, s *lb.Server) {
	mode := map[lb.Mode]string{lb.DR: "-g", lb.NAT: "-m", lb.FULLNAT: "-F", lb.TUN: "-i"}[s.Mode]
	fmt.Fprintf(p.w, "-a %s -r %s %s -w %d", p.ruleName(svc.Key), p.addrPort(s.Addr, s.Port, namingProto(svc.Key)), mode, s.Weight)
	if s.Mode == lb.TUN {
		fmt.Fprintf(p.w, " --tun-type %s", s.Tunnel.Type)
		if s.Tunnel.Type == lb.GUE {
			fmt.Fprintf(p.w, " --tun-port %d", s.Tunnel.Port)
		}
		switch {
		case s.Tunnel.Type == lb.IPIP:
		case s.Tunnel.Remcs:
			fmt.Fprint(p.w, " --tun-remcsum")
		case s.Tunnel.Csum:
			fmt.Fprint(p.w, " --tun-csum")
		default:
			fmt.Fprint(p.w, " --tun-nocsum")
		}
	}
	if p.full && s.Upper != 0 {
		fmt.Fprintf(p.w, " -x %d", s.Upper)
		if s.Lower != 0 {
			fmt.Fprintf(p.w, " -y %d", s.Lower)
		}
	}
	fmt.Fprintln(p.w)
}

// netmask is -M's value, or nothing when each client stands for itself.
func netmask(s *Service) string {
	switch {
	case s.OddMask.IsValid():
		return s.OddMask.String()
	case s.PersistLen == 0:
		return ""
	case is6(s.Key):
		return fmt.Sprint(s.PersistLen)
	}
	return lb.AddrFrom4(0xffffffff).Mask(s.PersistLen).String()
}

func joinFlags(flags []string) string { return strings.Join(flags, ",") }
