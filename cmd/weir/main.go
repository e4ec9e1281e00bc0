// Command weir is the director: it takes the packets of virtual services from AF_XDP sockets and brings them to real servers.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// version is set by the build (-ldflags -X main.version=...).
var version string

func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

// Exit statuses: a command line that says nothing sensible is not the same as a host that cannot do what it says.
const (
	exitDone  = 0
	exitFail  = 1
	exitUsage = 2
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// gcPercent is how much garbage there may be beside what is in use, unless the environment says (GOGC). Workers make none, so all of it is rules and
// their changes: with 100,000 servers a collection marks 100 MB for a few hundred milliseconds of CPU time, and those with which the heap grows as rules
// are loaded were a sixth of the loading. The connection table, which is most of weir's memory, is not in the heap.
const gcPercent = 200

// run is the command as a function of its arguments.
func run(args []string, stdout, stderr io.Writer) int {
	c, err := parse(args, stdout)
	if errors.Is(err, errHelp) {
		return exitDone
	}
	if err != nil {
		complain(stderr, err)
		return exitUsage
	}
	log := newLogger(stderr, c)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	// Signals are caught before anything is attached, so that whatever was done is undone.
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)

	d, err := start(c, log)
	if err != nil {
		complain(stderr, err)
		return exitFail
	}
	status := exitDone
	if err := d.serve(stop, reload); err != nil {
		complain(stderr, err)
		status = exitFail
	}
	if err := d.close(); err != nil {
		complain(stderr, err)
		status = exitFail
	}
	d.summary()
	return status
}

// complain prints every error joined in err on a line of its own.
func complain(w io.Writer, err error) {
	for _, e := range flatten(err) {
		fmt.Fprintln(w, "weir:", e)
	}
}

// flatten lists the errors that errors.Join put together.
func flatten(err error) []error {
	many, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var list []error
	for _, e := range many.Unwrap() {
		list = append(list, flatten(e)...)
	}
	return list
}

func newLogger(w io.Writer, c *config) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.logLevel}
	if c.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
