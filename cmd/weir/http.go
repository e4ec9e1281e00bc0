package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"weir/control/admin"
	"weir/control/metrics"
	"weir/control/web"
)

// listenTCP makes the socket of a flag that takes an address; nil when the flag was not given.
func (d *director) listenTCP(flag, address string) (net.Listener, error) {
	if address == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", flag, err)
	}
	d.deferred(func() error {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) { // as it is when it was served
			return err
		}
		return nil
	})
	return &limited{Listener: l}, nil
}

// serveHTTP answers Prometheus and browsers until the function that it returns is called.
func (d *director) serveHTTP(ctx context.Context, ended *sync.WaitGroup) (end func() error) {
	var servers []*http.Server
	serve := func(flag string, l net.Listener, h http.Handler) {
		s := &http.Server{
			Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
			MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(d.log.Handler(), slog.LevelDebug),
		}
		servers = append(servers, s)
		ended.Go(func() {
			if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				d.log.Error("--"+flag+" is no longer served", "error", err)
			}
		})
	}
	if d.metrics != nil {
		serve("metrics-address", d.metrics, metrics.Handler(d.admin, func() error {
			if !d.serving.Load() {
				return errors.New("not serving")
			}
			return nil
		}))
	}
	if d.web != nil {
		host, _ := os.Hostname() // without one, the page goes by its address only
		page := web.New(web.Options{Source: shown{d.admin, &d.load}, Host: host})
		ended.Go(func() { page.Run(ctx) })
		serve("web-address", d.web, page)
		address := d.web.Addr().(*net.TCPAddr)
		d.log.Info("web page", "url", "http://"+address.String()+"/")
		if !address.IP.IsLoopback() {
			d.log.Warn("the web page asks for no password: whoever reaches the address sees services, servers and traffic", "address", address)
		}
	}
	return func() error {
		var errs []error
		for _, s := range servers {
			errs = append(errs, s.Close())
		}
		return errors.Join(errs...)
	}
}

// shown is what the web page shows.
type shown struct {
	*admin.Director
	load *sampler
}

func (s shown) Totals() web.Totals { return s.load.totals() }

// maxHTTPClients is how many connections a limited listener has at a time.
const maxHTTPClients = 128

// limited is a listener that hangs up on clients beyond a number: their descriptors are weir's too.
type limited struct {
	net.Listener
	clients atomic.Int32
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.clients.Add(1) <= maxHTTPClients {
			return &counted{Conn: c, clients: &l.clients}, nil
		}
		l.clients.Add(-1)
		c.Close()
	}
}

// counted is a connection that counts itself out.
type counted struct {
	net.Conn
	clients *atomic.Int32
	once    sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() { c.clients.Add(-1) })
	return c.Conn.Close()
}
