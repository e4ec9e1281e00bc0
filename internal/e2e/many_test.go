package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"weir/internal/lab"
)

// serveLinesOnly is set for the copies of this program that are servers: client and servers together would need more open files than a
// process is commonly allowed.
const serveLinesOnly = "WEIR_E2E_LINES"

// lineServer gives back every byte, for ever.
func lineServer() {
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", linePort))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("listening")
	for {
		c, err := l.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		go func() {
			defer c.Close()
			io.Copy(c, c)
		}()
	}
}

func TestTenThousandConnectionsAtOnce(t *testing.T) {
	const total = 10_000
	d := newLab(t, arms["two arms"])
	for _, host := range d.Servers {
		p := host.Start("env", serveLinesOnly+"=1", os.Args[0])
		if err := p.WaitOutput("listening", 10*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	services := everyMode(8002, linePort)
	d.start(services)
	conns := make([]net.Conn, total)
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	// many runs f for each connection, some at a time, and fails the test with the first error.
	many := func(what string, f func(i int, s lab.Service) error) {
		t.Helper()
		var wg sync.WaitGroup
		errs := make(chan error, total)
		const workers = 32
		for w := range workers {
			wg.Go(func() {
				for i := w; i < total; i += workers {
					s := services[i%len(services)]
					if err := f(i, s); err != nil {
						errs <- fmt.Errorf("%s: %w", s.Mode, err)
					}
				}
			})
		}
		wg.Wait()
		close(errs)
		if n := len(errs); n > 0 {
			t.Fatalf("%s: %d of %d failed, the first: %v", what, n, total, <-errs)
		}
	}
	many("open", func(i int, s lab.Service) (err error) {
		conns[i], err = d.Client.Dial("tcp", s.VIP.String())
		return err
	})
	for range 2 {
		many("echo", func(i int, s lab.Service) error {
			conns[i].SetDeadline(time.Now().Add(20 * time.Second))
			ask := fmt.Sprintf("connection %d", i)
			if _, err := io.WriteString(conns[i], ask); err != nil {
				return err
			}
			got := make([]byte, len(ask))
			if _, err := io.ReadFull(conns[i], got); err != nil {
				return err
			}
			if string(got) != ask {
				return fmt.Errorf("%q came back as %q", ask, got)
			}
			return nil
		})
	}
}
