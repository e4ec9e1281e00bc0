package web

import (
	"crypto/sha256"
	"embed"
	"fmt"
	"mime"
	"net/http"
	"path"
)

// The page as `make web` builds it from the sources in /web.
//
//go:embed dist
var dist embed.FS

// assets are the files of the page.
var assets = []asset{
	load("/{$}", "index.html"),
	load("/app.js", "app.js"),
	load("/app.css", "app.css"),
	load("/icon.svg", "icon.svg"),
	load("/licenses.txt", "licenses.txt"),
}

// asset is a file of the page. It may be kept by the browser, which asks each time whether it still is the same.
type asset struct {
	path, kind, tag string
	content         []byte
}

func load(at, name string) asset {
	content, err := dist.ReadFile("dist/" + name)
	if err != nil { // it is part of the program
		panic(err)
	}
	kind := map[string]string{".js": "text/javascript; charset=utf-8", ".txt": "text/plain; charset=utf-8"}[path.Ext(name)]
	if kind == "" {
		kind = mime.TypeByExtension(path.Ext(name)) // of these, Go has a table of its own
	}
	return asset{path: at, kind: kind, tag: fmt.Sprintf(`"%x"`, sha256.Sum256(content)), content: content}
}

func (a asset) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("ETag", a.tag)
	if r.Header.Get("If-None-Match") == a.tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", a.kind)
	_, _ = w.Write(a.content)
}
