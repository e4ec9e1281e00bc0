package api

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Socket is a Unix socket that only its owner and root may speak to. It is a net.Listener.
type Socket struct {
	*net.UnixListener
	path    string
	inode   uint64
	clients atomic.Int32
	once    sync.Once
}

// Listen makes the socket, readable and writable for its owner only. One that nobody listens on any more is replaced; while
// somebody does, and for a file that is no socket, it is an error.
func Listen(path string) (*Socket, error) {
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode()&fs.ModeSocket == 0:
		return nil, fmt.Errorf("%s: there is a file that is not a socket: remove it or choose another path", path)
	default:
		if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
			c.Close()
			return nil, fmt.Errorf("%s: another weir answers there: give this one another --admin-socket", path)
		} else if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, err
		}
	}
	// It is made under another name and renamed when it is as it should be: nobody finds it with the wrong mode, and one left
	// behind is replaced in one step.
	fresh := fmt.Sprintf("%s.%d", path, os.Getpid())
	_ = os.Remove(fresh)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	s := &Socket{UnixListener: l, path: path}
	if err = os.Chmod(fresh, 0o600); err == nil {
		if s.inode, err = inode(fresh); err == nil {
			err = os.Rename(fresh, path)
		}
	}
	if err != nil {
		return nil, errors.Join(err, l.Close(), os.Remove(fresh))
	}
	return s, nil
}

func inode(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return st.Ino, nil
}

// Accept returns the next client that may speak; others are cut off, and so are those beyond the number that is served at a time.
func (s *Socket) Accept() (net.Conn, error) {
	for {
		c, err := s.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if allowed(c) && s.clients.Add(1) <= maxClients {
			return &client{UnixConn: c, socket: s}, nil
		} else if !allowed(c) {
			refuse(c, "403 Forbidden", "weir speaks to root and to the user it runs as only")
		} else {
			s.clients.Add(-1)
			refuse(c, "503 Service Unavailable", "too many clients are connected")
		}
	}
}

// refuse answers whatever is asked, and hangs up.
func refuse(c net.Conn, status, text string) {
	body := fmt.Sprintf(`{"error":{"text":%q}}`, text)
	_ = c.SetDeadline(time.Now().Add(time.Second))
	_, _ = fmt.Fprintf(c, "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", status, len(body), body)
	c.Close()
}

// allowed asks the kernel who connected (unix(7), SO_PEERCRED): the mode of the socket alone would not hold against a
// descriptor that was handed on, or a directory moved over.
func allowed(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	ok := false
	_ = raw.Control(func(fd uintptr) {
		peer, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		ok = err == nil && mayAsk(peer.Uid)
	})
	return ok
}

func mayAsk(uid uint32) bool { return uid == 0 || uid == uint32(os.Geteuid()) }

// Close stops listening and removes the socket, if it is still this one. It may be called twice.
func (s *Socket) Close() error {
	var err error
	s.once.Do(func() {
		err = s.UnixListener.Close()
		if n, missing := inode(s.path); missing == nil && n == s.inode {
			err = errors.Join(err, os.Remove(s.path))
		}
	})
	return err
}

// client counts itself out.
type client struct {
	*net.UnixConn
	socket *Socket
	once   sync.Once
}

func (c *client) Close() error {
	c.once.Do(func() { c.socket.clients.Add(-1) })
	return c.UnixConn.Close()
}
