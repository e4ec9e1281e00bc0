package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
)

// Client speaks to one weir. It may be used from many goroutines.
type Client struct {
	path string
	http http.Client
}

// NewClient returns a client for the weir behind a socket. Nothing is opened before the first request.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &Client{path: socket, http: http.Client{Transport: &http.Transport{DialContext: dial, DisableCompression: true}}}
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Change does commands. When some are refused, the error is the first one's, an *Error, and Changed lists them all.
func (c *Client) Change(ctx context.Context, change Change) (Changed, error) {
	return call[Changed](ctx, c, "POST", "change", change)
}

// Services returns the configuration in force with its counters.
func (c *Client) Services(ctx context.Context) (Services, error) {
	return call[Services](ctx, c, "GET", "services", nil)
}

// Status returns the state of the director.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, "GET", "status", nil)
}

// Trace says where a flow would go.
func (c *Client) Trace(ctx context.Context, q TraceQuery) (Trace, error) {
	v := url.Values{"protocol": {q.Protocol}, "source": {q.Source.String()}, "destination": {q.Destination.String()}}
	if q.Flags != "" {
		v.Set("flags", q.Flags)
	}
	return call[Trace](ctx, c, "GET", "trace?"+v.Encode(), nil)
}

// Drain takes a server (address, or address:port) to weight 0 in every service that has it.
func (c *Client) Drain(ctx context.Context, server string) (Drained, error) {
	return call[Drained](ctx, c, "POST", "drain", Drain{server})
}

// Page returns a page of the connection table, from entry number from on.
func (c *Client) Page(ctx context.Context, f Filter, from uint32, limit int, countOnly bool) (Connections, error) {
	v := f.values()
	v.Set("from", strconv.FormatUint(uint64(from), 10))
	v.Set("limit", strconv.Itoa(limit))
	if countOnly {
		v.Set("count", "1")
	}
	return call[Connections](ctx, c, "GET", "connections?"+v.Encode(), nil)
}

// Pages yields the connections that the filter takes, page by page: a short one first, which comes at once. A connection that lives as long as
// the iteration is in one of them. An error is the last thing it yields.
func (c *Client) Pages(ctx context.Context, f Filter) iter.Seq2[[]Connection, error] {
	return func(yield func([]Connection, error) bool) {
		from, limit := uint32(0), firstPage
		for {
			page, err := c.Page(ctx, f, from, limit, false)
			if !yield(page.Connections, err) || err != nil {
				return
			}
			if from, limit = page.Next, min(4*limit, maxPage); from == 0 {
				return
			}
		}
	}
}

// Connections yields the same one by one.
func (c *Client) Connections(ctx context.Context, f Filter) iter.Seq2[Connection, error] {
	return func(yield func(Connection, error) bool) {
		for page, err := range c.Pages(ctx, f) {
			for _, conn := range page {
				if !yield(conn, nil) {
					return
				}
			}
			if err != nil {
				yield(Connection{}, err)
				return
			}
		}
	}
}

// Count returns how many connections the filter takes.
func (c *Client) Count(ctx context.Context, f Filter) (n int, err error) {
	for from := uint32(0); ; {
		page, err := c.Page(ctx, f, from, maxPage, true)
		if err != nil {
			return 0, err
		}
		n += page.Matched
		if from = page.Next; from == 0 {
			return n, nil
		}
	}
}

// call makes one request.
func call[T any](ctx context.Context, c *Client, method, path string, body any) (answer T, err error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return answer, err
		}
		content = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://weir/v1/"+path, content)
	if err != nil {
		return answer, err
	}
	response, err := c.http.Do(r)
	if err != nil {
		return answer, c.explain(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return answer, c.explain(err)
	}
	if response.StatusCode != http.StatusOK {
		var f failure
		if json.Unmarshal(text, &f) != nil || f.Error == nil {
			return answer, fmt.Errorf("%s: answered %s, which is no answer of weir's", c.path, response.Status)
		}
		if changed, ok := any(&answer).(*Changed); ok && f.Changed != nil {
			*changed = *f.Changed
		}
		return answer, f.Error
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return answer, fmt.Errorf("%s: not an answer of this version's weir: %w", c.path, err)
	}
	return answer, nil
}

// explain says what a failed connection means.
func (c *Client) explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%s: no weir is listening there: is it running, and with this --admin-socket?", c.path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: permission denied: only root and the user weir runs as may ask it", c.path)
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // without the made-up URL
	}
	return fmt.Errorf("%s: %w", c.path, err)
}
