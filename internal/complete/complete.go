// Package complete writes what makes a shell complete a program's command lines, from the flags that the program has.
//
//	script := complete.Bash(complete.Program{Name: "weir", Commands: []complete.Command{{Flags: complete.FromFlags(fs)}}})
//
// Fish writes the same for fish.
package complete

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// Program is what is typed.
type Program struct {
	Name     string
	Prefix   *Flag     // one that may stand in front of the command, with its value; nil: none
	Commands []Command // one without words is for lines that name no other command
}

// Command is a command of a program, and what may follow it.
type Command struct {
	Words []string // its spellings
	About string   // what it does, in a line; shown by fish
	Args  []string // words that may follow without being flags
	Flags []Flag
}

// Flag is a flag in its spellings, with its dashes.
type Flag struct {
	Names []string
	Value Value
	About string // what it is for, in a line; shown by fish
}

// Value is what follows a flag. The zero Value is nothing.
type Value struct {
	kind  string
	words []string
}

// The kinds of values.
var (
	Unknown    = Value{kind: "unknown"}    // something that the shell cannot guess
	Files      = Value{kind: "files"}      // a path
	Interfaces = Value{kind: "interfaces"} // a network interface of this host
)

// OneOf is a value that is one of some words.
func OneOf(words ...string) Value { return Value{kind: "words", words: words} }

// allowed is the annotation that Allow leaves on a flag.
const allowed = "allowed"

// Allow notes that the value of a flag is one of some words.
func Allow(fs *pflag.FlagSet, name string, words ...string) {
	if err := fs.SetAnnotation(name, allowed, words); err != nil {
		panic(err) // there is no such flag: a mistake in this program
	}
}

// FromFlags lists the flags of a set. What a value is follows from Allow, or from its name in the help: FILE and PATH are files, IFACE is
// an interface.
func FromFlags(fs *pflag.FlagSet) (all []Flag) {
	fs.VisitAll(func(f *pflag.Flag) {
		name, about := pflag.UnquoteUsage(f)
		flag := Flag{Names: []string{"--" + f.Name}, About: about}
		if f.Shorthand != "" {
			flag.Names = append(flag.Names, "-"+f.Shorthand)
		}
		switch words := f.Annotations[allowed]; {
		case words != nil:
			flag.Value = OneOf(words...)
		case f.NoOptDefVal != "":
		case name == "FILE" || name == "PATH":
			flag.Value = Files
		case name == "IFACE":
			flag.Value = Interfaces
		default:
			flag.Value = Unknown
		}
		all = append(all, flag)
	})
	return all
}

// Bash returns a script for bash, which zsh understands after its bashcompinit.
func Bash(p Program) string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	name := "_" + p.Name
	say(`# Completion of %[1]s's command lines for bash, and for zsh by its bashcompinit. Made from the flags of %[1]s.
if [ -n "$ZSH_VERSION" ]; then
  autoload -U +X compinit && compinit -u
  autoload -U +X bashcompinit && bashcompinit
fi
%[2]s_files() { compopt -o default 2>/dev/null || COMPREPLY=($(compgen -P "$glue" -f -- "$cur")); }
%[2]s() {
  local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}" at=1 offer="" glue=""
  # --flag=value comes in three pieces from bash, and in one from zsh, which wants it back so.
  case "$cur" in
  =) cur="" ;;
  --*=*) prev="${cur%%%%=*}" glue="${cur%%%%=*}=" cur="${cur#*=}" ;;
  *) if [ "$prev" = "=" ]; then prev="${COMP_WORDS[COMP_CWORD-2]}"; fi ;;
  esac
  COMPREPLY=()
`, p.Name, name)
	if p.Prefix != nil {
		for _, n := range p.Prefix.Names {
			say("  if [ \"${COMP_WORDS[1]}\" = %q ]; then at=3; [ \"${COMP_WORDS[2]}\" = \"=\" ] && at=4; fi\n", n)
			say("  case \"${COMP_WORDS[1]}\" in %s=*) at=2 ;; esac\n", n)
		}
	}
	var first []string // what a command line may begin with
	for _, c := range p.Commands {
		first = append(first, c.Words...)
		if c.Words == nil {
			first = append(first, c.options()...)
		}
	}
	if p.Prefix != nil {
		first = append(first, p.Prefix.Names...)
	}
	if p.Prefix != nil {
		say("  if [ \"$COMP_CWORD\" -lt \"$at\" ]; then\n    case \"$prev\" in\n")
		p.Prefix.answer(say, name)
		say("    esac\n    return\n  fi\n")
	}
	say("  if [ \"$COMP_CWORD\" -eq \"$at\" ] && [ -z \"$glue\" ]; then offer=%q\n  else case \"${COMP_WORDS[at]}\" in\n", strings.Join(first, " "))
	for _, c := range slices.SortedStableFunc(slices.Values(p.Commands), func(x, y Command) int { return min(len(y.Words), 1) - min(len(x.Words), 1) }) {
		pattern := "*"
		if c.Words != nil {
			pattern = strings.Join(c.Words, "|")
		}
		say("  %s)\n    case \"$prev\" in\n", pattern)
		for i := range c.Flags {
			c.Flags[i].answer(say, name)
		}
		say("    *) offer=%q ;;\n    esac ;;\n", strings.Join(c.options(), " "))
	}
	say("  esac; fi\n  COMPREPLY=($(compgen -P \"$glue\" -W \"$offer\" -- \"$cur\"))\n}\ncomplete -F %s %s\n", name, p.Name)
	return b.String()
}

// options are the words that may follow a command.
func (c *Command) options() []string {
	words := slices.Clone(c.Args)
	for _, f := range c.Flags {
		words = append(words, f.Names...)
	}
	return words
}

// answer says what follows the flag, if anything does.
func (f *Flag) answer(say func(string, ...any), name string) {
	pattern := strings.Join(f.Names, "|")
	switch f.Value.kind {
	case "words":
		say("    %s) offer=%q ;;\n", pattern, strings.Join(f.Value.words, " "))
	case "files":
		say("    %s) %s_files; return ;;\n", pattern, name)
	case "interfaces":
		say("    %s) offer=\"$(cd /sys/class/net && echo *)\" ;;\n", pattern)
	case "unknown":
		say("    %s) return ;;\n", pattern)
	}
}
