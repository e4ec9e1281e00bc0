package metrics

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"weir/dataplane/reason"
)

var (
	metricName  = regexp.MustCompile(`\b(?:weir|go|process)_[a-z0-9_]+`)
	matcherName = regexp.MustCompile(`[{,]\s*([a-z_]+)\s*(?:=~|!~|!=|=)`)
	groupNames  = regexp.MustCompile(`\b(?:by|on|group_left) \(([^)]*)\)`)
	legendName  = regexp.MustCompile(`{{\s*(?:\$labels\.)?([a-z_]+)\s*}}`)
)

// exported returns the names and labels that a scrape has; instance and job are Prometheus's own.
func exported(t *testing.T) (names, labels map[string]bool) {
	t.Helper()
	w := httptest.NewRecorder()
	Handler(full{}, func() error { return nil }).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	names, labels = map[string]bool{}, map[string]bool{"instance": true, "job": true}
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name, _, _ := strings.Cut(line, " ")
		if bare, set, found := strings.Cut(line, "{"); found {
			name = bare
			for _, m := range regexp.MustCompile(`([a-z_]+)="`).FindAllStringSubmatch(set, -1) {
				labels[m[1]] = true
			}
		}
		names[name] = true
	}
	if len(names) < len(all) {
		t.Fatalf("%d metrics are exported", len(names))
	}
	return names, labels
}

// checkQuery reports what a query asks for that no scrape has, and notes what it asks for.
func checkQuery(t *testing.T, where, query string, names, labels, asked map[string]bool) {
	t.Helper()
	found := metricName.FindAllString(query, -1)
	if len(found) == 0 && !strings.Contains(query, "up{") {
		t.Errorf("%s asks for no metric: %s", where, query)
	}
	for _, name := range found {
		if asked[name] = true; !names[name] {
			t.Errorf("%s: there is no metric %s", where, name)
		}
	}
	var used []string
	for _, m := range matcherName.FindAllStringSubmatch(query, -1) {
		used = append(used, m[1])
	}
	for _, m := range groupNames.FindAllStringSubmatch(query, -1) {
		for name := range strings.SplitSeq(m[1], ",") {
			used = append(used, strings.TrimSpace(name))
		}
	}
	for _, l := range used {
		if !labels[l] {
			t.Errorf("%s: there is no label %s: %s", where, l, query)
		}
	}
}

type dashboard struct {
	Title, UID    string
	SchemaVersion int
	Time          struct{ From, To string }
	Templating    struct {
		List []struct {
			Name, Type string
			Definition string
		}
	}
	Panels []panel
}

type panel struct {
	ID          int
	Type, Title string
	GridPos     struct{ H, W, X, Y int }
	Datasource  struct{ Type, UID string }
	FieldConfig struct{ Defaults struct{ Unit string } }
	Targets     []struct{ Expr, LegendFormat, RefID string }
}

// The dashboard asks for metrics and labels that there are, for every metric of weir's, and is laid out as Grafana wants it.
func TestTheDashboardShowsWhatThereIs(t *testing.T) {
	file, err := os.ReadFile("../../contrib/grafana/weir.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(file, &d); err != nil {
		t.Fatal(err)
	}
	if d.Title == "" || d.UID == "" || len(d.UID) > 40 || d.SchemaVersion < 36 || d.Time.From == "" || len(d.Panels) < 10 {
		t.Errorf("%+v", d)
	}
	variables := []string{"__rate_interval"}
	names, labels := exported(t)
	asked := map[string]bool{}
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name)
		if v.Type == "query" {
			checkQuery(t, "$"+v.Name, v.Definition, names, labels, asked)
		} else if v.Type != "datasource" {
			t.Errorf("$%s is of type %s", v.Name, v.Type)
		}
	}
	for _, m := range regexp.MustCompile(`\$\{?(\w+)`).FindAllStringSubmatch(string(file), -1) {
		if m[1] != "__all" && !slices.Contains(variables, m[1]) {
			t.Errorf("there is no variable $%s", m[1])
		}
	}
	ids := map[int]bool{}
	taken := map[[2]int]string{}
	for _, p := range d.Panels {
		if p.ID == 0 || ids[p.ID] || p.Title == "" {
			t.Errorf("%q: id %d", p.Title, p.ID)
		}
		ids[p.ID] = true
		g := p.GridPos
		if g.W < 1 || g.H < 1 || g.X < 0 || g.X+g.W > 24 {
			t.Errorf("%q lies at %+v", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other, twice := taken[[2]int{x, y}]; twice {
					t.Fatalf("%q lies over %q", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Type != "stat" && p.Type != "timeseries" || p.Datasource.UID != "${datasource}" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
			t.Errorf("%q is a %s of %+v", p.Title, p.Type, p.Datasource)
		}
		refs := map[string]bool{}
		for _, target := range p.Targets {
			if target.RefID == "" || refs[target.RefID] {
				t.Errorf("%q: refId %q", p.Title, target.RefID)
			}
			refs[target.RefID] = true
			checkQuery(t, p.Title, target.Expr, names, labels, asked)
			for _, m := range legendName.FindAllStringSubmatch(target.LegendFormat, -1) {
				if !labels[m[1]] {
					t.Errorf("%q: legend %q: no such label", p.Title, target.LegendFormat)
				}
			}
		}
	}
	name := regexp.MustCompile(`fqName: "([^"]*)"`)
	for _, desc := range all {
		if n := name.FindStringSubmatch(desc.String())[1]; !asked[n] {
			t.Errorf("the dashboard does not show %s", n)
		}
	}
}

func TestTheAlertsAskForWhatThereIs(t *testing.T) {
	file, err := os.ReadFile("../../contrib/prometheus/weir.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	names, labels := exported(t)
	alerts := strings.Split(string(file), "- alert: ")[1:]
	if len(alerts) < 5 {
		t.Fatalf("%d alerts", len(alerts))
	}
	for _, a := range alerts {
		title, rest, _ := strings.Cut(a, "\n")
		_, expr, ok := strings.Cut(rest, "expr: ")
		if !ok || !strings.Contains(rest, "severity:") || !strings.Contains(rest, "summary:") || !strings.Contains(rest, "description:") {
			t.Errorf("%s is not whole", title)
		}
		expr, _, _ = strings.Cut(expr, "labels:")
		expr, _, _ = strings.Cut(expr, "for:")
		checkQuery(t, title, expr, names, labels, map[string]bool{})
		for _, m := range legendName.FindAllStringSubmatch(rest, -1) {
			if !labels[m[1]] {
				t.Errorf("%s: no label %s", title, m[1])
			}
		}
	}
	for _, m := range regexp.MustCompile(`reason=~"([^"]*)"`).FindAllStringSubmatch(string(file), -1) {
		for r := range strings.SplitSeq(m[1], "|") {
			if !slices.Contains(reasons(), r) {
				t.Errorf("there is no reason %q", r)
			}
		}
	}
}

func reasons() (names []string) {
	for r := range reason.Count {
		names = append(names, r.String())
	}
	return names
}
