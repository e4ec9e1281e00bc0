package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

var topNoun = noun{
	name: "top", about: "top shows what services and servers carry, live, the busiest first.",
	long: `Press q to leave, ^Z to stop for a while. On a terminal that cannot move its cursor, and into a file or a pipe, each round is printed below the one before.
With --json each round is a line: services as in GET /v1/services, with the rates of that round.
Of thousands of services a round takes long; rounds are less often then, so that they take a fifth of the time at most.
`,
	flags: func(fs *pflag.FlagSet) func(*program, []string) error {
		interval := fs.Duration("interval", time.Second, "`TIME` between two rounds, 100ms to 1m")
		rounds := fs.Int("rounds", 0, "leave after `N` rounds; 0: never")
		asJSON := jsonFlag(fs)
		return func(p *program, args []string) error {
			switch {
			case len(args) > 0:
				return noArgs(args)
			case *interval < 100*time.Millisecond || *interval > time.Minute:
				return usage("--interval %s: allowed: 100ms to 1m", *interval)
			case *rounds < 0:
				return usage("--rounds %d: allowed: 0 and more", *rounds)
			}
			v := view(plainView{p})
			if *asJSON {
				v = jsonView{p}
			} else if p.terminal != nil {
				t, err := newTerminalView(p)
				if err != nil {
					return err
				}
				defer t.close()
				v = t
			}
			return p.top(v, *interval, *rounds)
		}
	},
}

// view shows rounds.
type view interface {
	show(b *board) error
	// events delivers when the screen must be drawn again, and is closed when the user wants to leave.
	events() <-chan struct{}
}

// topShare is the part of the time, one in so many, that a round may take: of 10,000 services it takes a second, on CPUs that workers use too.
const topShare = 5

// top asks, adds up and shows, until told to leave.
func (p *program) top(v view, interval time.Duration, rounds int) error {
	var b board
	for round := 0; ; round++ {
		began := time.Now()
		services, err := p.client.Services(p.ctx)
		if p.ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		b.add(services, time.Now())
		took := time.Since(began)
		if round > 0 { // one round alone has no rates
			if err := v.show(&b); err != nil || round == rounds {
				return err
			}
		}
		tick := time.After(max(interval, topShare*took) - took)
		for waiting := true; waiting; {
			select {
			case <-tick:
				waiting = false
			case _, more := <-v.events():
				if !more {
					return nil
				}
				if err := v.show(&b); err != nil {
					return err
				}
			case <-p.ctx.Done():
				return nil
			}
		}
	}
}

// plainView is for terminals and files that only grow.
type plainView struct{ *program }

func (v plainView) events() <-chan struct{} { return nil }
func (v plainView) show(b *board) error {
	width := 120
	if f, ok := v.stdout.(*os.File); ok {
		width, _ = windowOf(f, width, 0)
	}
	_, err := fmt.Fprintln(v.stdout, b.screen(width, 0, asciiSparks))
	return err
}

// windowOf is the size of a terminal, or what it is otherwise.
func windowOf(f *os.File, width, height int) (int, int) {
	if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 && size.Row > 0 {
		return int(size.Col), int(size.Row)
	}
	return width, height
}

type jsonView struct{ *program }

func (v jsonView) events() <-chan struct{} { return nil }
func (v jsonView) show(b *board) error     { return writeJSONLine(v.stdout, b.latest) }

// terminalView draws on the whole of a terminal, and gives it back as it was.
type terminalView struct {
	*program
	out    *os.File
	sparks string
	before *unix.Termios // of keys
	keys   *os.File      // nil: there is no terminal to type at
	redraw chan struct{} // closed at q
	resize chan os.Signal
	pause  chan os.Signal
	done   chan struct{}

	mu sync.Mutex // held while something is written to out, and while the program is stopped
}

func newTerminalView(p *program) (*terminalView, error) {
	v := &terminalView{program: p, out: p.terminal, sparks: asciiSparks, redraw: make(chan struct{}, 1), resize: make(chan os.Signal, 1),
		pause: make(chan os.Signal, 1), done: make(chan struct{})}
	if saysUTF8(p.env) {
		v.sparks = unicodeSparks
	}
	// Keys come one by one and are not shown. Without a terminal to type at, ^C ends it all the same.
	if keys, ok := p.stdin.(*os.File); ok {
		if t, err := unix.IoctlGetTermios(int(keys.Fd()), unix.TCGETS); err == nil {
			v.before, v.keys = t, keys
		}
	}
	if err := v.enter(); err != nil {
		return nil, err
	}
	signal.Notify(v.resize, unix.SIGWINCH)
	signal.Notify(v.pause, unix.SIGTSTP)
	go v.watch()
	return v, nil
}

// saysUTF8 reports whether the locale's characters are UTF-8 (locale(7): the first of these that is set and not empty).
func saysUTF8(env func(string) string) bool {
	locale := strings.ToLower(cmp.Or(env("LC_ALL"), env("LC_CTYPE"), env("LANG")))
	return strings.Contains(locale, "utf-8") || strings.Contains(locale, "utf8")
}

// enter takes the terminal, leave gives it back.
func (v *terminalView) enter() error {
	if v.before != nil {
		raw := *v.before
		raw.Lflag &^= unix.ICANON | unix.ECHO
		raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 0, 2 // a read ends after 0.2 s, so that the reader can
		if err := unix.IoctlSetTermios(int(v.keys.Fd()), unix.TCSETS, &raw); err != nil {
			return err
		}
	}
	fmt.Fprint(v.out, "\x1b[?1049h\x1b[?25l") // the other screen, no cursor (xterm's ctlseqs)
	return nil
}

func (v *terminalView) leave() {
	fmt.Fprint(v.out, "\x1b[?25h\x1b[?1049l")
	if v.before != nil {
		_ = unix.IoctlSetTermios(int(v.keys.Fd()), unix.TCSETS, v.before)
	}
}

// stopped is ^Z: the shell gets its terminal, and takes it away again with fg.
func (v *terminalView) stopped() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.leave()
	v.suspend()
	_ = v.enter()
}

// watch turns resizes and keys into events.
func (v *terminalView) watch() {
	quit := make(chan struct{})
	if v.keys != nil {
		go func() {
			var key [1]byte
			for {
				select {
				case <-v.done:
					return
				default:
				}
				n, err := unix.Read(int(v.keys.Fd()), key[:])
				if n == 1 && (key[0] == 'q' || key[0] == 'Q') {
					close(quit)
					return
				}
				if err != nil && err != unix.EINTR && err != unix.EAGAIN {
					return
				}
			}
		}()
	}
	for {
		select {
		case <-v.resize:
			v.again()
		case <-v.pause:
			v.stopped()
			v.again()
		case <-quit:
			close(v.redraw)
			return
		case <-v.done:
			return
		}
	}
}

// again has the screen drawn.
func (v *terminalView) again() {
	select {
	case v.redraw <- struct{}{}:
	default:
	}
}

func (v *terminalView) events() <-chan struct{} { return v.redraw }

func (v *terminalView) show(b *board) error {
	width, height := windowOf(v.out, 80, 24)
	v.mu.Lock()
	defer v.mu.Unlock()
	return draw(v.out, b.screen(width, height, v.sparks))
}

// draw writes over what is there, line by line, and clears the rest: nothing flickers.
func draw(w io.Writer, screen string) error {
	text := strings.ReplaceAll(strings.TrimSuffix(screen, "\n"), "\n", "\x1b[K\r\n") // a line end in the last row would scroll
	_, err := io.WriteString(w, "\x1b[H"+text+"\x1b[K\x1b[J")
	return err
}

func (v *terminalView) close() {
	close(v.done)
	signal.Stop(v.resize)
	signal.Stop(v.pause)
	v.leave()
}
