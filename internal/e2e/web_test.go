//go:build browser

package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"weir/internal/lab"
	"weir/lb"
)

var screenshot = flag.String("screenshot", "", "write a picture of the page to this file, after a minute of traffic")

const webAddress = "127.0.0.1:8080"

// number is how a script reads a figure such as "1.23 k".
const number = `var number = s => { const [n, unit] = s.replaceAll(',', '').split(' '); return n * ({k: 1e3, M: 1e6, G: 1e9})[unit] || +n };`

// keepBusy sends requests, downloads and datagrams to services until it is told to end, a bit more and a bit less by turns.
func keepBusy(t *testing.T, d *director, web, echo []lab.Service) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for round := 0; ctx.Err() == nil; round++ {
			n := []int{10, 14, 22, 30, 24, 16, 11}[round/3%7]
			for i, s := range web {
				d.Requests(ctx, s.VIP, n/(i+1))
			}
			d.Download(ctx, web[round%len(web)].VIP, int64(n)<<14)
			d.Echoes(ctx, echo[round%len(echo)].VIP, n)
			select {
			case <-ctx.Done():
			case <-time.After(150 * time.Millisecond):
			}
		}
	})
	return sync.OnceFunc(func() { cancel(); wg.Wait() })
}

func TestTheWebPageInABrowser(t *testing.T) {
	d := newLab(t, arms["two arms"])
	var web, echo []lab.Service
	for _, mode := range lab.Modes {
		web = append(web, service(lb.TCP, mode, 80, lab.HTTPAltPort, 1, 2, 3))
		echo = append(echo, service(lb.UDP, mode, 7, lab.EchoAltPort, 1, 1, 1))
	}
	all := slices.Concat(web, echo)
	start := func() { d.began(d.StartWeir(context.Background(), weir, nil, all, "--web-address", webAddress)) }
	start()
	end := keepBusy(t, d, web, echo)
	t.Cleanup(end)
	v := openPage(t, d.Director, "http://"+webAddress+"/")

	v.until("that it is live", `document.querySelector('#link').innerText.includes('live')`)
	v.until("every service with all its servers", fmt.Sprintf(`document.querySelectorAll('#service-table tbody').length == %d && document.querySelectorAll('#service-table .of-service').length == %d`, len(all), 3*len(all)))
	for _, s := range all {
		name := fmt.Sprintf("%s %s", s.Proto, s.VIP)
		if !strings.Contains(v.text(".name"), name) {
			t.Errorf("no service %s in\n%s", name, v.text(".name"))
		}
	}
	v.until("that all is well", `document.querySelector('#state').className == 'ok'`)
	v.until("packets of each service", number+`[...document.querySelectorAll('#service-table tbody')].filter(b => number(b.rows[0].cells[7].innerText) + number(b.rows[0].cells[8].innerText) > 0).length == `+fmt.Sprint(len(all)))
	v.until("packets a second", number+`number(document.querySelector('#chart-packets b').innerText) > 50`)
	v.until("traffic of each worker", number+`number(document.querySelector('#workers tbody').rows[0].cells[2].innerText) > 50`)
	const opened = number + `number([...document.querySelectorAll('#table dt')].find(e => e.innerText == 'Opened').nextElementSibling.innerText)`
	before := evaluate[float64](v, opened)
	v.until("that more connections were opened", fmt.Sprintf("%s > %v", opened, before))
	// A line of a chart is drawn: pixels of its colour.
	v.until("lines in every chart", `[...document.querySelectorAll('canvas')].filter(c => {
		const p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data
		let coloured = 0
		for (let i = 0; i < p.length; i += 4) if (p[i+3] > 200 && Math.max(p[i], p[i+1], p[i+2]) - Math.min(p[i], p[i+1], p[i+2]) > 90) coloured++
		return coloured > 20
	}).length == 3`)
	if *screenshot != "" {
		time.Sleep(time.Minute)
		v.picture(*screenshot)
	}

	searchAndChoose(t, v, all, echo)
	everyScreen(t, v)
	if list := v.takeProblems(); len(list) > 0 {
		t.Errorf("the browser complains:\n%s", strings.Join(list, "\n"))
	}

	lost := d.Servers[1]
	lost.Dev.SetUp(false)
	v.until("which server is lost", fmt.Sprintf(`document.querySelector('#problems .bad')?.innerText.includes('%s (8 services) cannot be reached') ?? false`, lost.IP))
	v.until("it in each service", fmt.Sprintf(`[...document.querySelectorAll('.of-service .dot.bad')].filter(e => e.closest('tr').innerText.startsWith('%s:') && e.parentElement.innerText == 'unreachable').length == %d`, lost.IP, len(all)))
	v.until("why packets were dropped, and what to do", `document.querySelector('#stops').innerText.includes('server-unreachable') && document.querySelector('#stops').innerText.includes('ip neigh')`)
	lost.Dev.SetUp(true)
	v.until("that it is back", `document.querySelectorAll('.dot.bad').length == 0`)

	end()
	if list := v.takeProblems(); len(list) > 0 {
		t.Errorf("the browser complains:\n%s", strings.Join(list, "\n"))
	}
	d.stop()
	v.until("that the director is gone", `!document.querySelector('#lost').hidden && document.querySelector('#lost').innerText.includes('cannot be reached')`)
	v.until("how old the data is", `document.querySelector('#link').innerText.match(/last data (\d+) s ago/)?.[1] >= 3`)
	for _, text := range v.takeProblems() {
		if !strings.Contains(text, "net::ERR_CONNECTION_REFUSED") {
			t.Errorf("the browser complains: %s", text)
		}
	}
	start()
	v.until("the director that is back", `document.querySelector('#link').innerText.includes('live') && document.querySelector('#lost').hidden`)
}

// searchAndChoose looks for some of the services and at one of them.
func searchAndChoose(t *testing.T, v *page, all, echo []lab.Service) {
	v.run(chromedp.SendKeys(chromedp.CSS("#search"), "udp"))
	v.until("the services that were searched for", fmt.Sprintf(`document.querySelectorAll('#service-table tbody').length == %d`, len(echo)))
	if got := v.text("#services-count"); got != fmt.Sprintf("%d of %d", len(echo), len(all)) {
		t.Errorf("it says %q", got)
	}
	name := fmt.Sprintf("UDP %s", echo[0].VIP)
	v.run(chromedp.Click(chromedp.CSS("#service-table .name")))
	v.until("the chosen service in the charts", fmt.Sprintf(`document.querySelector('#traffic-title').innerText == %q`, name))
	v.run(chromedp.Reload())
	v.until("the same after a reload", fmt.Sprintf(`document.querySelector('#traffic-title').innerText == %q && document.querySelectorAll('#service-table tbody').length == %d`, name, len(echo)))
	v.run(chromedp.Click(chromedp.CSS("#whole")), chromedp.SendKeys(chromedp.CSS("#search"), strings.Repeat(kb.End+kb.Backspace, len("udp"))))
	v.until("all again", fmt.Sprintf(`document.querySelector('#traffic-title').innerText == 'Whole director' && document.querySelectorAll('#service-table tbody').length == %d`, len(all)))
	v.run(chromedp.Click(chromedp.Search(`//th/button[text()="Active"]`)))
	v.until("the order", `document.querySelector('th[aria-sort=descending]')?.innerText.startsWith('Active') ?? false`)
}

// everyScreen looks at the page on a telephone and on a large screen, light and dark.
func everyScreen(t *testing.T, v *page) {
	for _, width := range []int64{320, 390, 800, 1320} {
		for _, scheme := range []string{"dark", "light"} {
			v.run(chromedp.EmulateViewport(width, 900), colours(scheme))
			if wide := evaluate[int64](v, `document.documentElement.scrollWidth`); wide > width {
				t.Errorf("%d pixels wide on a screen of %d", wide, width)
			}
			dark := evaluate[bool](v, `getComputedStyle(document.body).backgroundColor.match(/\d+/)[0] < 60`)
			if dark != (scheme == "dark") {
				t.Errorf("the page is dark: %v, in %s mode", dark, scheme)
			}
		}
	}
}

// TestTheWebPageAnswersOnBothIPVersions: the flag takes addresses of either.
func TestTheWebPageAnswersOnBothIPVersions(t *testing.T) {
	d := newLab(t, arms["one arm"])
	for _, address := range []string{"127.0.0.1:8080", "[::1]:8080"} {
		d.start(everyMode(8000, lab.HTTPAltPort), "--web-address", address)
		out, err := d.Director.Run("curl", "-sSi", "http://"+address+"/")
		if err != nil || !strings.HasPrefix(out, "HTTP/1.1 200 OK") || !strings.Contains(out, "Content-Security-Policy: default-src 'self'") {
			t.Errorf("%s: %v: %s", address, err, out)
		}
		d.stop()
	}
	taken, err := d.Director.Listen("tcp", webAddress)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	p, err := d.StartWeir(t.Context(), weir, nil, everyMode(8000, lab.HTTPAltPort), "--web-address", webAddress)
	if err == nil || !strings.Contains(p.Output(), "weir: --web-address: listen tcp "+webAddress) || strings.Count(p.Output(), "\n") != 1 {
		t.Errorf("%v: %s", errors.Unwrap(err), p.Output())
	}
}
