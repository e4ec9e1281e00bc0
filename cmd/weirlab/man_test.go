package main

import (
	"flag"
	"testing"

	"weir/bench/rig"
	"weir/internal/complete"
	"weir/internal/man"
)

var update = flag.Bool("update", false, "write the manual page and the completion")

func program() complete.Program {
	lab, _ := labFlags()
	bench, _ := benchFlags(&benchOptions{}, &rig.Load{})
	changes, _ := changesFlags(&rig.ChangePlan{})
	return complete.Program{Name: "weirlab", Commands: []complete.Command{
		{Args: []string{"demo", "up", "down"}, Flags: complete.FromFlags(lab)},
		{Words: []string{"bench"}, Flags: complete.FromFlags(bench)},
		{Words: []string{"changes"}, Flags: complete.FromFlags(changes)},
	}}
}

func TestTheManualPageHasTheFlags(t *testing.T) {
	lab, _ := labFlags()
	load := rig.DefaultLoad(0)
	bench, _ := benchFlags(&benchOptions{}, &load)
	plan := rig.DefaultChangePlan()
	changes, _ := changesFlags(&plan)
	man.Check(t, "../../docs/man/weirlab.8", *update, map[string]string{"flags": man.Flags(lab), "bench": man.Flags(bench), "changes": man.Flags(changes)})
}

func TestShellsComplete(t *testing.T) {
	complete.Check(t, "../../contrib/completion", *update, program())
	complete.Asks(t, program(), map[string]string{
		"weirlab d":                "demo down",
		"weirlab b":                "bench",
		"weirlab --we":             "--weir",
		"weirlab changes --qu":     "--quick",
		"weirlab --weir man_":      "man_test.go",
		"weirlab bench --mode f":   "fullnat",
		"weirlab bench --layout=o": "own-cpu one-cpu",
		"weirlab up ":              "demo up down --family --help -h --weir",
		"weirlab demo --family ":   "4 6 both",
	})
}
