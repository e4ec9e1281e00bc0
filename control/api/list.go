package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"weir/ipvsadm"
)

// list prints what an -L or -S asks for, as text: 100,000 servers are 7 MB of it, and 40 MB as JSON that somebody has to read first.
func (s *Admin) list(w http.ResponseWriter, r *http.Request) {
	refuse := func(err error) { answer(func(*http.Request) (any, error) { return nil, err })(w, r) }
	if err := only(r, "command"); err != nil {
		refuse(err)
		return
	}
	c, err := ipvsadm.ParseLine(r.URL.Query().Get("command"))
	if err != nil {
		e := ToError(err)
		refuse(&refusal{http.StatusBadRequest, &Error{Text: e.Text, Detail: "command: " + e.Error(), Status: e.Status}})
		return
	}
	if c.Op != ipvsadm.OpSave && (c.Op != ipvsadm.OpList || c.Options.Connections) {
		refuse(bad("%s is not listed here; allowed: -L, -S", c))
		return
	}
	out := &listWriter{w: w}
	text := bufio.NewWriterSize(out, 64<<10)
	if c.Op == ipvsadm.OpSave {
		err = ipvsadm.Save(text, s.backend.Listing(), c.Options.Numeric)
	} else {
		err = ipvsadm.List(text, s.backend.Listing(), c)
	}
	switch {
	case err != nil && !out.begun:
		refuse(err)
	case err == nil:
		out.begin() // also when there is nothing to print
		_ = text.Flush()
	}
}

// listWriter says what kind of answer it is when the first part of it comes.
type listWriter struct {
	w     http.ResponseWriter
	begun bool
}

func (l *listWriter) begin() {
	if !l.begun {
		l.begun = true
		l.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	}
}

func (l *listWriter) Write(b []byte) (int, error) {
	l.begin()
	return l.w.Write(b)
}

// List writes what an -L (but for -c) or -S prints, in ipvsadm's words, as it comes.
func (c *Client) List(ctx context.Context, words []string, w io.Writer) error {
	command := url.Values{"command": {strings.Join(words, " ")}}
	r, err := http.NewRequestWithContext(ctx, "GET", "http://weir/v1/list?"+command.Encode(), nil)
	if err != nil {
		return err
	}
	response, err := c.http.Do(r)
	if err != nil {
		return c.explain(err)
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		if _, err := io.Copy(w, response.Body); err != nil {
			return fmt.Errorf("%s: %w", c.path, err)
		}
		return nil
	}
	var f failure
	if text, _ := io.ReadAll(response.Body); json.Unmarshal(text, &f) != nil || f.Error == nil {
		return fmt.Errorf("%s: answered %s, which is no answer of weir's", c.path, response.Status)
	}
	return f.Error
}
