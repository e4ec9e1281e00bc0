package web

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// query is what a browser asks for:
//
//	search   services whose name or scheduler, or one of whose servers' addresses, contains this; in any case
//	sort     an order of services; "" is the order they were added in while one page holds them all, else packets
//	page     the page of services, from 0
//	service  the name of a service whose servers and chart are wanted
type query struct {
	search, sort, service string
	page                  int
}

// orders of services. All but "added" and "name" have the largest first.
var orders = []string{"added", "name", "trouble", "connections", "packets", "bits", "active", "inactive"}

const (
	maxWord = 200     // bytes of a search or a name
	maxPage = 1 << 20 // pages
)

func parseQuery(raw string) (q query, err error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, fmt.Errorf("parameters: %w", err)
	}
	for name, v := range values {
		word := v[0]
		switch {
		case len(v) > 1:
			return q, fmt.Errorf("parameter %q: given twice", name)
		case len(word) > maxWord:
			return q, fmt.Errorf("parameter %q: longer than %d bytes", name, maxWord)
		}
		switch name {
		case "search":
			q.search = strings.ToLower(strings.TrimSpace(word))
		case "service":
			q.service = word
		case "sort":
			if q.sort = word; word != "" && !slices.Contains(orders, word) {
				return q, fmt.Errorf("sort %q: allowed: %s", word, strings.Join(orders, ", "))
			}
		case "page":
			if q.page, err = strconv.Atoi(word); err != nil || q.page < 0 || q.page > maxPage {
				return q, fmt.Errorf("page %q: allowed: 0 to %d", word, maxPage)
			}
		default:
			return q, fmt.Errorf("parameter %q: allowed: page, search, service, sort", name)
		}
	}
	return q, nil
}
