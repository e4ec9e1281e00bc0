package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"weir/control/api"
	"weir/internal/complete"
	"weir/ipvsadm"
	"weir/sched"
)

var shells = []string{"bash", "zsh", "fish"}

func completionNoun() noun {
	return noun{
		name: "completion", args: "bash|zsh|fish",
		about: "completion prints what makes a shell complete weiradm's command lines, ipvsadm's grammar included.",
		long: `  weiradm completion bash > /usr/share/bash-completion/completions/weiradm
  source <(weiradm completion zsh)
  weiradm completion fish > ~/.config/fish/completions/weiradm.fish
`,
		flags: func(*pflag.FlagSet) func(*program, []string) error {
			return func(p *program, args []string) error {
				if len(args) != 1 || !slices.Contains(shells, args[0]) {
					return usage("allowed: %s", strings.Join(shells, ", "))
				}
				script := complete.Bash
				if args[0] == "fish" {
					script = complete.Fish
				}
				_, err := fmt.Fprint(p.stdout, script(completable()))
				return err
			}
		},
	}
}

// completable is all that weiradm's command lines may be.
func completable() complete.Program {
	p := complete.Program{Name: "weiradm", Prefix: &complete.Flag{Names: []string{"--socket"}, Value: complete.Files, About: "PATH of weir's socket"}}
	for _, u := range ipvsadm.Usages() {
		c := complete.Command{Words: u.Command.Names()}
		switch u.Op {
		case ipvsadm.OpVersion:
			c.Words = append(c.Words, "-V")
		case ipvsadm.OpRestore:
			c.Flags = append(c.Flags, complete.Flag{Names: []string{"--atomic"}})
		}
		for _, o := range u.Options {
			c.Flags = append(c.Flags, complete.Flag{Names: o.Names(), Value: valueOf(o)})
		}
		p.Commands = append(p.Commands, c)
	}
	for _, n := range nouns() {
		fs, _, _ := n.flagSet()
		c := complete.Command{Words: []string{n.name}, About: strings.TrimPrefix(n.about, n.name+" "), Flags: complete.FromFlags(fs)}
		switch n.name {
		case "completion":
			c.Args = shells
		case "trace":
			c.Args = api.FilterWords()["protocol"]
		}
		p.Commands = append(p.Commands, c)
	}
	return p
}

// valueOf is what follows an option of ipvsadm's grammar.
func valueOf(o ipvsadm.Spelling) complete.Value {
	switch {
	case !o.Value:
		return complete.Value{}
	case o.Long == "scheduler":
		return complete.OneOf(sched.Names()...)
	case o.Long == "sched-flags":
		return complete.OneOf("sh-fallback", "sh-port", "mh-fallback", "mh-port", "flag-1", "flag-2", "flag-3")
	case o.Long == "tun-type":
		return complete.OneOf("ipip", "gue", "gre")
	case o.Long == "mcast-interface":
		return complete.Interfaces
	}
	return complete.Unknown
}
