package e2e

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"weir/internal/lab"
	"weir/internal/testnet"
	"weir/lb"
)

// TestTheFirstPacketsFindTheWay: the servers' MAC addresses are known, and the service is served, before anybody hears of its
// address; and before it has an address nobody is refused.
func TestTheFirstPacketsFindTheWay(t *testing.T) {
	for _, mode := range lab.Modes {
		t.Run(mode.String(), func(t *testing.T) {
			d := newLab(t, arms["two arms"])
			web := service(lb.TCP, mode, 8000, lab.HTTPAltPort, 1, 1, 1)
			echo := service(lb.UDP, mode, 8007, lab.EchoAltPort, 1, 1, 1)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			first := make(chan error, 1)
			go func() { // a client that tries from before weir is there until it is answered, by whom ever
				for {
					try, end := context.WithTimeout(ctx, 100*time.Millisecond)
					c, err := d.Client.DialContext(try, "tcp", web.VIP.String())
					end()
					switch {
					case err == nil:
						c.Close()
						first <- nil
						return
					case errors.Is(err, syscall.ECONNREFUSED) || ctx.Err() != nil:
						first <- err
						return
					}
				}
			}()
			d.start([]lab.Service{echo, web})
			if err := <-first; err != nil {
				t.Errorf("the first answer a client got: %v", err)
			}
			d.wantTally(t, echo, 30, d.Echoes(t.Context(), echo.VIP, 30))
		})
	}
}

func TestAnInterfaceThatGoesEndsWeir(t *testing.T) {
	d := newLab(t, arms["two arms"])
	d.start(everyMode(8000, lab.HTTPAltPort))
	p := d.weir
	d.weir = nil
	if out, err := d.Director.Run("ip", "link", "del", d.Back.Name); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := p.Wait(10 * time.Second); err == nil {
		t.Error("exit status 0, want a supervisor to see that something is wrong")
	}
	if !strings.Contains(p.Output(), "weir: interface "+d.Back.Name+" is gone") {
		t.Errorf("weir wrote:\n%s", p.Output())
	}
	if left := d.added(); len(left) > 0 {
		t.Errorf("weir left addresses: %s", left)
	}
}

func TestReceiveQueuesWithoutOnesToTransmitAreRefused(t *testing.T) {
	n := testnet.New(t)
	host := n.Namespace("host")
	for _, args := range [][]string{
		{"link", "add", "uneven0", "numrxqueues", "2", "numtxqueues", "1", "type", "veth", "peer", "name", "uneven1"},
		{"link", "set", "uneven0", "up"},
		{"link", "set", "uneven1", "up"},
	} {
		if out, err := host.Run("ip", args...); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	out, err := host.Run(weir, "--interface", "uneven0", "--rule", "-A -t 192.0.2.110:80 -s rr", "--admin-socket", "")
	if err == nil || strings.Count(out, "\n") != 1 || !strings.Contains(out, `--interface "uneven0": has 2 receive queues and 1 to transmit`) {
		t.Errorf("%v: %q", err, out)
	}
}
