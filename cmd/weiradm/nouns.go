package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// noun is a command that is not ipvsadm's.
type noun struct {
	name, args, about string
	// flags defines the noun's own flags and returns what runs it.
	flags func(fs *pflag.FlagSet) func(p *program, args []string) error
	long  string // more for its help
}

// nouns are all of them, in the order of the help.
func nouns() []noun {
	return []noun{statusNoun, topNoun, connectionsNoun, traceNoun, captureNoun, drainNoun, completionNoun()}
}

// errUsage is a command line that makes no sense; its text says what would.
type errUsage struct{ error }

func usage(format string, args ...any) error { return errUsage{fmt.Errorf(format, args...)} }

// noun runs one of them.
func (p *program) noun(name string, args []string) int {
	all := nouns()
	i := slices.IndexFunc(all, func(n noun) bool { return n.name == name })
	if i < 0 {
		var names []string
		for _, n := range all {
			names = append(names, n.name)
		}
		// ipvsadm answers so to whatever does not begin with a dash, and scripts may know it.
		fmt.Fprintln(p.stderr, "Try `weiradm -h' or 'weiradm --help' for more information.")
		fmt.Fprintf(p.stderr, "weiradm: %q: no such command: it is one of %s, or begins with a dash\n", name, strings.Join(names, ", "))
		return 255
	}
	n := all[i]
	fs, run, help := n.flagSet()
	err := fs.Parse(slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == "->" })) // people write flows so
	switch {
	case err != nil:
		err = errUsage{err}
	case *help:
		n.help(p.stdout, fs)
		return exitDone
	default:
		err = run(p, fs.Args())
	}
	var u errUsage
	var status exit
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &status):
		return int(status)
	case errors.As(err, &u):
		fmt.Fprintf(p.stderr, "weiradm: %s: %v (see weiradm %s --help)\n", name, err, name)
		return exitUsage
	}
	return p.failed(err)
}

func (n *noun) flagSet() (fs *pflag.FlagSet, run func(*program, []string) error, help *bool) {
	fs = pflag.NewFlagSet(n.name, pflag.ContinueOnError)
	fs.SortFlags = false
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	run = n.flags(fs)
	return fs, run, fs.BoolP("help", "h", false, "print this help and exit")
}

func (n *noun) help(w io.Writer, fs *pflag.FlagSet) {
	fmt.Fprintf(w, "%s\n\nUsage: weiradm %s\n", n.about, strings.Join(strings.Fields(n.name+" "+n.args+" [flags]"), " "))
	if n.long != "" {
		fmt.Fprintf(w, "\n%s", n.long)
	}
	fmt.Fprintf(w, "\nFlags:\n%s", strings.ReplaceAll(fs.FlagUsagesWrapped(110), "[=true|false]", "             "))
}

// printJSON prints v, for programs.
func (p *program) printJSON(v any) error {
	e := json.NewEncoder(p.stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func jsonFlag(fs *pflag.FlagSet) *bool { return fs.Bool("json", false, "print JSON, for programs") }

func noArgs(args []string) error {
	if len(args) > 0 {
		return usage("%q: takes flags only", args[0])
	}
	return nil
}
