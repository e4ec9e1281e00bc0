package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"weir/control/api"
	"weir/ipvsadm"
)

const grammarHelp = `weiradm speaks to a running weir, in ipvsadm's words and a few of its own.

Usage: weiradm [--socket PATH] COMMAND ...

Rules and listings, as ipvsadm(8):
  -A|-E SERVICE [-s SCHEDULER] [-p [SECONDS]] [-M NETMASK] [-b FLAGS] [-o]   add or edit a service
  -D SERVICE                         delete a service
  -C                                 delete all services
  -a|-e SERVICE -r SERVER [-g|-i|-m|-F] [-w WEIGHT] [-x UPPER] [-y LOWER]
        [--tun-type ipip|gue|gre] [--tun-port PORT] [--tun-nocsum|--tun-csum|--tun-remcsum]
                                     add or edit a server
  -d SERVICE -r SERVER               delete a server
  -L|-l [SERVICE] [-n] [-c] [--stats|--rate|--thresholds|--persistent-conn|--tun-info] [--exact] [--nosort]
  -L --timeout                       list; the default when there are no arguments is -L
  -Z [SERVICE]                       zero the counters
  --set TCP TCPFIN UDP               timeouts in seconds, 0 leaves one as it is
  -S [-n]                            print all rules, for -R and for ipvsadm -R
  -R [--atomic]                      read rules from standard input, line by line, or all or none
  -h, --help  -v, -V, --version

  SERVICE  -t ADDRESS:PORT (TCP), -u ADDRESS:PORT (UDP), --sctp-service ADDRESS:PORT, or -f MARK [-6]; IPv6 as [ADDRESS]:PORT
  modes    -g direct routing (default), -i tunnelling, -m NAT, -F both addresses translated (FULLNAT; weir's own)

What only looks, each with --json and --help:
  status                             the whole director on one screen, and what to do about what is wrong
  top                                services and servers live, the busiest first
  connections                        the connection table, by any part of a flow
  trace PROTOCOL SOURCE DESTINATION  where a packet would go, and why; changes nothing
  capture -w FILE                    packets as they came and as they went, for tcpdump and Wireshark
And:
  drain SERVER                       weight 0 wherever it serves, then wait until its connections have ended
  completion bash|zsh|fish           what makes the shell complete these

The socket is --socket, else $WEIR_SOCKET, else ` + api.DefaultSocket + `.
Persistence engines (--pe) and the sync daemon are understood and refused. Exit status: ipvsadm's (0, 1, 2, 255).
`

// grammar runs an ipvsadm command line.
func (p *program) grammar(args []string) int {
	if len(args) == 1 && args[0] == "-V" {
		args = []string{"-v"}
	}
	args, atomic := cutAtomic(args)
	c, err := ipvsadm.Parse(args)
	if err == nil && atomic && c.Op != ipvsadm.OpRestore {
		err = &ipvsadm.Error{Status: 2, Text: "--atomic goes with -R"}
	}
	if err == nil {
		err = p.do(c, args, atomic)
	}
	if err == nil {
		return exitDone
	}
	return p.complain(err)
}

// cutAtomic takes --atomic, which ipvsadm does not know, out of a command line.
func cutAtomic(args []string) ([]string, bool) {
	i := slices.Index(args, "--atomic")
	if i < 0 || !slices.Contains(args, "-R") && !slices.Contains(args, "--restore") {
		return args, false
	}
	return slices.Delete(slices.Clone(args), i, i+1), true
}

// complain prints what ipvsadm would have printed, then, where that does not tell what is wrong, a line that does. It returns
// the exit status.
func (p *program) complain(err error) int {
	var refused *ipvsadm.Error
	var e *api.Error
	var status exit
	switch {
	case errors.As(err, &status):
		return int(status)
	case errors.As(err, &refused):
		e = api.ToError(refused)
	case errors.As(err, &e):
	default:
		fmt.Fprintln(p.stderr, "weiradm:", err)
		return 255
	}
	text := strings.ReplaceAll(e.Text, "ipvsadm", "weiradm")
	fmt.Fprintln(p.stderr, text)
	if detail := e.Error(); detail != strings.TrimSpace(e.Text) {
		fmt.Fprintln(p.stderr, "weiradm:", detail)
	}
	return cmp.Or(e.Status, 255)
}

// do runs a parsed command.
func (p *program) do(c ipvsadm.Command, args []string, atomic bool) error {
	switch c.Op {
	case ipvsadm.OpHelp:
		fmt.Fprint(p.stdout, grammarHelp)
		return nil
	case ipvsadm.OpVersion:
		fmt.Fprintln(p.stdout, "weiradm", buildVersion())
		return nil
	case ipvsadm.OpRestore:
		return p.restore(atomic)
	case ipvsadm.OpList:
		if c.Options.Connections {
			return p.listConnections(c.Options)
		}
		fallthrough
	case ipvsadm.OpSave:
		if len(args) == 0 {
			args = []string{"-L"}
		}
		return p.client.List(p.ctx, args, p.stdout)
	}
	if err := c.Unsupported(); err != nil {
		return err
	}
	_, err := p.client.Change(p.ctx, api.Change{Commands: [][]string{args}})
	return err
}

// listConnections is -L -c.
func (p *program) listConnections(o ipvsadm.Options) error {
	var failed error
	err := ipvsadm.ListConnections(p.stdout, func(yield func(ipvsadm.Connection) bool) {
		for c, err := range p.client.Connections(p.ctx, api.Filter{}) {
			if failed = err; err != nil {
				return
			}
			if !yield(ipvsadm.Connection{Proto: c.Protocol, State: c.State, Expires: time.Duration(c.Expires) * time.Second,
				Client: c.Client, Virtual: c.Virtual, Server: netip.AddrPort(c.Server)}) {
				return
			}
		}
	}, o)
	return errors.Join(failed, err)
}

const (
	// batchLines of -R at most go to weir at once; it is as many as have come while it was busy with those before. A change costs weir a copy of a
	// part of its tables, so many small ones would make a long -R slow.
	batchLines = 1 << 15
	// progressFrom is how many lines have to be done before there is any talk of progress.
	progressFrom = 4000
	maxLine      = 4096
)

// inputLine is a line of -R, or the error that ends the input.
type inputLine struct {
	number int
	words  []string
	err    error
}

// restore is -R: line by line as ipvsadm does it, which goes on after a line that is refused and stops at one it cannot read; with
// atomic all or none.
func (p *program) restore(atomic bool) error {
	lines := make(chan inputLine, batchLines)
	done := make(chan struct{})
	defer close(done)
	go readLines(p.stdin, lines, done)
	r := restoration{program: p, atomic: atomic}
	defer r.progressEnd()
	for l := range lines {
		if l.err != nil {
			if !atomic {
				if err := r.send(); err != nil {
					return err
				}
			}
			return l.err
		}
		r.batch = append(r.batch, l)
		if !atomic && (len(r.batch) == batchLines || len(lines) == 0) {
			if err := r.send(); err != nil {
				return err
			}
		}
	}
	return r.send()
}

// restoration is a -R under way.
type restoration struct {
	*program
	atomic bool
	batch  []inputLine
	sent   int
}

// send has the rules done that have been read.
func (r *restoration) send() error {
	if len(r.batch) == 0 {
		return nil
	}
	change := api.Change{Atomic: r.atomic}
	for _, l := range r.batch {
		change.Commands = append(change.Commands, l.words)
	}
	done, err := r.client.Change(r.ctx, change)
	if err != nil && len(done.Refused) == 0 {
		return err
	}
	for _, refused := range done.Refused {
		e := *refused.Error
		if where := fmt.Sprintf("weiradm: line %d: ", r.batch[refused.Command].number); e.Detail == "" { // weir's own words
			e.Text = where + e.Text
		} else {
			e.Detail = strings.TrimPrefix(where, "weiradm: ") + e.Detail
		}
		status := r.complain(&e)
		if r.atomic {
			err = exit(status)
		} else {
			err = nil
		}
	}
	r.sent += len(r.batch)
	r.batch = r.batch[:0]
	if r.progress && r.sent > progressFrom {
		fmt.Fprintf(r.stderr, "\r%d rules", r.sent)
	}
	return err
}

func (r *restoration) progressEnd() {
	if r.progress && r.sent > progressFrom {
		fmt.Fprintln(r.stderr)
	}
}

// exit is an exit status whose reasons have been printed.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// readLines reads rules until the first that cannot be read.
func readLines(r io.Reader, lines chan<- inputLine, done <-chan struct{}) {
	defer close(lines)
	put := func(l inputLine) bool {
		select {
		case lines <- l:
			return l.err == nil
		case <-done:
			return false
		}
	}
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, maxLine), maxLine)
	n := 0
	for in.Scan() {
		n++
		l := inputLine{number: n, words: ipvsadm.Words(in.Text())}
		if len(l.words) == 0 || strings.HasPrefix(l.words[0], "#") { // what --save writes has a heading
			continue
		}
		_, l.err = ipvsadm.ParseWords(l.words)
		if e := (*ipvsadm.Error)(nil); errors.As(l.err, &e) {
			e.Where = fmt.Sprintf("line %d", n)
		}
		if !put(l) {
			return
		}
	}
	if err := in.Err(); errors.Is(err, bufio.ErrTooLong) {
		put(inputLine{err: fmt.Errorf("line %d: longer than %d bytes", n+1, maxLine-1)})
	} else if err != nil {
		put(inputLine{err: fmt.Errorf("line %d: %w", n+1, err)})
	}
}
