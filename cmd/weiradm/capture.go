package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"

	"weir/control/api"
)

var captureNoun = noun{
	name: "capture", args: "-w FILE",
	about: "capture writes packets to a file, as they came and as they went, for tcpdump, tshark and Wireshark (pcapng).",
	long: filterHelp + `What a connection has is asked when the packet has been handled, so a filter takes a connection's packets in both directions, before and
after the rewrite, whichever end it names. Later fragments have no ports, and one-packet services no connections: they are taken by address.

The file's interfaces say which way a packet went: "eth0 in" came by eth0 and was forwarded, "eth0 out" was sent, and "eth0 in no-service" came
and was not forwarded, for that reason.

  weiradm capture --virtual 192.0.2.10:80 -w web.pcapng
  weiradm capture --client 198.51.100.7 -w - | tcpdump -nr -

Packets go on while they are captured; what cannot be written as fast as it comes is left out, and counted. It ends at the first of
--count, --bytes, --seconds and ^C; the file is whole then. Only one capture can be under way.
`,
	flags: func(fs *pflag.FlagSet) func(*program, []string) error {
		filter := filterFlags(fs)
		file := fs.StringP("write", "w", "", "`FILE` to write; -: standard output")
		q := api.CaptureQuery{}
		fs.IntVarP(&q.Count, "count", "c", api.DefaultCount, "end after `N` frames")
		fs.Int64Var(&q.Bytes, "bytes", api.DefaultBytes, "end after `N` bytes of frames")
		fs.IntVar(&q.Seconds, "seconds", api.DefaultSeconds, "end after `N` seconds, 86400 at most")
		fs.IntVarP(&q.Snap, "snaplen", "s", 0, "only the first `N` bytes of each frame, 14 and more; 0: all")
		asJSON := jsonFlag(fs)
		return func(p *program, args []string) error {
			if err := noArgs(args); err != nil {
				return err
			}
			var err error
			if q.Filter, err = filter(); err != nil {
				return err
			}
			for name, n := range map[string]int64{"count": int64(q.Count), "bytes": q.Bytes, "seconds": int64(q.Seconds)} {
				if n == 0 {
					return usage("--%s 0: allowed: 1 and more", name)
				}
			}
			if err := q.Check(); err != nil {
				return usage("--%w", err)
			}
			return p.capture(q, *file, *asJSON)
		}
	},
}

// captured is what capture --json prints.
type captured struct {
	File string `json:"file"`
	api.Captured
}

func (p *program) capture(q api.CaptureQuery, path string, asJSON bool) error {
	var out io.Writer
	switch f, isFile := p.stdout.(*os.File); {
	case path == "":
		return usage("--write is missing: -w FILE, or -w - to give it to another program")
	case path != "-":
		fresh := &freshFile{path: path}
		defer fresh.Close()
		out = fresh
	case asJSON:
		return usage("--json prints where -w - writes")
	case isFile && isTerminal(f):
		return usage("-w -: standard output is a terminal: give it to another program, as | tcpdump -nr -")
	default:
		out = p.stdout
	}
	if p.progress {
		fmt.Fprintf(p.stderr, "capturing to %s, for %d seconds at most; ^C ends it\n", path, q.Seconds)
	}
	done, err := p.client.Capture(p.ctx, q, out)
	if fresh, ok := out.(*freshFile); ok {
		err = errors.Join(err, fresh.Close())
	}
	if err != nil {
		return err
	}
	if asJSON {
		return p.printJSON(captured{path, done})
	}
	fmt.Fprintf(p.stderr, "%d frames captured (%s)", done.Frames, map[string]string{
		"count": "--count is reached", "bytes": "--bytes is reached", "time": "--seconds are over", "reader": "interrupted"}[done.Ended])
	if done.Lost > 0 {
		fmt.Fprintf(p.stderr, ", %d lost: they came faster than they could be written; narrow the filter, or --snaplen", done.Lost)
	}
	fmt.Fprintln(p.stderr)
	return nil
}

// freshFile makes its file with the first byte: what is refused leaves an older file as it was. Packets are for their owner's eyes.
type freshFile struct {
	path string
	file *os.File
}

func (f *freshFile) Write(b []byte) (n int, err error) {
	if f.file == nil {
		if f.file, err = os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
			return 0, err
		}
	}
	return f.file.Write(b)
}

func (f *freshFile) Close() error {
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	f.file = nil
	return err
}
