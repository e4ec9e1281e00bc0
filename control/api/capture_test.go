package api

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// block is a pcapng block of so many bytes.
func block(length int) []byte {
	b := make([]byte, length)
	binary.LittleEndian.PutUint32(b[4:], uint32(length))
	return b
}

func TestACaptureArrivesWholeOrInWholeBlocks(t *testing.T) {
	begin := block(28)
	for name, row := range map[string]struct {
		send []byte
		err  error
		want int // bytes that arrive
		says string
	}{
		"to its end":           {append(block(28), block(100_000)...), nil, 100_028, ""},
		"refused":              {nil, Refused(errors.New("not now")), 0, "not now"},
		"fails later":          {begin, errors.New("worker 1 hangs"), 28, "unexpected EOF"},
		"half a block":         {append(block(28), block(64)[:30]...), errors.New("gone"), 28, "unexpected EOF"},
		"no capture":           {append(block(28), "<html></html>"...), nil, 28, "is not of a capture"},
		"a block of no length": {append(block(28), block(8)...), nil, 28, "a block of 8 bytes is not of a capture"},
	} {
		t.Run(name, func(t *testing.T) {
			var asked CaptureQuery
			b := &fakeBackend{capture: func(q CaptureQuery, w io.Writer) (Captured, error) {
				asked = q
				if row.send != nil {
					if _, err := w.Write(row.send); err != nil {
						t.Error(err)
					}
				}
				return Captured{Frames: 7, Ended: "count"}, row.err
			}}
			c := NewClient(serve(t, b, nil))
			defer c.Close()
			var got bytes.Buffer
			end, err := ParseEnd("192.0.2.1:80")
			if err != nil {
				t.Fatal(err)
			}
			done, err := c.Capture(t.Context(), CaptureQuery{Filter: Filter{Virtual: end, Protocol: "tcp"}, Seconds: 5}, &got)
			if got.Len() != row.want {
				t.Errorf("%d bytes arrived, want %d", got.Len(), row.want)
			}
			if row.says == "" && (err != nil || done != Captured{Frames: 7, Ended: "count"}) || row.says != "" && (err == nil || !strings.Contains(err.Error(), row.says)) {
				t.Errorf("%+v, %v; want %q", done, err, row.says)
			}
			if asked.Seconds != 5 || asked.Count != DefaultCount || asked.Bytes != DefaultBytes || asked.Snap != wholeFrames || asked.Filter.String() != "protocol=tcp virtual=192.0.2.1:80" {
				t.Errorf("asked for %+v", asked)
			}
		})
	}
}

// A capture outlives the times that other requests and answers are given, and ends when its reader has gone, politely or not.
func TestACaptureLastsAsLongAsItsReader(t *testing.T) {
	ended := make(chan error, 1)
	path := serve(t, &captures{run: func(ctx context.Context, w io.Writer) (Captured, error) {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for began := time.Now(); ; {
			if _, err := w.Write(block(28)); err != nil {
				ended <- err
				return Captured{}, err
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				ended <- nil
				return Captured{Frames: uint64(time.Since(began) / time.Millisecond), Ended: "reader"}, nil
			}
		}
	}}, func(a *Admin) { a.http.ReadTimeout, a.http.WriteTimeout = 20*time.Millisecond, 20*time.Millisecond })
	c := NewClient(path)
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var got lengths
	got.enough = func() { cancel() }
	done, err := c.Capture(ctx, CaptureQuery{}, &got)
	if err != nil || done.Ended != "reader" || done.Frames < 100 || got.bytes%28 != 0 {
		t.Errorf("%+v, %v, %d bytes", done, err, got.bytes)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}

	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET /v1/capture HTTP/1.1\r\nHost: weir\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("it goes on for nobody")
	}
}

// lengths counts bytes, and says when there are more than a fifth of a second's.
type lengths struct {
	bytes  int
	enough func()
}

func (l *lengths) Write(b []byte) (int, error) {
	if l.bytes += len(b); l.bytes > 20*28 {
		l.enough()
	}
	return len(b), nil
}

// captures is a Backend that captures by a function.
type captures struct {
	fakeBackend
	run func(context.Context, io.Writer) (Captured, error)
}

func (c *captures) Capture(ctx context.Context, _ CaptureQuery, w io.Writer) (Captured, error) {
	return c.run(ctx, w)
}
