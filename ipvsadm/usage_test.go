package ipvsadm

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// What Usages offers is what the parser takes: never an option that the command does not have.
func TestUsagesAreWhatIsParsed(t *testing.T) {
	seen := map[Op]bool{}
	for _, u := range Usages() {
		seen[u.Op] = true
		for _, o := range u.Options {
			for _, name := range o.Names() {
				args := []string{u.Command.Names()[0], name}
				if o.Value {
					args = append(args, "1")
				}
				_, err := Parse(args)
				var e *Error
				if errors.As(err, &e) && strings.Contains(e.Text, "Illegal") && strings.HasSuffix(e.Text, "command") {
					t.Errorf("%s: %v", args, err)
				}
			}
		}
	}
	for op := OpAddService; op <= OpVersion; op++ {
		if !seen[op] {
			t.Errorf("%s is missing", op)
		}
	}
	i := slices.IndexFunc(Usages(), func(u Usage) bool { return u.Op == OpDeleteServer })
	var names []string
	for _, o := range Usages()[i].Options {
		names = append(names, o.Names()...)
	}
	if got := strings.Join(names, " "); got != "-t --tcp-service -u --udp-service --sctp-service -f --fwmark-service -r --real-server -6 --ipv6" {
		t.Errorf("-d takes %s", got)
	}
}
