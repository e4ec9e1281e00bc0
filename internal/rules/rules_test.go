// Package rules holds the house rules that a compiler does not check, as tests over the module's own source.
package rules

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

// layers, from the top down: a package imports only packages of layers below its own, or of its own top-level directory.
var layers = [][]string{
	{"cmd", "bench", "internal"},
	{"control", "cluster", "health"},
	{"dataplane", "ipvsadm"},
	{"sched", "conntrack", "bpf"},
	{"lb"},
}

// alone are imports that one package wraps for all others. Tests may use them to play the other side.
var alone = map[string][]string{
	"github.com/cilium/ebpf":     {"bpf"},
	"github.com/asavie/xdp":      {"dataplane/afxdp", "bench/bare"}, // bench/bare is what weir is measured against: the library as it comes
	"github.com/google/gopacket": {"internal/testpkt", "control/pcapng"},
	"unsafe":                     {"dataplane/afxdp", "conntrack", "internal/testnet"},
}

type file struct {
	dir, path string
	test      bool
	imports   []string
}

func files(t *testing.T) []file {
	t.Helper()
	var all []file
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		f := file{dir: filepath.ToSlash(filepath.Dir(rel)), path: rel, test: strings.HasSuffix(rel, "_test.go")}
		for _, i := range parsed.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			f.imports = append(f.imports, name)
		}
		all = append(all, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 50 {
		t.Fatalf("only %d files found: is the module's root still at %s?", len(all), root)
	}
	return all
}

func top(dir string) string { first, _, _ := strings.Cut(dir, "/"); return first }

func layer(dir string) int {
	for i, names := range layers {
		for _, name := range names {
			if top(dir) == name {
				return i
			}
		}
	}
	return -1
}

func TestImportsRunDownwards(t *testing.T) {
	for _, f := range files(t) {
		if f.test {
			continue
		}
		from := layer(f.dir)
		if from < 0 {
			t.Errorf("%s: %s is in no layer: add it to layers", f.path, top(f.dir))
			continue
		}
		for _, name := range f.imports {
			dir, ours := strings.CutPrefix(name, "weir/")
			if !ours || top(dir) == top(f.dir) || from == 0 {
				continue
			}
			if to := layer(dir); to <= from {
				t.Errorf("%s imports %s: that is not below it", f.path, name)
			}
		}
	}
}

func TestWhatOnePackageWrapsNobodyElseImports(t *testing.T) {
	for _, f := range files(t) {
		if f.test {
			continue
		}
		for _, name := range f.imports {
			for prefix, homes := range alone {
				if name != prefix && !strings.HasPrefix(name, prefix+"/") {
					continue
				}
				allowed := false
				for _, home := range homes {
					allowed = allowed || f.dir == home
				}
				if !allowed {
					t.Errorf("%s imports %s: only %s may", f.path, name, strings.Join(homes, ", "))
				}
			}
		}
	}
}

func TestLbImportsNothingOfOurs(t *testing.T) {
	for _, f := range files(t) {
		for _, name := range f.imports {
			if f.dir == "lb" && strings.HasPrefix(name, "weir/") && !f.test {
				t.Errorf("%s imports %s", f.path, name)
			}
		}
	}
}

func TestNoFileIsTooLongToReadAtOnce(t *testing.T) {
	const most = 450
	for _, f := range files(t) {
		b, err := os.ReadFile(filepath.Join(root, f.path))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(b), "\n"); n > most && !f.test && !strings.Contains(string(b[:200]), "DO NOT EDIT") {
			t.Errorf("%s has %d lines: look for its second noun (at most %d)", f.path, n, most)
		}
	}
}
