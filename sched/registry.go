package sched

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Default is the scheduler of a service that names none, as in ipvsadm.
const Default = "wlc"

// kind is what a scheduler's file registers.
type kind struct {
	name   string
	flags  [3]string // what flag-1, flag-2, flag-3 are called for this scheduler; "": it has no such flag
	traits traits
	new    func(f flags) Scheduler
}

// flags says which of flag-1, flag-2 and flag-3 are set (kernel IP_VS_SVC_F_SCHED1 to 3).
type flags [3]bool

// traits declares what holds for a scheduler, for the tests that range over the registry.
type traits struct {
	shares   bool // connections that stay share out by weight
	counts   bool // it goes by lb.Load's counts, so that a share needs the picks to be counted
	draws    bool // it chooses at random: shares hold by chi-square only
	hashes   bool // the same request gets the same server as long as the list stays
	slots    int  // size of the table it hashes into
	runs     bool // the table is given out in runs as long as the weight, so that a share may be off by a run
	stable   int  // removing one of equal servers moves at most 1.5 times its clients if each has this many slots; 0: no promise
	overload bool // it may choose a server over its threshold, because IPVS does
}

var kinds = map[string]kind{}

func register(k kind) { kinds[k.name] = k }

// Names returns the names that New knows, sorted.
func Names() []string { return slices.Sorted(maps.Keys(kinds)) }

// New returns the scheduler called name ("": Default) without servers. The flags are those of ipvsadm's -b: sh-fallback and sh-port
// for sh, mh-fallback and mh-port for mh, and flag-1, flag-2, flag-3 for any, which mean the first, second and third of its
// own and nothing where it has none (the kernel takes them so). The error names what is allowed.
func New(name string, flagNames []string) (Scheduler, error) {
	if name == "" {
		name = Default
	}
	k, ok := kinds[name]
	if !ok {
		return nil, fmt.Errorf("scheduler %q is unknown: there are %s", name, strings.Join(Names(), ", "))
	}
	var f flags
	for _, flag := range flagNames {
		i := k.flagIndex(flag)
		if i < 0 {
			return nil, fmt.Errorf("scheduler %s does not take the flag %q: it takes %s", name, flag, strings.Join(k.flagNames(), ", "))
		}
		f[i] = true
	}
	return k.new(f), nil
}

func (k *kind) flagIndex(flag string) int {
	for i := range k.flags {
		if flag != "" && (flag == k.flags[i] || flag == fmt.Sprintf("flag-%d", i+1)) {
			return i
		}
	}
	return -1
}

func (k *kind) flagNames() []string {
	names := slices.DeleteFunc(slices.Clone(k.flags[:]), func(s string) bool { return s == "" })
	return append(names, "flag-1", "flag-2", "flag-3")
}
