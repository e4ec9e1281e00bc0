package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/internal/testnet"
	"weir/ipvsadm"
)

func rulesOf(t *testing.T, lines ...string) *ipvsadm.Rules {
	t.Helper()
	rules := new(ipvsadm.Rules)
	for _, line := range lines {
		c, err := ipvsadm.ParseLine(line)
		if err == nil {
			err = rules.Apply(c)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return rules
}

func text(t *testing.T, r *ipvsadm.Rules) string {
	t.Helper()
	var b strings.Builder
	if _, err := r.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestWhatIsSavedIsReadAgainWithoutLoss(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules")
	if _, there, errs := ReadSaved(path); there || errs != nil {
		t.Fatalf("no file: %t, %v", there, errs)
	}
	rules := rulesOf(t, "--set 1 2 3", "-A -t 192.0.2.1:80 -s sh -b sh-port -p 60 -M 255.255.0.0", "-a -t 192.0.2.1:80 -r 10.0.0.1:80 -m -x 10 -y 5",
		"-a -t 192.0.2.1:80 -r 10.0.0.2:80 -F", "-A -f 4000000000 -6")
	if err := Save(path, rules); err != nil {
		t.Fatal(err)
	}
	again, there, errs := ReadSaved(path)
	if !there || errs != nil || text(t, again) != text(t, rules) {
		t.Errorf("%t, %v, %s\nwant\n%s", there, errs, text(t, again), text(t, rules))
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 1 {
		t.Errorf("left behind: %v, %v", files, err)
	}
	if err := os.WriteFile(path, []byte("-A -t 192.0.2.1:80\n-A -t 192.0.2.1:80\nrubbish\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, errs = ReadSaved(path); len(errs) != 2 || !strings.Contains(errs[0].Error(), ":3: ") || !strings.Contains(errs[1].Error(), ":2: ") {
		t.Errorf("%v", errs)
	}
}

// A save that fails leaves the file of before, and nothing else.
func TestAFailedSaveLeavesTheOldFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "rules")
	old := rulesOf(t, "-A -t 192.0.2.1:80")
	if err := Save(path, old); err != nil {
		t.Fatal(err)
	}
	// The rename cannot work: a directory that is not empty is in the way.
	blocked := filepath.Join(dir, "blocked")
	if err := os.MkdirAll(filepath.Join(blocked, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Save(blocked, old); err == nil || !strings.HasPrefix(err.Error(), "save rules: ") {
		t.Errorf("%v", err)
	}
	if err := Save(filepath.Join(dir, "nowhere", "rules"), old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 {
		t.Errorf("left behind: %v, %v", files, err)
	}
	if again, _, errs := ReadSaved(path); errs != nil || text(t, again) != text(t, old) {
		t.Errorf("%v, %s", errs, text(t, again))
	}
}

// However many changes come and whenever it is told to stop, the file has the last of them in the end.
func TestTheSaverEndsWithTheLastChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules")
	var mu sync.Mutex
	rules := new(ipvsadm.Rules)
	s := NewSaver(path, func() *ipvsadm.Rules {
		mu.Lock()
		defer mu.Unlock()
		return rules.Clone()
	})
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { s.Run(ctx, func(err error) { t.Error(err) }) })
	for i := range 200 {
		c, err := ipvsadm.ParseLine("-A -u 192.0.2.1:" + string(rune('1'+i%9)) + strings.Repeat("0", i%4))
		if err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		_ = rules.Apply(c) // many are there already
		mu.Unlock()
		s.Changed()
	}
	cancel()
	done.Wait()
	again, there, errs := ReadSaved(path)
	if !there || errs != nil || text(t, again) != text(t, rules) || s.Err() != nil {
		t.Errorf("%t, %v, %v: %s", there, errs, s.Err(), text(t, again))
	}
}

// What a symbolic link names is replaced where it is, or made there, and the link stays.
func TestALinkIsFollowed(t *testing.T) {
	for _, there := range []bool{true, false} {
		t.Run(fmt.Sprintf("to a file: %t", there), func(t *testing.T) { followsLink(t, there) })
	}
}

func followsLink(t *testing.T, there bool) {
	path, link := filepath.Join(t.TempDir(), "rules"), filepath.Join(t.TempDir(), "link")
	if there {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	rules := rulesOf(t, "-A -t 192.0.2.1:80")
	s := NewSaver(link, func() *ipvsadm.Rules { return rules })
	s.save(func(err error) { t.Error(err) })
	if again, there, errs := ReadSaved(path); !there || errs != nil || text(t, again) != text(t, rules) {
		t.Errorf("the file: %t, %v", there, errs)
	}
	if to, err := os.Readlink(link); err != nil || to != path {
		t.Errorf("the link: %q, %v", to, err)
	}
}

// What could not be written is written when it can be, at the latest at the end, and complained of once.
func TestAFailedSaveIsTriedAgain(t *testing.T) {
	for name, again := range map[string]time.Duration{"soon": time.Millisecond, "at the end": time.Hour} {
		dir := filepath.Join(t.TempDir(), "late")
		rules := rulesOf(t, "-A -t 192.0.2.1:80")
		s := NewSaver(filepath.Join(dir, "rules"), func() *ipvsadm.Rules { return rules })
		s.again = again
		ctx, cancel := context.WithCancel(t.Context())
		complaints := make(chan error, 100)
		var done sync.WaitGroup
		done.Go(func() { s.Run(ctx, func(err error) { complaints <- err }) })
		s.Changed()
		<-complaints
		if again < time.Second {
			time.Sleep(200 * time.Millisecond) // for more attempts, which fail for the same reason
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if again < time.Second {
			testnet.Eventually(t, 10*time.Second, "the file is written", func() bool { return s.Err() == nil })
		}
		cancel()
		done.Wait()
		if again, there, errs := ReadSaved(s.path); !there || errs != nil || text(t, again) != text(t, rules) || s.Err() != nil || len(complaints) > 0 {
			t.Errorf("%s: %t, %v, %v, %d more complaints", name, there, errs, s.Err(), len(complaints))
		}
	}
}
