// Command weirlab shows weir at work on one machine: a client, a director and three servers as network namespaces.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

const usage = `weirlab shows weir at work on this machine, in a network of namespaces of its own: a client, a director that runs
weir on AF_XDP, and three real servers. Nothing outside of those namespaces is touched; it needs root.

Usage: weirlab [flags] demo | up | down
       weirlab bench [flags]
       weirlab changes [flags]

  demo   for each mode (DR, NAT, FULLNAT, TUN): 1,000 HTTP requests on fresh connections, a download of 64 MiB whose
         SHA-256 is compared, and 1,000 UDP echoes from distinct ports, over servers of the weights 1, 2 and 3.
         Prints a table of what came beside what should have, and ends with status 1 if they differ. Takes some
         seconds and leaves nothing behind, whatever ends it. --family 6 does it over IPv6, --family both over each.
  up     keeps such a network standing, with weir running and one service for each mode, and prints what to try by
         hand: curl, tcpdump, ip netns exec
  down   removes it
  bench  measures weir beside other forwarders; see weirlab bench --help
  changes
         measures how weir takes changes and big listings while it forwards; see weirlab changes --help

Flags:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	status := 0
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "weirlab: %v\n", err)
		status = 1
		if errors.As(err, new(usageError)) {
			status = 2
		}
	}
	os.Exit(status)
}

// usageError is a mistake in the command line.
type usageError struct{ error }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 && args[0] == "bench" {
		return bench(ctx, args[1:], stdout, stderr)
	}
	if len(args) > 0 && args[0] == "changes" {
		return changes(ctx, args[1:], stdout, stderr)
	}
	fs, given := labFlags()
	if err := fs.Parse(args); err != nil {
		return usageError{fmt.Errorf("%w (see weirlab --help)", err)}
	}
	if given.help {
		fmt.Fprint(stdout, usage, fs.FlagUsages())
		return nil
	}
	if fs.NArg() != 1 {
		return usageError{errors.New("want one of: demo, up, down, bench, changes (see weirlab --help)")}
	}
	command := fs.Arg(0)
	switch {
	case given.versions() == nil:
		return usageError{fmt.Errorf("--family %q: allowed: 4, 6, both", given.family)}
	case fs.Changed("family") && command != "demo":
		return usageError{errors.New("--family is for demo only")}
	}
	switch command {
	case "demo", "up", "down", holdCommand:
	default:
		return usageError{fmt.Errorf("%q: want one of: demo, up, down, bench, changes (see weirlab --help)", command)}
	}
	if os.Geteuid() != 0 {
		return errors.New("network namespaces and AF_XDP need root: try sudo weirlab " + command)
	}
	if command == "down" {
		return down(stdout)
	}
	path, err := findWeir(given.weir)
	if err != nil {
		return err
	}
	switch command {
	case "demo":
		return demo(ctx, path, given.versions(), stdout, stderr)
	case "up":
		return up(path, stdout)
	default:
		return hold(ctx, path)
	}
}

// findWeir returns the path of weir: the one named, or the one beside this program.
func findWeir(named string) (string, error) {
	path := named
	if path == "" {
		self, err := os.Executable()
		if err != nil {
			return "", err
		}
		path = filepath.Join(filepath.Dir(self), "weir")
	}
	if st, err := os.Stat(path); err != nil || st.IsDir() || st.Mode()&0o111 == 0 {
		return "", fmt.Errorf("%s is not weir: build it there, or name it with --weir", path)
	}
	return filepath.Abs(path)
}
