package ipvsadm

import "strings"

// popt reads a command line word by word as the library of that name does, which ipvsadm is linked with (1.19): -Ln is -L -n,
// -w3 is -w=3 is -w 3, --weight=3 is --weight 3; long names are not abbreviated; -- ends the options; all else is left over.
type popt struct {
	args  []string
	next  int    // the word after the one being read
	short string // what remains of a word of short options
	ended bool   // -- was seen
	left  []string
}

// The three things popt can find wrong, in its words.
const (
	poptUnknown    = "unknown option"
	poptNoArgument = "missing argument"
	poptUnwanted   = "option does not take an argument"
)

// step returns the next option and its argument; a nil word at the end; or what is wrong with current.
func (p *popt) step() (w *word, arg string, has bool, wrong string) {
	value, joined := "", false
	if p.short == "" {
		name, ok := p.dashed()
		if !ok {
			return nil, "", false, ""
		}
		if long, isLong := strings.CutPrefix(name, "-"); isLong {
			long, value, joined = strings.Cut(long, "=")
			if w = findLong(long); w == nil {
				return nil, "", false, poptUnknown
			}
		} else {
			p.short = name
		}
	}
	if w == nil {
		if w = findShort(p.short[0]); w == nil {
			return nil, "", false, poptUnknown
		}
		p.short = p.short[1:]
		switch {
		case w.arg != noArgument && p.short != "":
			value, joined = strings.TrimPrefix(p.short, "="), true
			p.short = ""
		case strings.HasPrefix(p.short, "="):
			return nil, "", false, poptUnwanted
		}
	}
	switch {
	case w.arg == noArgument && joined:
		return nil, "", false, poptUnwanted
	case w.arg == noArgument:
		return w, "", false, ""
	case joined:
		return w, value, true, ""
	case p.next < len(p.args) && (w.arg == needsArgument || !strings.HasPrefix(p.args[p.next], "-")):
		p.next++
		return w, p.args[p.next-1], true, ""
	case w.arg == mayHaveArgument:
		return w, "", false, ""
	}
	return nil, "", false, poptNoArgument
}

// dashed goes to the next word that holds options, and returns it without its first dash.
func (p *popt) dashed() (string, bool) {
	for p.next < len(p.args) {
		s := p.args[p.next]
		p.next++
		switch {
		case p.ended || len(s) < 2 || s[0] != '-':
			p.left = append(p.left, s)
		case s == "--":
			p.ended = true
		default:
			return s[1:], true
		}
	}
	return "", false
}

// current returns the word that was read last.
func (p *popt) current() string {
	if p.next == 0 {
		return ""
	}
	return p.args[p.next-1]
}

func findLong(name string) *word {
	for i := range words {
		if words[i].long == name {
			return &words[i]
		}
	}
	return nil
}

func findShort(c byte) *word {
	for i := range words {
		if words[i].short == c && c != 0 {
			return &words[i]
		}
	}
	return nil
}
