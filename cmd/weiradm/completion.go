package main

import (
	"fmt"
	"sort"
	"strings"

	"github.com/spf13/pflag"
)

func completionNoun() noun {
	return noun{
		name: "completion", args: "bash",
		about: "completion prints what makes a shell complete weiradm's command lines.",
		long:  "  weiradm completion bash > /etc/bash_completion.d/weiradm\n",
		flags: func(*pflag.FlagSet) func(*program, []string) error {
			return func(p *program, args []string) error {
				if len(args) != 1 || args[0] != "bash" {
					return usage("allowed: bash")
				}
				_, err := fmt.Fprint(p.stdout, bashCompletion())
				return err
			}
		},
	}
}

// grammarWords are the options of ipvsadm's grammar that stand first on a command line.
var grammarWords = strings.Fields("-A -E -D -C -R -S -a -e -d -L -l -Z --set -h -V")

// bashCompletion is made of the nouns' flags.
func bashCompletion() string {
	var b strings.Builder
	var names []string
	var cases strings.Builder
	for _, n := range nouns() {
		names = append(names, n.name)
		fs, _, _ := n.flagSet()
		var flags []string
		fs.VisitAll(func(f *pflag.Flag) { flags = append(flags, "--"+f.Name) })
		sort.Strings(flags)
		if n.name == "completion" {
			flags = append(flags, "bash")
		}
		fmt.Fprintf(&cases, "    %s) words=%q ;;\n", n.name, strings.Join(flags, " "))
	}
	fmt.Fprintf(&b, `# bash completion for weiradm
_weiradm() {
  local words=%q
  if [ "$COMP_CWORD" -gt 1 ]; then
    case "${COMP_WORDS[1]}" in
%s    *) words="" ;;
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -F _weiradm weiradm
`, strings.Join(append(names, grammarWords...), " "), cases.String())
	return b.String()
}
