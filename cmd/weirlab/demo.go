package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"weir/internal/lab"
	"weir/internal/testnet"
)

// demo shows every mode and prints the table. Its error is the first thing that is wrong with it.
func demo(ctx context.Context, weir string, versions []int, stdout, stderr io.Writer) error {
	begin := time.Now()
	p := newProgress(stderr)
	var rows []lab.Row
	err := testnet.Run(func(r testnet.Reporter) (err error) {
		rows, err = lab.Demo(ctx, r, weir, versions, p.say)
		p.say("cleaning up")
		return err
	})
	p.end()
	if len(rows) > 0 {
		lab.Print(stdout, rows)
	}
	for i := range rows {
		if err == nil {
			err = rows[i].Problem()
		}
	}
	if err == nil {
		over := ""
		if len(versions) == 2 {
			over = " over IPv4 and IPv6"
		}
		fmt.Fprintf(stdout, "\nAll as it should be: %d modes%s in %.1f s.\n", len(lab.Modes), over, time.Since(begin).Seconds())
	}
	return err
}

// progress tells a person what the program is at: in one line that changes on a terminal, in plain lines elsewhere.
type progress struct {
	w        io.Writer
	terminal bool
}

func newProgress(w io.Writer) *progress {
	p := &progress{w: w}
	if f, ok := w.(*os.File); ok {
		_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
		p.terminal = err == nil
	}
	return p
}

// eraseLine goes to the line's beginning and clears it (ECMA-48 EL).
const eraseLine = "\r\x1b[K"

func (p *progress) say(what string) {
	if p.terminal {
		fmt.Fprint(p.w, eraseLine, what)
	} else {
		fmt.Fprintln(p.w, what)
	}
}

func (p *progress) end() {
	if p.terminal {
		fmt.Fprint(p.w, eraseLine)
	}
}
