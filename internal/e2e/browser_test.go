//go:build browser

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"weir/internal/testnet"
)

// page is a page in a browser.
type page struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	problems []string // that the browser has with it: what a developer would see in red and yellow
}

// openPage starts a headless Chromium in a namespace, and opens a page with it.
func openPage(t *testing.T, ns *testnet.Namespace, url string) *page {
	t.Helper()
	home := t.TempDir() // it leaves nothing behind, and finds nothing of the machine's
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath("chromium"), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("hide-scrollbars", true), chromedp.Flag("lang", "en-GB"), chromedp.Env("HOME="+home),
		chromedp.ModifyCmdFunc(func(c *exec.Cmd) {
			c.Path, c.Err = exec.LookPath("ip")
			c.Args = append([]string{"ip", "netns", "exec", ns.Name, "chromium"}, c.Args[1:]...)
		}))
	allocator, free := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(free)
	v := &page{t: t}
	var cancel context.CancelFunc
	v.ctx, cancel = chromedp.NewContext(allocator)
	t.Cleanup(func() {
		defer cancel()
		ctx, end := context.WithTimeout(v.ctx, 10*time.Second)
		defer end()
		if err := chromedp.Cancel(ctx); err != nil {
			t.Errorf("end chromium: %v", err)
		}
	})
	messages := chromedp.Console(v.ctx)
	go func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			if m.Type == chromedp.ConsoleError || m.Type == chromedp.ConsoleWarning || m.IsException() {
				v.mu.Lock()
				v.problems = append(v.problems, fmt.Sprint(m, " ", m.URL))
				v.mu.Unlock()
			}
		}
	}()
	v.run(chromedp.EmulateViewport(1320, 900), chromedp.Navigate(url))
	return v
}

// takeProblems returns those since it was called last.
func (v *page) takeProblems() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	list := v.problems
	v.problems = nil
	return list
}

// colours is what the user prefers, light or dark.
func colours(scheme string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	})
}

const browserTime = 20 * time.Second

func (v *page) run(actions ...chromedp.Action[chromedp.Void]) {
	v.t.Helper()
	// Not the first use of v.ctx: the browser lives as long as that one's context.
	ctx, cancel := context.WithTimeout(v.ctx, browserTime)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		v.t.Fatal(err)
	}
}

// ask evaluates JavaScript.
func evaluate[T any](v *page, script string) T {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.ctx, browserTime)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](script))
	if err != nil {
		v.t.Fatalf("%s: %v", script, err)
	}
	return value
}

// text is what a person reads in the elements that a selector finds.
func (v *page) text(selector string) string {
	v.t.Helper()
	return evaluate[string](v, fmt.Sprintf("[...document.querySelectorAll(%q)].map(e => e.innerText).join('\\n')", selector))
}

// until waits until the page shows something.
func (v *page) until(what, script string) {
	v.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !evaluate[bool](v, script) {
		if time.Now().After(deadline) {
			v.t.Fatalf("the page does not show %s within 30 s; it shows:\n%s", what, v.text("body"))
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// picture writes the whole page to a file.
func (v *page) picture(name string) {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.ctx, browserTime)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(name, png, 0o644)
	}
	if err != nil {
		v.t.Fatal(err)
	}
}
