package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// Tally is what the client found out.
type Tally struct {
	PerServer map[string]int     // answers, by server
	Saw       map[netip.Addr]int // answers, by the address the server saw as its client
	Errors    int
	First     error // of the errors
	Bytes     int64 // of answers received
}

func (t *Tally) answer(server string, client netip.Addr, n int64) {
	t.PerServer[server]++
	t.Saw[client]++
	t.Bytes += n
}

func (t *Tally) fail(err error) {
	if t.Errors++; t.First == nil {
		t.First = err
	}
}

// each runs n tasks, some at a time, and adds up what they return. It starts no more when ctx is done.
func each(ctx context.Context, n, atOnce int, task func(i int) (server string, client netip.Addr, bytes int64, err error)) *Tally {
	t := &Tally{PerServer: map[string]int{}, Saw: map[netip.Addr]int{}}
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := make(chan int)
	for range atOnce {
		wg.Go(func() {
			for i := range next {
				server, client, bytes, err := task(i)
				mu.Lock()
				if err != nil {
					t.fail(err)
				} else {
					t.answer(server, client, bytes)
				}
				mu.Unlock()
			}
		})
	}
	for i := range n {
		if ctx.Err() != nil {
			t.fail(ctx.Err())
			break
		}
		next <- i
	}
	close(next)
	wg.Wait()
	return t
}

// httpClient returns a client whose every request is a connection of its own.
func (l *Lab) httpClient() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: l.dial, DisableKeepAlives: true}}
}

// firstPort is the first port that needs no privilege.
const firstPort = 1024

// dial connects from a port that no connection before had. Left to itself, the kernel takes one again as soon as its connection
// has ended, which here is while the director still knows it; then the SYN finds the old connection and its server, as IPVS has
// it, and the scheduler is not asked.
func (l *Lab) dial(ctx context.Context, network, address string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	from := l.Client.IP
	if to.Addr().Is6() {
		from = l.Client.IP6
	}
	for {
		port := firstPort + uint16(l.dialled.Add(1)%(1<<16-firstPort))
		c, err := l.Client.DialFrom(ctx, network, netip.AddrPortFrom(from, port).String(), address)
		if !errors.Is(err, syscall.EADDRINUSE) {
			return c, err
		}
	}
}

// Requests sends n HTTP requests to a service, each on a fresh connection.
func (l *Lab) Requests(ctx context.Context, to netip.AddrPort, n int) *Tally {
	client := l.httpClient()
	return each(ctx, n, 16, func(int) (string, netip.Addr, int64, error) {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		r, err := get(ctx, client, fmt.Sprintf("http://%s/", to))
		if err != nil {
			return "", netip.Addr{}, 0, err
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return "", netip.Addr{}, 0, err
		}
		server, saw, err := sighting(string(body))
		return server, saw, int64(len(body)), err
	})
}

// Download fetches n bytes on one connection and compares their SHA-256.
func (l *Lab) Download(ctx context.Context, to netip.AddrPort, n int64) *Tally {
	client := l.httpClient()
	return each(ctx, 1, 1, func(int) (string, netip.Addr, int64, error) {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		r, err := get(ctx, client, fmt.Sprintf("http://%s/download/%d", to, n))
		if err != nil {
			return "", netip.Addr{}, 0, err
		}
		defer r.Body.Close()
		sum := sha256.New()
		got, err := io.Copy(sum, r.Body)
		if err != nil {
			return "", netip.Addr{}, 0, fmt.Errorf("download broke after %d bytes: %w", got, err)
		}
		if want := contentSum(n); got != n || [32]byte(sum.Sum(nil)) != want {
			return "", netip.Addr{}, 0, fmt.Errorf("download of %d bytes: SHA-256 %x, want %x", got, sum.Sum(nil), want)
		}
		server, saw, err := sighting(r.Header.Get("X-Served-By"))
		return server, saw, got, err
	})
}

func get(ctx context.Context, client *http.Client, url string) (*http.Response, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	r, err := client.Do(q)
	if err != nil {
		return nil, err
	}
	if r.StatusCode != http.StatusOK {
		r.Body.Close()
		return nil, fmt.Errorf("%s: %s", url, r.Status)
	}
	return r, nil
}

// echoPorts is where the client's ports of Echoes begin.
const echoPorts = 2000

// ClientFor returns the client's address of a VIP's IP version.
func (l *Lab) ClientFor(vip netip.Addr) netip.Addr {
	if vip.Is6() {
		return l.Client.IP6
	}
	return l.Client.IP
}

// Echoes sends n datagrams to a service, each from a port of its own, and compares what comes back.
func (l *Lab) Echoes(ctx context.Context, to netip.AddrPort, n int) *Tally {
	return each(ctx, n, 32, func(i int) (string, netip.Addr, int64, error) {
		c, err := l.Client.DialFrom(ctx, "udp", netip.AddrPortFrom(l.ClientFor(to.Addr()), uint16(echoPorts+i)).String(), to.String())
		if err != nil {
			return "", netip.Addr{}, 0, err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(3 * time.Second))
		ask := fmt.Appendf(nil, "datagram %d", i)
		if _, err := c.Write(ask); err != nil {
			return "", netip.Addr{}, 0, err
		}
		b := make([]byte, 2048)
		got, err := c.Read(b)
		if err != nil {
			return "", netip.Addr{}, 0, err
		}
		line, rest, ok := bytes.Cut(b[:got], []byte("\n"))
		if !ok || !bytes.Equal(rest, ask) {
			return "", netip.Addr{}, 0, errors.New("the echo is not what was sent")
		}
		server, saw, err := sighting(string(line))
		return server, saw, int64(got), err
	})
}

// Replies counts the bytes that servers sent, by the way they went.
type Replies struct{ ViaDirector, Direct uint64 }

// Replies reads the counters of the interfaces: what arrived at the director from the servers' side, and what the servers sent by their
// direct links. It needs a topology with two arms, where these are apart.
func (l *Lab) Replies() (r Replies) {
	r.ViaDirector = l.Back.Counters().RxBytes
	for _, s := range l.Servers {
		r.Direct += s.Direct.Counters().TxBytes
	}
	return r
}
