// Package web is weir's page for a browser: what an operator wants to know of a running director, on one screen. It only looks.
//
//	page := web.New(web.Options{Source: source, Host: "director1"})
//	go page.Run(ctx)
//	http.Serve(listener, page)
//
//	GET /       the page; its script and style come from here and from nowhere else
//	GET /data   what it shows, as JSON, which the page asks for once a second; see query and answer
//
// There is no authentication: whoever reaches the address sees services, servers and traffic. Nothing can be changed, no client's
// address is shown, and other sites' scripts cannot read it (guard.go).
//
// However many browsers look, the director is asked at most once a second, and less often when its answer takes long (recorder.go). An
// answer has a page of services, so that its size does not depend on how many there are.
package web

import (
	"encoding/json"
	"net/http"

	"weir/control/api"
	"weir/ipvsadm"
)

// Source is what is shown.
type Source interface {
	Status() api.Status
	Listing() ipvsadm.Listing
	// Totals is asked every second, also when nobody looks.
	Totals() Totals
}

// Totals is what the director has counted since its start.
type Totals struct {
	api.Traffic
	Dropped uint64 // packets that were neither forwarded nor given to the kernel
}

// Options say what a Page shows.
type Options struct {
	Source Source
	Host   string // the director's name: shown, and one that the page may be asked for by
}

// Page is an http.Handler.
type Page struct {
	host     string
	recorder recorder
	answers  chan struct{} // has an element for each answer that is being made
	handler  http.Handler
}

// maxAnswers is how many answers are made at a time: sorting 10,000 services takes some milliseconds.
const maxAnswers = 2

// New returns a Page. Without Run it has no history.
func New(o Options) *Page {
	p := &Page{host: o.Host, recorder: recorder{source: o.Source}, answers: make(chan struct{}, maxAnswers)}
	mux := http.NewServeMux()
	for _, a := range assets {
		mux.Handle("GET "+a.path, a)
	}
	mux.HandleFunc("GET /data", p.data)
	p.handler = guard(mux, o.Host)
	return p
}

func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.handler.ServeHTTP(w, r) }

func (p *Page) data(w http.ResponseWriter, r *http.Request) {
	q, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	select {
	case p.answers <- struct{}{}:
	case <-r.Context().Done(): // nobody waits any more
		return
	}
	text, err := json.Marshal(p.answer(q))
	<-p.answers
	if err != nil { // what is shown has no values that JSON does not know
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text)
}
