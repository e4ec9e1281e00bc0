// Command weiradm is how an operator speaks to a running weir: ipvsadm's grammar, and nouns that only look.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"weir/control/api"
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

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	p := program{
		ctx: ctx, env: os.Getenv, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		progress: isTerminal(os.Stderr),
	}
	p.suspend = suspend
	if term := os.Getenv("TERM"); isTerminal(os.Stdout) && term != "" && term != "dumb" {
		p.terminal = os.Stdout
	}
	status := p.run(os.Args[1:])
	cancel()
	os.Exit(status)
}

// suspend stops this process and returns when it goes on, which SIGCONT tells: kill may return before the stop has reached this thread.
func suspend() {
	on := make(chan os.Signal, 1)
	signal.Notify(on, unix.SIGCONT)
	defer signal.Stop(on)
	if unix.Kill(os.Getpid(), unix.SIGSTOP) == nil {
		<-on
	}
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// program is one call of weiradm: a function of its environment, arguments and input.
type program struct {
	ctx            context.Context
	env            func(string) string
	stdin          io.Reader
	stdout, stderr io.Writer
	progress       bool     // stderr is a terminal: say how far a long -R has come
	terminal       *os.File // stdout, when it is a terminal that can move its cursor
	suspend        func()   // stops until the shell lets it go on

	client *api.Client
}

// Exit statuses of the nouns. ipvsadm's grammar has its own: 1 and 2 and 255, see ipvsadm.Error.
const (
	exitDone  = 0
	exitFail  = 1
	exitUsage = 2
)

func (p *program) run(args []string) int {
	socket, args, err := socketOf(args, p.env("WEIR_SOCKET"))
	if err != nil {
		fmt.Fprintln(p.stderr, "weiradm:", err)
		return exitUsage
	}
	p.client = api.NewClient(socket)
	defer p.client.Close()
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return p.grammar(args)
	}
	return p.noun(args[0], args[1:])
}

// socketOf takes --socket PATH from the front of a command line: ipvsadm's grammar behind it has no such word.
func socketOf(args []string, env string) (string, []string, error) {
	socket := env
	if socket == "" {
		socket = api.DefaultSocket
	}
	if len(args) > 0 {
		if path, ok := strings.CutPrefix(args[0], "--socket="); ok && path != "" {
			return path, args[1:], nil
		}
		if args[0] == "--socket" || args[0] == "--socket=" {
			if len(args) < 2 || args[0] != "--socket" || args[1] == "" {
				return "", nil, fmt.Errorf("--socket: missing its path: weiradm --socket %s -Ln", api.DefaultSocket)
			}
			return args[1], args[2:], nil
		}
	}
	return socket, args, nil
}

// failed reports an error of a noun.
func (p *program) failed(err error) int {
	fmt.Fprintln(p.stderr, "weiradm:", err)
	return exitFail
}
