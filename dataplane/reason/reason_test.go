package reason

import "testing"

func TestEveryReasonHasItsOwnName(t *testing.T) {
	seen := map[string]Reason{}
	for r := range Count {
		name := r.String()
		if name == "" {
			t.Errorf("reason %d has no name", r)
		}
		if other, dup := seen[name]; dup {
			t.Errorf("reasons %d and %d are both %q", other, r, name)
		}
		seen[name] = r
	}
	if Count.String() != "unknown" {
		t.Errorf("a number past the last reason is %q", Count)
	}
}

func TestMalformedPacketsAreNotTheHostPaths(t *testing.T) {
	for _, r := range []Reason{None, Truncated, BadIPHeader, BadL4Header, Martian, NoServer, TableFull, HostRefused} {
		if r.ToHost() {
			t.Errorf("%s goes to the kernel", r)
		}
	}
	for _, r := range []Reason{NotIP, NotL4, Fragment, NoService, NoConnection, LocalServer, NotUnicast, SourceRoute} {
		if !r.ToHost() {
			t.Errorf("%s does not go to the kernel", r)
		}
	}
}
