package admin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"weir/ipvsadm"
)

// Saver keeps a file the same as the rules in force. The file is replaced as a whole: after a crash it is the old one or the new
// one. Changes do not wait for the disk: one that was answered may be lost when the host crashes within the second.
type Saver struct {
	path  string
	rules func() *ipvsadm.Rules
	dirty chan struct{} // holds one: the file is behind
	again time.Duration // saveAgain

	mu  sync.Mutex
	err error // of the latest attempt
}

// NewSaver returns a Saver that writes what rules returns. Of a symbolic link it is the file behind it that is replaced.
func NewSaver(path string, rules func() *ipvsadm.Rules) *Saver {
	if behind, err := filepath.EvalSymlinks(path); err == nil {
		path = behind
	} else if target, err := os.Readlink(path); err == nil { // to what is not there yet
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	return &Saver{path: path, rules: rules, dirty: make(chan struct{}, 1), again: saveAgain}
}

// Changed says that the file is behind. It never waits.
func (s *Saver) Changed() {
	select {
	case s.dirty <- struct{}{}:
	default: // the next write takes this change along
	}
}

// Err returns what went wrong with the latest write.
func (s *Saver) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// saveAgain is how long after a write that failed it is tried again, should no change come before.
const saveAgain = 5 * time.Second

// Run writes until ctx ends, and then what has not been written yet. Between two writes it rests for some times what the first
// took, so that many changes in a row cost a small share of a CPU. What fails goes to complain, and is tried again, which goes there when it
// fails for another reason.
func (s *Saver) Run(ctx context.Context, complain func(error)) {
	for {
		var again <-chan time.Time
		failed := s.Err()
		if failed != nil {
			again = time.After(s.again)
		}
		var began time.Time
		select {
		case <-ctx.Done():
			if len(s.dirty) > 0 || failed != nil {
				s.save(complain)
			}
			return
		case <-s.dirty:
			began = time.Now()
			s.save(complain)
		case <-again:
			began = time.Now()
			s.save(func(err error) {
				if err.Error() != failed.Error() {
					complain(err)
				}
			})
		}
		rest := time.NewTimer(max(50*time.Millisecond, 5*time.Since(began)))
		select {
		case <-ctx.Done():
		case <-rest.C:
		}
		rest.Stop()
	}
}

func (s *Saver) save(complain func(error)) {
	err := Save(s.path, s.rules())
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
	if err != nil {
		complain(err)
	}
}

// Save writes rules to a file, losing nothing of them, such that the file is either what it was or whole.
func Save(path string, rules *ipvsadm.Rules) (err error) {
	// Always under the same name, so that what a crash leaves behind is gone with the next save.
	fresh := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	_ = os.Remove(fresh)
	f, err := os.OpenFile(fresh, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("save rules: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
			err = fmt.Errorf("save rules: %w", err)
		}
	}()
	w := bufio.NewWriter(f)
	_, err = fmt.Fprintln(w, "# Written by weir --save. It is read at the next start; weiradm changes it.")
	if err == nil {
		_, err = rules.WriteTo(w)
	}
	err = errors.Join(err, w.Flush())
	if err == nil {
		err = f.Sync() // before the rename, or a crash may leave an empty file under the name (rename(2) orders nothing)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// ReadSaved reads what Save wrote; false: there is no such file. Every line that is wrong is one of the errors.
func ReadSaved(path string) (rules *ipvsadm.Rules, there bool, errs []error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, true, []error{err}
	}
	defer f.Close()
	commands, errs := ipvsadm.ParseFile(path, f)
	rules = new(ipvsadm.Rules)
	for _, c := range commands {
		if err := rules.Apply(c); err != nil {
			errs = append(errs, err)
		}
	}
	return rules, true, errs
}
