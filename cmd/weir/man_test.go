package main

import (
	"testing"

	"weir/internal/complete"
	"weir/internal/man"
)

// The manual page has the flags that there are, and so does the completion.
func TestTheManualPageHasTheFlags(t *testing.T) {
	fs := define(&config{}, &words{})
	man.Check(t, "../../docs/man/weir.8", *update, map[string]string{"flags": man.Flags(fs)})
}

func TestTheCompletionHasTheFlags(t *testing.T) {
	complete.Check(t, "../../contrib/completion", *update, program())
	complete.Asks(t, program(), map[string]string{
		"weir --xd":                     "--xdp-mode",
		"weir --xdp-mode ":              "auto native generic",
		"weir --xdp-mode=g":             "generic",
		"weir -i eth0 --log-format j":   "json",
		"weir --interface l":            "lo",
		"weir -f man_test":              "man_test.go",
		"weir --metrics-address ":       "",
		"weir --rule -A":                "",
		"weir --assign-addresses --zer": "--zero-copy",
	})
}

func program() complete.Program {
	return complete.Program{Name: "weir", Commands: []complete.Command{{Flags: complete.FromFlags(define(&config{}, &words{}))}}}
}
