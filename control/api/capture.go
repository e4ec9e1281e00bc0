package api

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// CaptureQuery says which frames are captured, and when it is enough. What Filter says of a connection's state is asked when the
// worker is done with a packet.
type CaptureQuery struct {
	Filter
	Count   int   // frames, 1 to 1,000,000,000; 0: DefaultCount
	Bytes   int64 // of frames as captured, 1 to 2^40; 0: DefaultBytes
	Seconds int   // 1 to 86,400; 0: DefaultSeconds
	Snap    int   // bytes of each frame, 14 to 65,535; 0: all of it
}

// Bounds of a capture that does not say its own.
const (
	DefaultCount   = 100_000
	DefaultBytes   = 64 << 20
	DefaultSeconds = 60
	wholeFrames    = 65_535
)

// Captured says what a capture has.
type Captured struct {
	Frames uint64 `json:"frames"`
	Bytes  uint64 `json:"bytes"` // of frames as captured
	Lost   uint64 `json:"lost"`  // frames that the reader was too slow for
	Ended  string `json:"ended"` // count, bytes, time, reader: what it ended by
}

// bounds lists the query's numbers with their names and what they may be.
func (q *CaptureQuery) bounds() []bound {
	return []bound{
		{"count", int64(q.Count), 1, 1e9, func(n int64) { q.Count = int(n) }, DefaultCount},
		{"bytes", q.Bytes, 1, 1 << 40, func(n int64) { q.Bytes = n }, DefaultBytes},
		{"seconds", int64(q.Seconds), 1, 86_400, func(n int64) { q.Seconds = int(n) }, DefaultSeconds},
		{"snaplen", int64(q.Snap), 14, wholeFrames, func(n int64) { q.Snap = int(n) }, wholeFrames},
	}
}

type bound struct {
	name        string
	value       int64
	least, most int64
	set         func(int64)
	otherwise   int64
}

func (b *bound) wrong(value string) error {
	return fmt.Errorf("%s %q: allowed: %d to %d", b.name, value, b.least, b.most)
}

// Check says what is wrong with the query, naming the field.
func (q *CaptureQuery) Check() error {
	for _, b := range q.bounds() {
		if b.value != 0 && (b.value < b.least || b.value > b.most) {
			return b.wrong(strconv.FormatInt(b.value, 10))
		}
	}
	if q.Templates != "" {
		return fmt.Errorf("templates %q: a persistence template has no packets", q.Templates)
	}
	return q.Filter.Check()
}

func (q *CaptureQuery) values() url.Values {
	v := q.Filter.values()
	for _, b := range q.bounds() {
		if b.value != 0 {
			v.Set(b.name, strconv.FormatInt(b.value, 10))
		}
	}
	return v
}

// captureOf reads what values wrote, and fills in what it does not say.
func captureOf(v url.Values) (q CaptureQuery, err error) {
	if q.Filter, err = filterOf(v); err != nil {
		return q, err
	}
	for _, b := range q.bounds() {
		n := b.otherwise
		if v.Has(b.name) {
			if n, err = strconv.ParseInt(v.Get(b.name), 10, 64); err != nil || n < b.least || n > b.most {
				return q, b.wrong(v.Get(b.name))
			}
		}
		b.set(n)
	}
	return q, q.Check()
}

// capturedTrailer has a Captured, as JSON, behind the capture.
const capturedTrailer = "Weir-Captured"

// capture streams a capture for as long as it takes, whatever time other answers are given.
func (s *Admin) capture(w http.ResponseWriter, r *http.Request) {
	err := only(r, "count", "bytes", "seconds", "snaplen", "protocol", "state", "mode", "templates", "client", "virtual", "local", "server")
	var q CaptureQuery
	if err == nil {
		if q, err = captureOf(r.URL.Query()); err != nil {
			err = bad("%w", err)
		}
	}
	out := &stream{w: w, control: http.NewResponseController(w)}
	var done Captured
	if err == nil {
		_ = out.control.SetReadDeadline(time.Time{}) // the reader's hanging up is what ends it early
		done, err = s.backend.Capture(r.Context(), q, out)
	}
	switch {
	case err != nil && !out.begun:
		answer(func(*http.Request) (any, error) { return nil, err })(w, r)
	case err != nil:
		panic(http.ErrAbortHandler) // the reader sees that the end is missing
	default:
		out.begin()
		text, _ := json.Marshal(done) // of numbers and a word
		w.Header().Set(capturedTrailer, string(text))
	}
}

// stream is the body of an answer that is long under way. Its reader may be slow, but not for ever.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
}

func (s *stream) begin() {
	if !s.begun {
		s.begun = true
		s.w.Header().Set("Content-Type", "application/x-pcapng")
		s.w.Header().Set("Trailer", capturedTrailer)
	}
}

func (s *stream) Write(b []byte) (int, error) {
	s.begin()
	if err := s.control.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return 0, err
	}
	n, err := s.w.Write(b)
	if err != nil {
		return n, err
	}
	return n, s.control.Flush()
}

// Capture has frames written to w, as pcapng, until q or ctx ends it. What w was given is a whole file at any end, also with an error.
func (c *Client) Capture(ctx context.Context, q CaptureQuery, w io.Writer) (done Captured, err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.path)
	if err != nil {
		return done, c.explain(err)
	}
	defer conn.Close()
	r, err := http.NewRequest("GET", "http://weir/v1/capture?"+q.values().Encode(), nil)
	if err != nil {
		return done, err
	}
	// Who hangs up only on the way there still gets what was captured up to then.
	stop := context.AfterFunc(ctx, func() {
		_ = conn.SetDeadline(time.Now().Add(patience))
		if half, ok := conn.(*net.UnixConn); ok {
			_ = half.CloseWrite()
		}
	})
	defer stop()
	if err := r.Write(conn); err != nil {
		return done, c.explain(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), r) // its Body is not closed: that would wait for the rest
	if err != nil {
		return done, c.explain(err)
	}
	if response.StatusCode != http.StatusOK {
		var f failure
		if text, _ := io.ReadAll(response.Body); json.Unmarshal(text, &f) != nil || f.Error == nil {
			return done, fmt.Errorf("%s: answered %s, which is no answer of weir's", c.path, response.Status)
		}
		return done, f.Error
	}
	out := &noted{Writer: w}
	if err := copyBlocks(out, response.Body); out.err != nil {
		return done, out.err
	} else if err != nil {
		return done, fmt.Errorf("%s: %w", c.path, err)
	}
	if err := json.Unmarshal([]byte(response.Trailer.Get(capturedTrailer)), &done); err != nil {
		return done, fmt.Errorf("%s: the capture broke off", c.path)
	}
	return done, nil
}

// noted remembers what went wrong with a Writer, which is not the socket's fault.
type noted struct {
	io.Writer
	err error
}

func (n *noted) Write(b []byte) (int, error) {
	written, err := n.Writer.Write(b)
	if err != nil {
		n.err = err
	}
	return written, err
}

// patience is how long the end of a capture is waited for that was interrupted.
const patience = 5 * time.Second

const maxBlock = 1 << 20

// copyBlocks copies a pcapng file block by block (draft-ietf-opsawg-pcapng, section 3.1: type, length, body, length), so that no block is
// there in part, and at once when no more is on its way.
func copyBlocks(w io.Writer, r io.Reader) error {
	in, out := bufio.NewReaderSize(r, 64<<10), bufio.NewWriterSize(w, 64<<10)
	block := make([]byte, 8, 4096)
	for {
		if in.Buffered() == 0 {
			if err := out.Flush(); err != nil {
				return err
			}
		}
		block = block[:8]
		if _, err := io.ReadFull(in, block); err == io.EOF {
			return out.Flush()
		} else if err != nil {
			return errors.Join(out.Flush(), err)
		}
		length := int(binary.LittleEndian.Uint32(block[4:]))
		if length < 12 || length > maxBlock || length%4 != 0 {
			return errors.Join(out.Flush(), fmt.Errorf("a block of %d bytes is not of a capture", length))
		}
		if cap(block) < length {
			block = append(make([]byte, 0, length), block...)
		}
		block = block[:length]
		if _, err := io.ReadFull(in, block[8:]); err != nil {
			return errors.Join(out.Flush(), err)
		}
		if _, err := out.Write(block); err != nil {
			return err
		}
	}
}
