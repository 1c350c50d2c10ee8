//go:build unix

package conntest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

// server is what private servers of all makes have in common: a process with a
// folder and ports of its own, that a test can stop and start.
type server struct {
	name    string       // for the folder and errors
	ports   []int        // as many as are needed, to be chosen; clients use the first
	prepare func() error // writes what the command reads; called for each choice of ports
	command func() *exec.Cmd
	ready   func() bool // asks whether it serves
	crash   string      // the signal that ends it as kill -9 does, KILL by default
	stop    string      // the signal that ends it in order, TERM by default

	dir     string
	process *process
	made    atomic.Int64
}

// launch makes the folder, sets the server up in it, and starts it. The ports
// may be taken between the choice and the start, so there are several tries.
func (s *server) launch(setUp func() error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("start a private %s server: %w", s.name, err)
		}
	}()
	if s.dir, err = os.MkdirTemp("", "entrepot-"+s.name+"-"); err != nil {
		return err
	}
	if setUp != nil {
		err = setUp()
	}
	if err == nil {
		err = s.somewhere()
	}
	if err != nil {
		_ = os.RemoveAll(s.dir)
	}
	return err
}

func (s *server) somewhere() error {
	var err error
	for range 5 {
		if err = choosePorts(s.ports); err != nil {
			return err
		}
		if s.prepare != nil {
			if err = s.prepare(); err != nil {
				return err
			}
		}
		if err = s.start(); err == nil {
			return nil
		}
		s.Crash()
	}
	return err
}

func (s *server) start() error {
	crash, stop := s.crash, s.stop
	if crash == "" {
		crash, stop = "KILL", "TERM"
	}
	var err error
	if s.process, err = startProcess(s.command(), s.dir, crash, stop); err != nil {
		return err
	}
	return s.process.await(s.ready)
}

// Stop ends the server in order.
func (s *server) Stop() { s.process.end("stop\n") }

// Crash ends the server as kill -9 does.
func (s *server) Crash() { s.process.end("crash\n") }

// Start starts the server again, at the same address.
func (s *server) Start(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
}

func (s *server) file(name string) string { return filepath.Join(s.dir, name) }

// address of port number i.
func (s *server) address(i int) string { return fmt.Sprintf("127.0.0.1:%d", s.ports[i]) }

// another is a name that this server has not given before.
func (s *server) another() string { return fmt.Sprintf("test%d", s.made.Add(1)) }

func (s *server) remove(t testing.TB) {
	s.process.end("")
	if err := os.RemoveAll(s.dir); err != nil {
		t.Error(err)
	}
}

// own hands over a server that ends with the test.
func own[S interface{ remove(t testing.TB) }](t testing.TB, s S, err error) S {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.remove(t) })
	return s
}

// shared makes one server by the first call, for all tests of the binary. It
// ends with the binary, however that ends. find ends the test that has no
// program to start.
func shared[S any](find func(t testing.TB) string, start func(program string) (S, error)) func(t testing.TB) S {
	var (
		mu   sync.Mutex // a Once would count a test that was skipped in find
		done bool
		s    S
		err  error
	)
	return func(t testing.TB) S {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		if !done {
			program := find(t)
			s, err = start(program)
			done = true
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

// choosePorts finds free ones.
func choosePorts(ports []int) error {
	for i := range ports { // all are held until the last is chosen, so that they differ
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return nil
}
