package reason

import (
	"strings"
	"testing"
)

func TestEveryReasonComesWithAdvice(t *testing.T) {
	seen := map[string]Reason{}
	for r := None + 1; r < Count; r++ {
		help := helps[r]
		if !strings.HasSuffix(help, ".") || len(help) < 30 || strings.Contains(help, "\n") {
			t.Errorf("%s: %q is no sentence", r, help)
		}
		if other, twice := seen[help]; twice {
			t.Errorf("%s says what %s says", r, other)
		}
		seen[help] = r
		if strings.HasPrefix(help, "Given to the kernel") != r.ToHost() {
			t.Errorf("%s: %q does not say truly whether the packet is given to the kernel", r, help)
		}
	}
	if Count.Help() == "" || None.Help() == "" {
		t.Error("no answer for what is no reason")
	}
}
