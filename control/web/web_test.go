package web

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"weir/control/api"
	"weir/ipvsadm"
	"weir/lb"
)

// source is a director with so many services.
type source int

func (s source) Status() api.Status { return api.Status{} }
func (s source) Totals() Totals     { return Totals{} }

func (s source) Listing() ipvsadm.Listing {
	var l ipvsadm.Listing
	for i := range int(s) {
		l.Services = append(l.Services, ipvsadm.ListedService{Service: ipvsadm.Service{Service: lb.Service{
			Key: lb.ServiceKey{Addr: lb.AddrFrom4(0xc0000200 + uint32(i)), Port: 80, Proto: lb.TCP}, Scheduler: "rr"}}})
	}
	return l
}

func ask(t *testing.T, p *Page, method, host, path string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, "http://"+host+path, nil)
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w
}

func TestThePageOnlyLooks(t *testing.T) {
	p := New(Options{Source: source(3), Host: "director1"})
	for _, c := range []struct {
		method, host, path string
		want               int
	}{
		{"GET", "127.0.0.1:8080", "/", http.StatusOK},
		{"HEAD", "[::1]:8080", "/", http.StatusOK},
		{"GET", "localhost", "/app.js", http.StatusOK},
		{"GET", "director1:8080", "/app.css", http.StatusOK},
		{"GET", "127.0.0.1", "/data", http.StatusOK},
		{"GET", "127.0.0.1", "/nothing", http.StatusNotFound},
		{"GET", "127.0.0.1", "/data?wrong=1", http.StatusBadRequest},
		{"POST", "127.0.0.1", "/data", http.StatusMethodNotAllowed},
		{"PUT", "127.0.0.1", "/", http.StatusMethodNotAllowed},
		{"DELETE", "127.0.0.1", "/nothing", http.StatusMethodNotAllowed},
		{"GET", "attacker.example:8080", "/data", http.StatusMisdirectedRequest},
	} {
		w := ask(t, p, c.method, c.host, c.path)
		if w.Code != c.want {
			t.Errorf("%s http://%s%s: %d, want %d", c.method, c.host, c.path, w.Code, c.want)
		}
		for name, value := range headers {
			if got := w.Header().Get(name); got != value {
				t.Errorf("%s http://%s%s: %s is %q, want %q", c.method, c.host, c.path, name, got, value)
			}
		}
	}
}

// TestNothingComesFromElsewhere: the page names no other site, and all that it does name is here.
func TestNothingComesFromElsewhere(t *testing.T) {
	p := New(Options{Source: source(0)})
	page := ask(t, p, "GET", "127.0.0.1", "/").Body.String()
	for _, elsewhere := range []string{"src=\"http", "src=\"//", "href=\"http", "href=\"//"} {
		if strings.Contains(page, elsewhere) {
			t.Errorf("the page has %s", elsewhere)
		}
	}
	found := 0
	for _, attribute := range []string{`src="`, `href="`} {
		for _, rest := range strings.Split(page, attribute)[1:] {
			name, _, _ := strings.Cut(rest, `"`)
			if strings.HasPrefix(name, "#") {
				continue
			}
			found++
			if w := ask(t, p, "GET", "127.0.0.1", "/"+strings.TrimPrefix(name, "/")); w.Code != http.StatusOK || w.Body.Len() == 0 {
				t.Errorf("%s: %d, %d bytes", name, w.Code, w.Body.Len())
			}
		}
	}
	if found < 3 { // script, style, icon
		t.Errorf("the page names %d files", found)
	}
}

// TestManyServices: an answer stays small however many services there are, and is JSON.
func TestManyServices(t *testing.T) {
	p := New(Options{Source: source(10_000)})
	w := ask(t, p, "GET", "127.0.0.1", "/data")
	if w.Code != http.StatusOK || w.Header().Get("Cache-Control") != "no-store" {
		t.Fatalf("%d, %v: %s", w.Code, w.Header(), w.Body)
	}
	if w.Body.Len() > 200<<10 {
		t.Errorf("%d bytes", w.Body.Len())
	}
	var got map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(w.Body.String(), "10000") {
		t.Errorf("it does not say how many services there are: %.300s", w.Body)
	}
}
