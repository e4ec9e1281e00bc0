package complete

import (
	"fmt"
	"slices"
	"strings"
)

// Fish returns a script for fish: it offers what Bash's does, with what flags are for beside them.
func Fish(p Program) string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	name := "__" + p.Name + "_words"
	// Fish completes --flag=value as one word, and wants all of it from here.
	say(`# Completion of %[1]s's command lines for fish. Made from the flags of %[1]s.
function %[2]s_files
    __fish_complete_path "$argv[2]" | string replace -r -- '^' "$argv[1]"
end
function %[2]s
    set -l words (commandline -opc)
    set -l word (commandline -ct)
    set -l before $words[-1]
    set -l at 2
    set -l glue
    if string match -qr -- '^--[^=]+=' $word
        set before (string replace -r -- '=.*' '' $word)
        set glue $before=
        set word (string replace -- $glue '' $word)
    end
`, p.Name, name)
	var first []string // what a command line may begin with
	for _, c := range p.Commands {
		for _, w := range c.Words {
			first = append(first, offer(w, c.About))
		}
		if c.Words == nil {
			first = append(first, c.offers()...)
		}
	}
	if p.Prefix != nil {
		for _, n := range p.Prefix.Names {
			first = append(first, offer(n, p.Prefix.About))
		}
		say("    if contains -- \"$words[2]\" %s\n        set at 4\n", strings.Join(p.Prefix.Names, " "))
		say("    else if string match -qr -- '^(%s)=' \"$words[2]\"\n        set at 3\n    end\n", strings.Join(p.Prefix.Names, "|"))
		say("    if test (count $words) -eq 2 -a $at -eq 4; or test (count $words) -eq 1 -a -n \"$glue\"\n        switch $before\n")
		p.Prefix.fish(say, name)
		say("        end\n        return\n    end\n")
	}
	say("    if test (math (count $words) + 1) -eq $at -a -z \"$glue\"\n        %s\n        return\n    end\n    switch \"$words[$at]\"\n", list(first))
	for _, c := range slices.SortedStableFunc(slices.Values(p.Commands), func(x, y Command) int { return min(len(y.Words), 1) - min(len(x.Words), 1) }) {
		pattern := "'*'"
		if c.Words != nil {
			pattern = cases(c.Words)
		}
		say("        case %s\n            switch $before\n", pattern)
		for i := range c.Flags {
			c.Flags[i].fish(say, name)
		}
		if offers := c.offers(); len(offers) > 0 {
			say("                case '*'\n                    %s\n", list(offers))
		}
		say("            end\n")
	}
	say("    end\nend\ncomplete -c %s -f -a '(%s)'\n", p.Name, name)
	return b.String()
}

// fish says what follows the flag, if anything does.
func (f *Flag) fish(say func(string, ...any), name string) {
	does := ""
	switch f.Value.kind {
	case "words":
		does = `string replace -r -- '^' "$glue" ` + strings.Join(f.Value.words, " ")
	case "files":
		does = name + `_files "$glue" "$word"`
	case "interfaces":
		does = `string replace -r -- '.*/' "$glue" /sys/class/net/*`
	case "unknown":
		does = "return"
	default:
		return
	}
	say("                case %s\n                    %s\n", cases(f.Names), does)
}

// cases are words to switch by, in quotes: case takes --help for its own.
func cases(words []string) string { return "'" + strings.Join(words, "' '") + "'" }

// offers are the words that may follow a command.
func (c *Command) offers() []string {
	all := slices.Clone(c.Args)
	for _, f := range c.Flags {
		for _, n := range f.Names {
			all = append(all, offer(n, f.About))
		}
	}
	return all
}

// offer is a word with what it is for, as fish wants them.
func offer(word, about string) string {
	if about == "" {
		return word
	}
	return word + "\t" + about
}

// list is a command that prints offers, each on a line.
func list(offers []string) string {
	quoted := make([]string, len(offers))
	for i, o := range offers {
		word, about, _ := strings.Cut(o, "\t")
		quoted[i] = word
		if about != "" {
			quoted[i] = word + `\t'` + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(about) + "'"
		}
	}
	return "printf '%s\\n' " + strings.Join(quoted, " ")
}
