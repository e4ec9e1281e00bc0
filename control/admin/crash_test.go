package admin

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/ipvsadm"
)

// crashFile names the file that TestMain saves to for ever, when this binary is run to be killed.
const crashFile = "WEIR_TEST_SAVE_FOREVER"

func TestMain(m *testing.M) {
	if path := os.Getenv(crashFile); path != "" {
		for n := 1; ; n++ {
			if err := Save(path, generation(n)); err != nil {
				panic(err)
			}
			if n == 2 {
				fmt.Println("saving") // the one before is replaced from now on
			}
		}
	}
	os.Exit(m.Run())
}

// generation is a configuration that says in every line which one it is, and how many lines belong to it.
func generation(n int) *ipvsadm.Rules {
	rules := new(ipvsadm.Rules)
	for i := range 200 + n%5*100 {
		c, err := ipvsadm.ParseLine(fmt.Sprintf("-A -t 10.%d.%d.%d:%d", n>>8, n&255, i>>8, 1+i&255))
		if err == nil {
			err = rules.Apply(c)
		}
		if err != nil {
			panic(err)
		}
	}
	return rules
}

// A process that is killed while it saves leaves the file of one save or of the next, whole, and no heap of others beside it.
func TestAKilledProcessLeavesAWholeFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules")
	last := 0
	for round := range 12 {
		p := exec.Command(os.Args[0])
		p.Env = append(os.Environ(), crashFile+"="+path)
		out, err := p.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); line != "saving\n" {
			t.Fatalf("%q, %v", line, err)
		}
		time.Sleep(time.Duration(round*271%3000) * time.Microsecond) // somewhere in a save
		if err := p.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = p.Wait() // it was killed
		rules, there, errs := ReadSaved(path)
		if !there || errs != nil {
			t.Fatalf("round %d: %t, %v", round, there, errs)
		}
		all := rules.Services()
		if len(all) == 0 {
			t.Fatalf("round %d: the file is empty", round)
		}
		n := int(all[0].Key.Addr.V4() >> 8 & 0xffff)
		if want := text(t, generation(n)); text(t, rules) != want {
			t.Fatalf("round %d: the file is not generation %d: %d lines, want %d", round, n, len(all), strings.Count(want, "\n"))
		}
		last = max(last, n)
	}
	if last < 2 {
		t.Errorf("only %d saves were seen", last)
	}
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(files) > 2 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}
