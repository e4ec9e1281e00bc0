package ipvsadm

import "slices"

// Usage is a command of the grammar with the options that it takes: for those who help people type it.
type Usage struct {
	Op      Op
	Command Spelling
	Options []Spelling
}

// Spelling is one word of the grammar.
type Spelling struct {
	Long  string // without its dashes
	Short string // one letter; empty: none
	Value bool   // a value follows, or may follow
}

// Usages lists the whole grammar, each command in every spelling, in the order of its options.
func Usages() []Usage {
	var all []Usage
	for i := range words {
		w := &words[i]
		if w.op == 0 {
			continue
		}
		u := Usage{Op: w.op, Command: w.spelling()}
		takes := commands[w.op].needs | commands[w.op].takes | commands[w.op].takesOne
		if takes.has(optService) {
			takes |= set(optIPv6)
		}
		if w.op == OpList {
			takes |= set(optSort)
		}
		for k := range words {
			if o := &words[k]; o.op == 0 && takes.has(o.opt) {
				u.Options = append(u.Options, o.spelling())
			}
		}
		all = append(all, u)
	}
	return all
}

func (w *word) spelling() Spelling {
	s := Spelling{Long: w.long, Value: w.arg != noArgument}
	if w.short != 0 {
		s.Short = string(rune(w.short))
	}
	return s
}

// Names returns the spellings as they are typed, the short one first.
func (s Spelling) Names() []string {
	names := []string{"-" + s.Short, "--" + s.Long}
	return slices.DeleteFunc(names, func(n string) bool { return n == "-" || n == "--" })
}
