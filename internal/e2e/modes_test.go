package e2e

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
	"time"

	"weir/internal/lab"
	"weir/internal/testpkt"
	"weir/lb"
)

const bulkBytes = 8 << 20

func TestEveryModeByEveryWay(t *testing.T) {
	for name, plan := range arms {
		t.Run(name, func(t *testing.T) {
			d := newLab(t, plan)
			serveEchoes(t, d)
			bulk := serveBulk(t, d, bulkBytes)
			var all []lab.Service
			web, echo, sizes, streams := map[lb.Mode]lab.Service{}, map[lb.Mode]lab.Service{}, map[lb.Mode]lab.Service{}, map[lb.Mode]lab.Service{}
			for _, mode := range lab.Modes {
				// Nothing listens on 8000 and 8007: where a mode translates ports, it has to.
				web[mode] = service(lb.TCP, mode, 8000, lab.HTTPAltPort, 1, 2, 3)
				echo[mode] = service(lb.UDP, mode, 8007, lab.EchoAltPort, 5, 0, 1)
				sizes[mode] = service(lb.UDP, mode, 8008, echoPort, 1, 1, 1)
				streams[mode] = service(lb.TCP, mode, 8001, bulkPort, 1, 1, 1)
				all = append(all, web[mode], echo[mode], sizes[mode], streams[mode])
			}
			d.start(all)
			for _, mode := range lab.Modes {
				t.Run(mode.String(), func(t *testing.T) {
					d.wantTally(t, web[mode], 100, d.Requests(t.Context(), web[mode].VIP, 100))
					d.wantTally(t, echo[mode], 100, d.Echoes(t.Context(), echo[mode].VIP, 100))
					t.Run("frames of every size", func(t *testing.T) { wantEverySize(t, d, sizes[mode].VIP) })
					t.Run("bulk both ways", func(t *testing.T) { wantBulk(t, d, streams[mode].VIP, bulk) })
				})
			}
		})
	}
}

// wantEverySize sends a datagram in a frame of every size and compares the echo. The sender knows of no smaller path, and sets DF.
func wantEverySize(t *testing.T, d *director, to netip.AddrPort) {
	c, err := d.Client.Dial("udp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	headers := 14 + 20 + 8
	if to.Addr().Is6() {
		headers += 20
	}
	b := make([]byte, 2048)
	for size := max(60, headers+1); size <= 1514; size++ {
		want := testpkt.Pattern(size - headers)
		c.SetDeadline(time.Now().Add(2 * time.Second))
		if _, err := c.Write(want); err != nil {
			t.Fatalf("frame of %d bytes: %v", size, err)
		}
		n, err := c.Read(b)
		if err != nil {
			t.Fatalf("frame of %d bytes: %v", size, err)
		}
		if !bytes.Equal(b[:n], want) {
			t.Fatalf("frame of %d bytes: the echo of %d bytes differs", size, n)
		}
	}
}

// wantBulk exchanges streams on three connections at once, one to each server.
func wantBulk(t *testing.T, d *director, to netip.AddrPort, servers <-chan error) {
	const n = 3
	clients := make(chan error, n)
	for range n {
		go func() {
			c, err := d.Client.Dial("tcp", to.String())
			if err == nil {
				c.SetDeadline(time.Now().Add(time.Minute))
				err = errors.Join(exchange(c, 'C', 'S', bulkBytes), c.Close())
			}
			clients <- err
		}()
	}
	opened := 0
	for range n {
		if err := <-clients; err != nil {
			t.Errorf("client: %v", err)
		} else {
			opened++
		}
	}
	for range opened {
		if err := <-servers; err != nil {
			t.Error(err)
		}
	}
}

func TestWeightsAreFollowedExactly(t *testing.T) {
	d := newLab(t, arms["two arms"])
	var all []lab.Service
	for i, weights := range [][]int{{1, 2, 3}, {0, 1, 0}, {4, 2, 0}, {100, 1, 3}} {
		// Not NAT, where the client's port must differ from those of all connections to the same server, whatever their service.
		s := service(lb.TCP, lb.FULLNAT, uint16(8100+i), lab.HTTPPort, weights...)
		all = append(all, s)
		s.Scheduler = "rr"
		s.VIP = netip.AddrPortFrom(s.VIP.Addr(), uint16(8200+i))
		all = append(all, s)
	}
	d.start(all)
	for _, s := range all {
		d.wantTally(t, s, 100, d.Requests(t.Context(), s.VIP, 100))
	}
}
