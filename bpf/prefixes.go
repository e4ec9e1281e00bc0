package bpf

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"weir/lb"
)

// portRule is what a firewall mark's rule asks of a packet beside its destination: a protocol (0: any) and a port from low to
// high.
type portRule struct {
	proto     lb.Proto
	low, high uint16
}

// prefixRanges is steer.c's PREFIX_RANGES: how many ranges of ports a prefix can have.
const prefixRanges = len(steerPrefixRanges{}.Range)

// AddPrefix redirects what is sent to an address in prefix (the zero Prefix, which ::/0 is too: to any) and a port from low to high, both
// included; protocol 0 is any that has ports. It is for the rules that give packets firewall marks. A prefix with more ranges than
// steer's map holds has the nearest ones joined: then some packets too many are redirected, which workers give back.
func (s *Steer) AddPrefix(proto lb.Proto, prefix lb.Prefix, low, high uint16) error {
	if low > high {
		return fmt.Errorf("prefix %s: ports %d-%d: the first is greater than the last", prefix, low, high)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rules := s.prefixes[prefix]
	if rules == nil {
		rules = map[portRule]bool{}
		s.prefixes[prefix] = rules
	}
	rules[portRule{proto, low, high}] = true
	return s.writePrefixes(prefix)
}

// RemovePrefix undoes AddPrefix.
func (s *Steer) RemovePrefix(proto lb.Proto, prefix lb.Prefix, low, high uint16) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	rules := s.prefixes[prefix]
	delete(rules, portRule{proto, low, high})
	if len(rules) > 0 {
		return s.writePrefixes(prefix)
	}
	delete(s.prefixes, prefix)
	return errors.Join(s.remove(steerMapPrefixes, "prefixes", prefixKey(prefix)), s.writePrefixes(prefix))
}

// writePrefixes writes the entries of all prefixes inside changed: only the longest is found, so each has the rules of those
// around it too.
func (s *Steer) writePrefixes(changed lb.Prefix) error {
	var errs []error
	for p := range s.prefixes {
		if !covers(changed, p) {
			continue
		}
		var rules []portRule
		for around, r := range s.prefixes {
			if covers(around, p) {
				rules = slices.AppendSeq(rules, maps.Keys(r))
			}
		}
		errs = append(errs, s.add(steerMapPrefixes, "prefixes", prefixKey(p), ranges(rules)))
	}
	return errors.Join(errs...)
}

// covers reports whether every address in b lies in a.
func covers(a, b lb.Prefix) bool {
	return !a.Addr.IsValid() || b.Addr.IsValid() && a.Bits <= b.Bits && a.Contains(b.Addr)
}

func prefixKey(p lb.Prefix) steerPrefix {
	bits := p.Bits
	if p.Addr.Is4() {
		bits += 96
	}
	return steerPrefix{Bits: uint32(bits), Addr: address(p.Addr)}
}

// ranges returns the union of rules as steer reads it: in as few ranges as it takes, or, where they are more than fit, with
// those joined that lie nearest to each other.
func ranges(rules []portRule) (v steerPrefixRanges) {
	slices.SortFunc(rules, func(a, b portRule) int {
		return cmp.Or(cmp.Compare(a.proto, b.proto), cmp.Compare(a.low, b.low), cmp.Compare(a.high, b.high))
	})
	var joined []portRule
	for _, r := range rules {
		if n := len(joined) - 1; n >= 0 && joined[n].proto == r.proto && int(r.low) <= int(joined[n].high)+1 {
			joined[n].high = max(joined[n].high, r.high)
			continue
		}
		joined = append(joined, r)
	}
	for len(joined) > prefixRanges {
		nearest, gap := 0, 1<<16
		for i := range len(joined) - 1 {
			if g := int(joined[i+1].low) - int(joined[i].high); joined[i].proto == joined[i+1].proto && g < gap {
				nearest, gap = i, g
			}
		}
		joined[nearest].high = joined[nearest+1].high
		joined = slices.Delete(joined, nearest+1, nearest+2)
	}
	for i := range v.Range {
		v.Range[i].Ports = steerPortRange{Lo: 1, Hi: 0}
		if i < len(joined) {
			v.Range[i].Ports = steerPortRange{Lo: joined[i].low, Hi: joined[i].high}
			v.Range[i].Proto = uint8(joined[i].proto)
		}
	}
	return v
}
