package api

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Filter chooses connections. The zero Filter takes all of them.
type Filter struct {
	Protocol                       string // tcp, udp, sctp; empty: any
	State                          string // IPVS's name, in any case
	Mode                           string // dr, nat, fullnat, tun, local
	Client, Virtual, Local, Server End
	Templates                      string // "": too; only; no
}

// End is one end of a connection: addresses and a port. The zero End takes all.
type End struct {
	Prefix netip.Prefix
	Port   uint16 // 0: any
}

// ParseEnd reads ADDR, ADDR/LEN, ADDR:PORT, :PORT, or [ADDR6]:PORT.
func ParseEnd(s string) (End, error) {
	wrong := func() (End, error) {
		return End{}, fmt.Errorf("%q: want ADDRESS, ADDRESS/LENGTH, ADDRESS:PORT or :PORT", s)
	}
	if port, ok := strings.CutPrefix(s, ":"); ok && !strings.Contains(port, ":") {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return wrong()
		}
		return End{Port: uint16(n)}, nil
	}
	if a, err := netip.ParseAddrPort(s); err == nil && a.Addr().Zone() == "" {
		return End{netip.PrefixFrom(a.Addr().Unmap(), a.Addr().Unmap().BitLen()), a.Port()}, nil
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		return End{Prefix: p.Masked()}, nil
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return End{Prefix: netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())}, nil
	}
	return wrong()
}

func (e End) String() string {
	switch {
	case !e.Prefix.IsValid() && e.Port == 0:
		return ""
	case !e.Prefix.IsValid():
		return fmt.Sprintf(":%d", e.Port)
	case e.Port != 0:
		return netip.AddrPortFrom(e.Prefix.Addr(), e.Port).String()
	}
	return e.Prefix.String()
}

// Contains reports whether the end a of a connection is one of those e means.
func (e End) Contains(a netip.AddrPort) bool {
	return (!e.Prefix.IsValid() || e.Prefix.Contains(a.Addr())) && (e.Port == 0 || e.Port == a.Port())
}

// Matches reports whether the filter takes c.
func (f *Filter) Matches(c *Connection) bool {
	return (f.Protocol == "" || strings.EqualFold(f.Protocol, c.Protocol)) && (f.State == "" || strings.EqualFold(f.State, c.State)) &&
		(f.Mode == "" || f.Mode == c.Mode) && (f.Templates == "" || (f.Templates == "only") == c.Template) &&
		f.Client.Contains(c.Client) && f.Virtual.Contains(c.Virtual) && f.Server.Contains(c.Server) &&
		(f.Local == End{} || c.Local.IsValid() && f.Local.Contains(c.Local))
}

// What a filter's words may be.
var (
	protocols = []string{"tcp", "udp", "sctp"}
	modes     = []string{"dr", "nat", "fullnat", "tun", "local"}
	templates = []string{"only", "no"}
	states    = []string{"NONE", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT", "TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK",
		"LISTEN", "SYNACK", "UDP", "ASSURED",
		"INIT1", "INIT", "C-SENT", "C-REPLIED", "C-WAIT", "COOKIE", "C-ECHOED", "S-SENT", "S-RECEIVED", "S-ACK-SENT", "REJECTED", "CLOSED"}
)

// FilterWords returns what the words of a Filter may be, by their names in a query.
func FilterWords() map[string][]string {
	lower := make([]string, len(states))
	for i, s := range states {
		lower[i] = strings.ToLower(s)
	}
	return map[string][]string{"protocol": protocols, "mode": modes, "templates": templates, "state": lower}
}

// Check says what is wrong with the filter's words, naming the field.
func (f *Filter) Check() error {
	for _, w := range []struct {
		name, value string
		allowed     []string
	}{{"protocol", f.Protocol, protocols}, {"mode", f.Mode, modes}, {"templates", f.Templates, templates}, {"state", strings.ToUpper(f.State), states}} {
		if w.value != "" && !slices.Contains(w.allowed, w.value) {
			return fmt.Errorf("%s %q: allowed: %s", w.name, w.value, strings.Join(w.allowed, ", "))
		}
	}
	return nil
}

// ends lists the filter's ends with their names in a query.
func (f *Filter) ends() map[string]*End {
	return map[string]*End{"client": &f.Client, "virtual": &f.Virtual, "local": &f.Local, "server": &f.Server}
}

func (f *Filter) words() map[string]*string {
	return map[string]*string{"protocol": &f.Protocol, "state": &f.State, "mode": &f.Mode, "templates": &f.Templates}
}

// values is the filter as a query.
func (f *Filter) values() url.Values {
	v := url.Values{}
	for name, w := range f.words() {
		if *w != "" {
			v.Set(name, *w)
		}
	}
	for name, e := range f.ends() {
		if *e != (End{}) {
			v.Set(name, e.String())
		}
	}
	return v
}

// String is the filter in words, as client=198.51.100.0/24 protocol=tcp; empty for one that takes all.
func (f *Filter) String() string {
	var words []string
	for name, values := range f.values() {
		words = append(words, name+"="+values[0])
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

// filterOf reads what values wrote.
func filterOf(v url.Values) (f Filter, err error) {
	for name, w := range f.words() {
		*w = v.Get(name)
	}
	for name, e := range f.ends() {
		if s := v.Get(name); s != "" {
			if *e, err = ParseEnd(s); err != nil {
				return f, fmt.Errorf("%s %w", name, err)
			}
		}
	}
	return f, f.Check()
}
