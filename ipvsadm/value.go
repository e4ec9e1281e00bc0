package ipvsadm

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"

	"weir/lb"
)

// number reads a value from low to high; text is ipvsadm's answer to anything else.
func number(w *word, s string, low, high int, text string) (int, error) {
	n, ok := parseNumber(s, int64(low), int64(high))
	if !ok {
		return 0, bad(w, s, text, fmt.Sprintf("a number from %d to %d", low, high))
	}
	return int(n), nil
}

// parseNumber reads a decimal as strtol(3) does: white space and a sign may stand before it, nothing behind it.
func parseNumber(s string, low, high int64) (int64, bool) {
	n, err := strconv.ParseInt(strings.TrimLeft(s, " \t\n\v\f\r"), 10, 64)
	return n, err == nil && low <= n && n <= high
}

func timeout(flag, s string, low int64) (int, error) {
	n, ok := parseNumber(s, low, maxTimeout)
	if !ok {
		return 0, &Error{Status: 2, Text: fmt.Sprintf("invalid timeout value `%s' specified", s),
			Detail: fmt.Sprintf("%s %q: is not a timeout; must be %d to %d seconds (31 days)", flag, s, low, maxTimeout)}
	}
	return int(n), nil
}

// parseAddrPort reads ADDRESS, ADDRESS:PORT, IPV6 or [IPV6]:PORT, the port a number or a name of /etc/services for the protocol.
// why says what must be written instead when s is none of them.
func parseAddrPort(s string, proto lb.Proto, names *serviceNames) (a lb.Addr, port uint16, hasPort bool, why string) {
	const form = "ADDRESS[:PORT] with a numeric address, as 192.0.2.1:80 or [2001:db8::1]:80 (host names are not looked up)"
	host, portName := s, ""
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if host, portName, hasPort = strings.Cut(inner, "]:"); !hasPort || !strings.Contains(host, ":") {
			return a, 0, false, form
		}
	} else if strings.Count(s, ":") == 1 {
		host, portName, hasPort = strings.Cut(s, ":")
	}
	if strings.Contains(host, ":") {
		ip, err := netip.ParseAddr(host)
		if err != nil || ip.Zone() != "" {
			return a, 0, false, form
		}
		if ip.Is4In6() {
			return a, 0, false, fmt.Sprintf("an IPv4 address as such: %s", ip.Unmap())
		}
		a = lb.AddrFrom(ip)
	} else {
		v, ok := parseIPv4(host)
		if !ok || !strings.Contains(s, ".") && !hasPort { // a lone number is no address to ipvsadm
			return a, 0, false, form
		}
		a = lb.AddrFrom4(v)
	}
	if !a.IsValid() {
		return a, 0, false, "an address other than ::"
	}
	if hasPort {
		n, ok := parseNumber(portName, 0, 65535)
		if !ok {
			if n, ok = names.port(portName, proto); !ok && proto == 0 {
				return a, 0, false, "ADDRESS:PORT with a port from 0 to 65535; its name is only known behind the service (-t, -u, -f)"
			} else if !ok {
				return a, 0, false, fmt.Sprintf("ADDRESS:PORT with a port from 0 to 65535 or its name for %s in /etc/services, not %q", proto, portName)
			}
		}
		port = uint16(n)
	}
	return a, port, hasPort, ""
}

// parseIPv4 reads what inet_aton(3) reads: one to four numbers, decimal, octal (0...) or hexadecimal (0x...), the last of which
// fills what remains: 10.1 is 10.0.0.1, and -M 24 is the mask 0.0.0.24, not a prefix (recorded).
func parseIPv4(s string) (v uint32, ok bool) {
	if ip, err := netip.ParseAddr(s); err == nil && ip.Is4() { // most are in the usual form, which is the same to both
		b := ip.As4()
		return binary.BigEndian.Uint32(b[:]), true
	}
	parts := strings.SplitN(s, ".", 5)
	if len(parts) > 4 {
		return 0, false
	}
	for i, part := range parts {
		size, digits, base := 8, part, 10
		if i == len(parts)-1 {
			size = 8 * (4 - i)
		}
		if rest, hex := strings.CutPrefix(strings.ToLower(part), "0x"); hex {
			digits, base = rest, 16
		} else if len(part) > 1 && part[0] == '0' {
			base = 8
		}
		n, err := strconv.ParseUint(digits, base, size)
		if err != nil {
			return 0, false
		}
		v = v<<size | uint32(n)
	}
	return v, true
}

// prefixLen returns the length of a contiguous netmask, or -1.
func prefixLen(mask uint32) int {
	n := bits.LeadingZeros32(^mask)
	if mask<<n != 0 {
		return -1
	}
	return n
}

// addrPort returns an address and port as ipvsadm -n prints them.
func addrPort(a lb.Addr, port uint16) string {
	return netip.AddrPortFrom(a.Netip(), port).String()
}

// schedFlags are a service's three scheduler flags (IP_VS_SVC_F_SCHED1 to 3), which each scheduler calls by names of its own.
type schedFlags uint8

// flagNames has the names of the flags; those of sh and mh are only for these.
var flagNames = map[string]schedFlags{
	"sh-fallback": 1, "sh-port": 2,
	"mh-fallback": 1, "mh-port": 2,
	"flag-1": 1, "flag-2": 2, "flag-3": 4,
}

// parseSchedFlags reads the list that -b takes for a scheduler.
func parseSchedFlags(s, scheduler string) (flags schedFlags, err error) {
	for name := range strings.SplitSeq(s, ",") {
		if name == "" {
			continue
		}
		f, ok := flagNames[name]
		own, _, _ := strings.Cut(name, "-")
		text := ""
		switch {
		case !ok:
			text = fmt.Sprintf("invalid scheduler flag `%s'", name)
		case own != "flag" && own != scheduler:
			text = fmt.Sprintf("incompatible scheduler flag `%s'", name)
		default:
			flags |= f
			continue
		}
		return 0, &Error{Status: 2, Text: text, Detail: fmt.Sprintf("-b %q: the scheduler %q has no such flag; it takes a list of %s",
			name, scheduler, strings.Join(schedFlags(7).names(scheduler), ", "))}
	}
	return flags, nil
}

// names returns the flags as -S prints them for a scheduler. sh and mh have no third one.
func (f schedFlags) names(scheduler string) (list []string) {
	own := [3]string{"flag-1", "flag-2", "flag-3"}
	if scheduler == "sh" || scheduler == "mh" {
		own = [3]string{scheduler + "-fallback", scheduler + "-port", ""}
	}
	for i, name := range own {
		if f>>i&1 != 0 && name != "" {
			list = append(list, name)
		}
	}
	return list
}
