package ipvsadm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// Bounds of a rules file. Ten thousand services of a hundred servers are a million lines.
const (
	maxLine     = 4096    // bytes; the longest rule there can be is a tenth of that
	maxRules    = 2 << 20 // lines that hold a rule
	maxProblems = 100     // then reading stops: it is no rules file
)

// ParseFile reads rules, one a line, as ParseLine does; blank lines are skipped, and what follows a '#' that begins a word.
// It returns the commands of all good lines, each with "name:line" as its Source, and every problem (100 at most). Lines that
// are no rules (-L, -S, -R, ...) and lines of more than 4,096 bytes are problems; of the latter nothing is kept in memory.
// Errors of r and the end of what is read for too many rules or problems are the last problem.
func ParseFile(name string, r io.Reader) (rules []Command, problems []error) {
	return parseFile(name, r, etcServices())
}

func parseFile(name string, r io.Reader, names *serviceNames) (rules []Command, problems []error) {
	in := bufio.NewReaderSize(r, maxLine)
	for n := 1; ; n++ {
		line, tooLong, err := readLine(in)
		where := fmt.Sprintf("%s:%d", name, n)
		report := func(err error) { problems = append(problems, err) }
		line = uncomment(line)
		switch {
		case tooLong:
			report(&Error{Status: 2, Where: where, Text: fmt.Sprintf("the line is longer than %d bytes", maxLine)})
		case len(split(line)) > 0:
			c, err := parseLine(line, names)
			c.Source = where
			if err == nil {
				err = c.notRule()
			}
			if e := (*Error)(nil); errors.As(err, &e) {
				e.Where = where
				report(e)
			} else {
				rules = append(rules, c)
			}
		}
		switch {
		case err == io.EOF:
			return rules, problems
		case err != nil:
			return rules, append(problems, fmt.Errorf("%s: %w", where, err))
		case len(rules) == maxRules:
			return rules, append(problems, fmt.Errorf("%s: more than %d rules", where, maxRules))
		case len(problems) == maxProblems-1:
			return rules, append(problems, fmt.Errorf("%s: not read further: too many problems", where))
		}
	}
}

// readLine returns the next line without its end; of one that is too long, nothing. It may come with an error.
func readLine(in *bufio.Reader) (line string, tooLong bool, err error) {
	for {
		part, err := in.ReadSlice('\n')
		if err == bufio.ErrBufferFull {
			tooLong = true
			continue
		}
		if tooLong {
			return "", true, err
		}
		return string(part), false, err
	}
}

// uncomment cuts a line at the first '#' that begins a word.
func uncomment(line string) string {
	for i := 0; i < len(line); i++ {
		if line[i] == '#' && (i == 0 || isSpace(rune(line[i-1]))) {
			return line[:i]
		}
	}
	return line
}

// notRule tells why a command cannot stand among rules.
func (c Command) notRule() error {
	if c.Op.IsRule() {
		return nil
	}
	if err := c.Unsupported(); err != nil {
		return err
	}
	text := fmt.Sprintf("%s is no rule; rules are -A -E -D -C -a -e -d --set", c.Op)
	return &Error{Status: 2, Text: text, Where: c.Source}
}
