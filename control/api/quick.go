package api

import "strings"

// quickChange reads a Change as this package's Client writes it: compact, its words of printable ASCII without escapes. False: it is written in
// another way, or wrong, and encoding/json has to look. A whole configuration is 110,000 commands and more, and takes a tenth of the time so.
func quickChange(body []byte) (c Change, ok bool) {
	text, ok := strings.CutPrefix(string(body), `{"commands":[`)
	if !ok {
		return c, false
	}
	words := make([]string, 0, strings.Count(text, `"`)/2) // never grows: commands are parts of it
	c.Commands = make([][]string, 0, strings.Count(text, `[`))
	for !strings.HasPrefix(text, "]") {
		if len(c.Commands) > 0 {
			if text, ok = strings.CutPrefix(text, ","); !ok {
				return c, false
			}
		}
		first := len(words)
		if words, text, ok = quickWords(words, text); !ok {
			return c, false
		}
		c.Commands = append(c.Commands, words[first:len(words):len(words)])
	}
	switch strings.TrimRight(text[1:], " \t\r\n") {
	case `}`, `,"atomic":false}`:
		return c, true
	case `,"atomic":true}`:
		c.Atomic = true
		return c, true
	}
	return c, false
}

// quickWords appends a list of strings at the beginning of text to words and returns what is behind it.
func quickWords(words []string, text string) (all []string, rest string, ok bool) {
	text, ok = strings.CutPrefix(text, "[")
	for n := 0; ok; n++ {
		if rest, end := strings.CutPrefix(text, "]"); end {
			return words, rest, n > 0
		}
		if n > 0 {
			if text, ok = strings.CutPrefix(text, ","); !ok {
				break
			}
		}
		if text, ok = strings.CutPrefix(text, `"`); !ok {
			break
		}
		end := 0
		for end < len(text) && text[end] != '"' {
			if c := text[end]; c < ' ' || c > '~' || c == '\\' {
				return nil, "", false
			}
			end++
		}
		if end == len(text) {
			break
		}
		words, text = append(words, text[:end]), text[end+1:]
	}
	return nil, "", false
}
