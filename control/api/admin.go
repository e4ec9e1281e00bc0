package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"weir/ipvsadm"
)

// Backend is what an Admin speaks for. Its errors reach the client: an *Error as it is, an *ipvsadm.Error as what ipvsadm would
// say, any other as one line; Refused says that a request was understood. The methods are called from many goroutines.
type Backend interface {
	// Change does commands in order, with atomic all or none, and returns when every worker has what was done. The error is
	// about what came after that.
	Change(ctx context.Context, commands []ipvsadm.Command, atomic bool) (Changed, error)
	Listing() ipvsadm.Listing
	Status() Status
	// Connections looks at the table from entry number from on, until it has found limit connections that filter takes or has
	// looked at many; with countOnly it returns no connections.
	Connections(from uint32, limit int, filter *Filter, countOnly bool) Connections
	Trace(q TraceQuery) (Trace, error)
	// Drain takes a server to weight 0 in every service that has it; port 0 means all its ports.
	Drain(ctx context.Context, server netip.AddrPort) (Drained, error)
	// Capture writes frames as pcapng to w until q says that it is enough, or ctx ends; the latter is no error.
	Capture(ctx context.Context, q CaptureQuery, w io.Writer) (Captured, error)
}

// Admin answers requests.
type Admin struct {
	backend Backend
	http    http.Server
}

// NewAdmin returns an Admin for Serve.
func NewAdmin(b Backend, log *slog.Logger) *Admin {
	s := &Admin{backend: b}
	s.http = http.Server{
		Handler: s.handler(), ReadHeaderTimeout: headerTime, ReadTimeout: readTime, WriteTimeout: writeTime, IdleTimeout: idleTime,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return s
}

// Serve answers on l until Close.
func (s *Admin) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Close ends Serve and cuts off whoever is connected.
func (s *Admin) Close() error { return s.http.Close() }

func (s *Admin) handler() http.Handler {
	mux := http.NewServeMux()
	var requests []string
	handle := func(request string, h http.HandlerFunc) {
		requests = append(requests, request)
		mux.HandleFunc(request, h)
	}
	handle("POST /v1/change", answer(s.change))
	handle("POST /v1/drain", answer(s.drain))
	handle("GET /v1/services", answer(func(r *http.Request) (any, error) {
		if err := only(r); err != nil {
			return nil, err
		}
		return FromListing(s.backend.Listing()), nil
	}))
	handle("GET /v1/list", s.list)
	handle("GET /v1/status", answer(func(r *http.Request) (any, error) {
		if err := only(r); err != nil {
			return nil, err
		}
		return s.backend.Status(), nil
	}))
	handle("GET /v1/connections", answer(s.connections))
	handle("GET /v1/trace", answer(s.trace))
	handle("GET /v1/capture", s.capture)
	mux.HandleFunc("/", answer(func(r *http.Request) (any, error) {
		return nil, &refusal{http.StatusNotFound, fmt.Errorf("%s %s: there is no such request; allowed: %s", r.Method, r.URL.EscapedPath(), strings.Join(requests, ", "))}
	}))
	return mux
}

// refusal is an error with its HTTP status.
type refusal struct {
	code int
	err  error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

func bad(format string, args ...any) error {
	return &refusal{http.StatusBadRequest, fmt.Errorf(format, args...)}
}

// Refused makes err one that says: understood, and not done.
func Refused(err error) error { return &refusal{http.StatusUnprocessableEntity, err} }

// answer writes what f returns, or its refusal.
func answer(f func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		code := http.StatusOK
		body, err := f(r)
		if err != nil {
			f, _ := body.(failure)
			f.Error = ToError(err)
			code, body = statusOf(err), f
		}
		text, err := json.Marshal(body)
		if err != nil { // nothing that can be answered has values JSON does not know
			code, text = http.StatusInternalServerError, []byte(`{"error":{"text":"the answer could not be written as JSON"}}`)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = w.Write(append(text, '\n')) // who does not wait for the answer does not get it
	}
}

func statusOf(err error) int {
	var r *refusal
	var e *ipvsadm.Error
	switch {
	case errors.As(err, &r):
		return r.code
	case errors.As(err, &e):
		return http.StatusUnprocessableEntity
	}
	return http.StatusInternalServerError
}

// ToError is err as it is sent.
func ToError(err error) *Error {
	var sent *Error
	if errors.As(err, &sent) {
		return sent
	}
	var e *ipvsadm.Error
	if errors.As(err, &e) {
		sent := &Error{Text: e.Text, Status: e.Status}
		if detail := e.Error(); detail != strings.TrimSpace(e.Text) {
			sent.Detail = detail
		}
		return sent
	}
	return &Error{Text: err.Error()}
}

func (s *Admin) change(r *http.Request) (any, error) {
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	c, ok := quickChange(body)
	if !ok {
		c = Change{}
		if err := decode(body, &c); err != nil {
			return nil, err
		}
	}
	if len(c.Commands) > maxCommands {
		return nil, &refusal{http.StatusRequestEntityTooLarge, fmt.Errorf("%d commands: %d at most", len(c.Commands), maxCommands)}
	}
	commands := make([]ipvsadm.Command, len(c.Commands))
	for i, words := range c.Commands {
		var err error
		if commands[i], err = ipvsadm.ParseWords(words); err == nil {
			err = changes(commands[i])
		}
		if err != nil {
			e := ToError(err)
			return nil, &refusal{http.StatusBadRequest, &Error{Text: e.Text, Detail: fmt.Sprintf("command %d: %s", i+1, e.Error()), Status: e.Status}}
		}
	}
	done, err := s.backend.Change(r.Context(), commands, c.Atomic)
	if err == nil && len(done.Refused) > 0 {
		err = Refused(done.Refused[0].Error)
	}
	if err != nil {
		return failure{Changed: &done}, err
	}
	return done, nil
}

// changes returns nil for commands that a Change may have.
func changes(c ipvsadm.Command) error {
	if c.Op.IsRule() || c.Op == ipvsadm.OpZero {
		return nil
	}
	if err := c.Unsupported(); err != nil {
		return err
	}
	return fmt.Errorf("%s changes nothing; allowed: -A -E -D -C -a -e -d --set -Z", c.Op)
}

func (s *Admin) drain(r *http.Request) (any, error) {
	var d Drain
	body, err := readBody(r)
	if err == nil {
		err = decode(body, &d)
	}
	if err != nil {
		return nil, err
	}
	server, err := netip.ParseAddrPort(d.Server)
	if err != nil || server.Port() == 0 {
		addr, err := netip.ParseAddr(d.Server)
		if err != nil {
			return nil, bad("server %q: want ADDRESS or ADDRESS:PORT", d.Server)
		}
		server = netip.AddrPortFrom(addr, 0)
	}
	return s.backend.Drain(r.Context(), netip.AddrPortFrom(server.Addr().Unmap(), server.Port()))
}

func (s *Admin) connections(r *http.Request) (any, error) {
	if err := only(r, "from", "limit", "count", "protocol", "state", "mode", "templates", "client", "virtual", "local", "server"); err != nil {
		return nil, err
	}
	q := r.URL.Query()
	filter, err := filterOf(q)
	if err != nil {
		return nil, bad("%w", err)
	}
	number := func(name string, least, most, otherwise uint64) (uint64, error) {
		if !q.Has(name) {
			return otherwise, nil
		}
		n, err := strconv.ParseUint(q.Get(name), 10, 32)
		if err != nil || n < least || n > most {
			return 0, bad("%s %q: allowed: %d to %d", name, q.Get(name), least, most)
		}
		return n, nil
	}
	from, err := number("from", 0, 1<<32-1, 0)
	if err != nil {
		return nil, err
	}
	limit, err := number("limit", 1, maxPage, 1000)
	if err != nil {
		return nil, err
	}
	count, err := number("count", 0, 1, 0)
	if err != nil {
		return nil, err
	}
	return s.backend.Connections(uint32(from), int(limit), &filter, count == 1), nil
}

func (s *Admin) trace(r *http.Request) (any, error) {
	if err := only(r, "protocol", "source", "destination", "flags"); err != nil {
		return nil, err
	}
	v := r.URL.Query()
	q := TraceQuery{Protocol: v.Get("protocol"), Flags: v.Get("flags")}
	var err error
	if q.Source, err = netip.ParseAddrPort(v.Get("source")); err != nil {
		return nil, bad("source %q: want ADDRESS:PORT", v.Get("source"))
	}
	if q.Destination, err = netip.ParseAddrPort(v.Get("destination")); err != nil {
		return nil, bad("destination %q: want ADDRESS:PORT", v.Get("destination"))
	}
	if err := q.Check(); err != nil {
		return nil, bad("%w", err)
	}
	t, err := s.backend.Trace(q)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Check says what is wrong with a query.
func (q *TraceQuery) Check() error {
	switch {
	case !slices.Contains(protocols, q.Protocol):
		return fmt.Errorf("protocol %q: allowed: %s", q.Protocol, strings.Join(protocols, ", "))
	case q.Source.Addr().Unmap().Is4() != q.Destination.Addr().Unmap().Is4():
		return errors.New("source and destination are not of one IP version")
	case strings.Trim(q.Flags, "FSRPAU") != "":
		return fmt.Errorf("flags %q: allowed: letters of FSRPAU", q.Flags)
	}
	return nil
}

// readBody reads a request's body.
func readBody(r *http.Request) ([]byte, error) {
	if err := only(r); err != nil {
		return nil, err
	}
	var body bytes.Buffer
	body.Grow(int(min(max(r.ContentLength, 0), 4<<20)) + bytes.MinRead) // -1: it is not said
	_, err := body.ReadFrom(http.MaxBytesReader(nil, r.Body, maxBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, &refusal{http.StatusRequestEntityTooLarge, fmt.Errorf("the request is larger than %d bytes", maxBody)}
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, &refusal{http.StatusRequestTimeout, errors.New("the request did not arrive in time")}
	} else if err != nil {
		return nil, bad("body: %w", err)
	}
	return body.Bytes(), nil
}

// decode reads a body, which must be one JSON value with the fields of v and nothing else.
func decode(body []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		at, what := d.InputOffset(), strings.TrimPrefix(err.Error(), "json: ")
		var syntax *json.SyntaxError
		var kind *json.UnmarshalTypeError
		switch {
		case errors.As(err, &syntax):
			at = syntax.Offset
		case errors.As(err, &kind):
			at, what = kind.Offset, strings.TrimSpace(fmt.Sprintf("%s must be %s, not %s", kind.Field, shape(kind.Type), kind.Value))
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			at, what = int64(len(body)), "ends too early"
		case strings.HasPrefix(what, "unknown field"): // which has no type of its own
			what += "; allowed: " + strings.Join(fields(reflect.TypeOf(v).Elem()), ", ")
		}
		return bad("JSON, byte %d: %s", at, what)
	}
	if _, err := d.Token(); err != io.EOF {
		return bad("JSON, byte %d: something follows the request", d.InputOffset())
	}
	return nil
}

// shape says what JSON a type is written as.
func shape(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct:
		return "an object with " + strings.Join(fields(t), ", ")
	case reflect.Slice:
		return "a list of " + several(t.Elem())
	case reflect.Bool:
		return "true or false"
	}
	return "a " + t.Kind().String()
}

func several(t reflect.Type) string {
	if t.Kind() == reflect.Slice {
		return "lists of " + several(t.Elem())
	}
	return t.Kind().String() + "s"
}

// fields are the names that a type's fields have in JSON.
func fields(t reflect.Type) (names []string) {
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

// only refuses parameters that the request does not have: a misspelt filter must not show everything.
func only(r *http.Request, allowed ...string) error {
	q := r.URL.Query()
	if strings.Contains(r.URL.RawQuery, ";") {
		return bad("parameters are separated by &")
	}
	for name, values := range q {
		switch {
		case !slices.Contains(allowed, name):
			if allowed == nil {
				return bad("parameter %q: this request takes none", name)
			}
			return bad("parameter %q: allowed: %s", name, strings.Join(allowed, ", "))
		case len(values) > 1:
			return bad("parameter %q: given twice", name)
		}
	}
	return nil
}
