package web

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// headers are in every answer. Nothing is loaded from elsewhere, framed, or read by another site's page.
var headers = map[string]string{
	"Content-Security-Policy":      "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Referrer-Policy":              "no-referrer",
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
}

// guard answers what next is not to see: requests that are no look, and those that come by another name than the director's. The latter
// is how a page elsewhere reads one on a private network: its own name is made to resolve to the director's address (DNS rebinding), and
// to the browser both are one site.
func guard(next http.Handler, host string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range headers {
			w.Header().Set(name, value)
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "this page only looks: GET and HEAD are allowed", http.StatusMethodNotAllowed)
			return
		}
		if !ownName(r.Host, host) {
			text := fmt.Sprintf("weir does not answer to the name %q: ask for its address", r.Host)
			if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
				text += ", http://" + a.String() + "/"
			}
			http.Error(w, text+"; a proxy in front of it must send that as Host", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// ownName reports whether a Host header has a name that nobody else can make resolve to here: an address, localhost, the host's own.
func ownName(header, host string) bool {
	name := header
	if h, _, err := net.SplitHostPort(header); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	name = strings.TrimSuffix(name, ".")
	return strings.EqualFold(name, "localhost") || host != "" && strings.EqualFold(name, host)
}
