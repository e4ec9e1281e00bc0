package control_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"weir/control"
	"weir/internal/testpkt"
	"weir/lb"
)

var (
	drainKey = lb.ServiceKey{Proto: lb.TCP, Addr: lb.MustParseAddr("192.0.2.10"), Port: 80}
	drained  = lb.MustParseAddr("10.0.0.2")
)

func drainRules(persist, weight string) []string {
	return []string{"-A -t 192.0.2.10:80 -s rr " + persist,
		"-a -t 192.0.2.10:80 -r 10.0.0.2:80 -m -w " + weight, "-a -t 192.0.2.10:80 -r 10.0.0.3:80 -m -w 0"}
}

// drain starts to wait for the server, with 10 minutes' time at most.
func drain(t *testing.T, d *director) <-chan error {
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	go func() {
		defer cancel()
		done <- d.store.AwaitIdle(ctx, drainKey, drained, 80)
	}()
	return done
}

// waits fails if the wait is over already.
func waits(t *testing.T, done <-chan error) {
	t.Helper()
	time.Sleep(time.Second)
	synctest.Wait()
	select {
	case err := <-done:
		t.Fatalf("the wait is over: %v", err)
	default:
	}
}

func TestDrainWaitsForConnectionsAndTemplates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDirector(t, 1, drainRules("-p 100", "1")...)
		if c, ok := d.store.Connections(drainKey, drained, 80); !ok || c != (control.Connections{}) {
			t.Errorf("a server without connections: %+v, %v", c, ok)
		}
		d.client(testpkt.TCP(from(1), vip, testpkt.SYN))
		d.client(testpkt.TCP(from(1), vip, testpkt.ACK))
		if c, _ := d.store.Connections(drainKey, drained, 80); c != (control.Connections{Active: 1, Persistent: 1, Named: 2}) {
			t.Errorf("with one connection: %+v", c)
		}
		d.apply(drainRules("-p 100", "0")...)
		done := drain(t, d)
		waits(t, done)
		d.client(testpkt.TCP(from(1), vip, testpkt.ACK)) // it goes on meanwhile
		d.client(testpkt.TCP(from(1), vip, testpkt.RST))
		d.sleep(11)
		if c, _ := d.store.Connections(drainKey, drained, 80); c != (control.Connections{Persistent: 1, Named: 1}) {
			t.Errorf("after it: %+v", c)
		}
		waits(t, done)
		d.sleep(100)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestDrainEndsAtTheDeadlineAndSaysWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDirector(t, 1, drainRules("", "1")...)
		d.client(testpkt.TCP(from(1), vip, testpkt.SYN))
		d.apply(drainRules("", "0")...)
		began := time.Now()
		err := <-drain(t, d)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1 active and 0 inactive") || time.Since(began) != 10*time.Minute {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

func TestDrainEndsWhenSomebodyElseDecidesOtherwise(t *testing.T) {
	for name, row := range map[string]struct {
		rules []string
		want  error
	}{
		"the server gets weight again": {drainRules("", "3"), control.ErrWeight},
		"the server is removed":        {drainRules("", "0")[:1], control.ErrNoServer},
		"the service is removed":       {[]string{"-A -u 192.0.2.10:80"}, control.ErrNoServer},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDirector(t, 1, drainRules("", "1")...)
				d.client(testpkt.TCP(from(1), vip, testpkt.SYN))
				d.apply(drainRules("", "0")...)
				done := drain(t, d)
				waits(t, done)
				d.apply(row.rules...)
				if err := <-done; !errors.Is(err, row.want) || !strings.Contains(err.Error(), "10.0.0.2:80") {
					t.Error(err)
				}
			})
		})
	}
}
