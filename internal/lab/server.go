package lab

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"weir/internal/testnet"
)

// serve starts a host's servers, which stop with the test.
func serve(r testnet.Reporter, host *testnet.Host, vips []string) error {
	web := &http.Server{Handler: handler(host.Role), ReadHeaderTimeout: 10 * time.Second}
	r.Cleanup(func() { web.Close() })
	for _, port := range []int{HTTPPort, HTTPAltPort} {
		l, err := host.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		go web.Serve(l)
	}
	// A datagram is answered from the address the socket is bound to: one socket for each address, so that replies come from the VIP.
	for _, address := range append([]string{host.IP.String(), host.IP6.String()}, vips...) {
		for _, port := range []int{EchoPort, EchoAltPort} {
			c, err := host.ListenPacket("udp", net.JoinHostPort(address, strconv.Itoa(port)))
			if err != nil {
				return err
			}
			r.Cleanup(func() { c.Close() })
			go echo(c, host.Role)
		}
	}
	return nil
}

// handler answers with who served and whom it saw as its client, and with a download of any size that is the same each time.
func handler(name string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s saw %s\n", name, r.RemoteAddr)
	})
	mux.HandleFunc("GET /download/{bytes}", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseInt(r.PathValue("bytes"), 10, 64)
		if err != nil || n < 0 {
			http.Error(w, "how many bytes?", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		w.Header().Set("X-Served-By", fmt.Sprintf("%s saw %s", name, r.RemoteAddr))
		io.Copy(w, content(n))
	})
	mux.HandleFunc("POST /sum", func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%x %d\n", sum.Sum(nil), n)
	})
	return mux
}

// content returns the bytes of a download: n random ones from a fixed seed.
func content(n int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte([]byte("the lab's download, for everyone"))), n)
}

// echo answers datagrams until c is closed: who served, whom it saw, and the datagram itself.
func echo(c net.PacketConn, name string) {
	b := make([]byte, 64<<10)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		c.WriteTo(append([]byte(fmt.Sprintf("%s saw %s\n", name, from)), b[:n]...), from)
	}
}

// sighting reads "server2 saw 192.0.2.10:4711".
func sighting(line string) (server string, client netip.Addr, err error) {
	server, text, ok := strings.Cut(strings.TrimSpace(line), " saw ")
	from, err := netip.ParseAddrPort(text)
	if !ok || err != nil {
		return "", client, fmt.Errorf("unexpected answer %q", line)
	}
	return server, from.Addr().Unmap(), nil
}

var sums sync.Map // of int64 to [32]byte

// contentSum returns the SHA-256 of a download of n bytes.
func contentSum(n int64) [32]byte {
	if sum, ok := sums.Load(n); ok {
		return sum.([32]byte)
	}
	h := sha256.New()
	io.Copy(h, content(n))
	sum := [32]byte(h.Sum(nil))
	sums.Store(n, sum)
	return sum
}
