package lb

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// MarkRule gives a firewall mark to packets: weir has no netfilter in front of it, so what `iptables -j MARK` does for IPVS,
// rules of its own do here. The first rule that matches a packet decides; without one the mark is 0, none.
type MarkRule struct {
	Mark      uint32
	Proto     Proto // 0: any
	Dst, Src  Prefix
	Low, High uint16 // destination ports; 0 to 65,535: any
}

// Prefix is an address block. The zero Prefix matches everything.
type Prefix struct {
	Addr Addr
	Bits int // within the address's family
}

// Contains reports whether a lies in p: of the same family, first bits the same.
func (p Prefix) Contains(a Addr) bool {
	return !p.Addr.IsValid() || p.Addr.Is4() == a.Is4() && a.Mask(p.Bits) == p.Addr
}

func (p Prefix) String() string {
	if !p.Addr.IsValid() {
		return "any"
	}
	return netip.PrefixFrom(p.Addr.Netip(), p.Bits).String()
}

// Matches reports whether the rule gives its mark to packets of flow f.
func (r *MarkRule) Matches(f *Flow) bool {
	return (r.Proto == 0 || r.Proto == f.Proto) && f.DstPort >= r.Low && f.DstPort <= r.High &&
		r.Dst.Contains(f.Dst) && r.Src.Contains(f.Src)
}

func (r MarkRule) String() string {
	s := fmt.Sprintf("%d %s %s", r.Mark, protoName(r.Proto), r.Dst)
	switch {
	case r.Low == r.High:
		s += fmt.Sprintf(":%d", r.Low)
	case r.Low != 0 || r.High != 65535:
		s += fmt.Sprintf(":%d-%d", r.Low, r.High)
	}
	if r.Src.Addr.IsValid() {
		s += " " + r.Src.String()
	}
	return s
}

func protoName(p Proto) string {
	if p == 0 {
		return "any"
	}
	return strings.ToLower(p.String())
}

// ParseMarkRule reads "MARK PROTO DST[/LEN][:PORT[-PORT]] [SRC[/LEN]]", as in "1 tcp 192.0.2.0/24:80-89 198.51.100.0/24";
// PROTO is tcp, udp, sctp or any, an IPv6 destination with ports stands in brackets.
func ParseMarkRule(s string) (MarkRule, error) {
	words := strings.Fields(s)
	if len(words) < 3 || len(words) > 4 {
		return MarkRule{}, fmt.Errorf("want MARK PROTO DST[/LEN][:PORT[-PORT]] [SRC[/LEN]]")
	}
	r := MarkRule{High: 65535}
	mark, err := strconv.ParseUint(words[0], 0, 32)
	if err != nil || mark == 0 {
		return MarkRule{}, fmt.Errorf("mark %q: want a number from 1 to 4294967295", words[0])
	}
	r.Mark = uint32(mark)
	switch strings.ToLower(words[1]) {
	case "tcp":
		r.Proto = TCP
	case "udp":
		r.Proto = UDP
	case "sctp":
		r.Proto = SCTP
	case "any":
	default:
		return MarkRule{}, fmt.Errorf("protocol %q: allowed: tcp, udp, sctp, any", words[1])
	}
	dst, ports := splitPorts(words[2])
	if r.Dst, err = parsePrefix(dst); err != nil {
		return MarkRule{}, fmt.Errorf("destination %q: %w", words[2], err)
	}
	if ports != "" {
		low, high, ranged := strings.Cut(ports, "-")
		if !ranged {
			high = low
		}
		l, err1 := strconv.ParseUint(low, 10, 16)
		h, err2 := strconv.ParseUint(high, 10, 16)
		if err1 != nil || err2 != nil || l > h {
			return MarkRule{}, fmt.Errorf("destination %q: ports: want PORT or LOW-HIGH, 0 to 65535", words[2])
		}
		r.Low, r.High = uint16(l), uint16(h)
	}
	if len(words) == 4 {
		if r.Src, err = parsePrefix(words[3]); err != nil {
			return MarkRule{}, fmt.Errorf("source %q: %w", words[3], err)
		}
	}
	return r, nil
}

// splitPorts cuts the ports off an address: after ']' or, outside brackets, after the only colon.
func splitPorts(s string) (addr, ports string) {
	if rest, ok := strings.CutPrefix(s, "["); ok {
		addr, ports, _ = strings.Cut(rest, "]")
		if bits, p, ok := strings.Cut(ports, ":"); ok {
			return addr + bits, p
		}
		return addr + ports, ""
	}
	if strings.Count(s, ":") == 1 {
		addr, ports, _ = strings.Cut(s, ":")
		return addr, ports
	}
	return s, ""
}

func parsePrefix(s string) (Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return Prefix{}, fmt.Errorf("not an address or prefix")
		}
		return Prefix{AddrFrom(a), a.Unmap().BitLen()}, nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return Prefix{}, fmt.Errorf("not an address or prefix")
	}
	if p != p.Masked() {
		return Prefix{}, fmt.Errorf("has bits behind its length: want %s", p.Masked())
	}
	return Prefix{AddrFrom(p.Addr()), p.Bits()}, nil
}
