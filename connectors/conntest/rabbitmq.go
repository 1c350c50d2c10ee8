//go:build unix

package conntest

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// RabbitMQ makes an empty virtual host in a private RabbitMQ server and
// returns how to connect to it and where the server's management API is, both
// with the user guest. The server is started by the first call, serves all
// tests of the binary, and ends with the binary, however that ends. Without
// RabbitMQ on the machine the test is skipped; where the variable CI is set it
// fails instead.
func RabbitMQ(t testing.TB) (amqp, management string) {
	t.Helper()
	s, err := sharedRabbit(rabbitProgram(t))
	if err != nil {
		t.Fatal(err)
	}
	return s.VirtualHost(t), s.Management()
}

// RabbitServer is a server that a test has for itself, to stop and start.
type RabbitServer struct {
	program, dir     string
	port, management int
	dist, epmd       int
	process          *process
	made             *atomic.Int64
}

// OwnRabbitMQ starts a server that ends with the test.
func OwnRabbitMQ(t testing.TB) *RabbitServer {
	t.Helper()
	s, err := newRabbit(rabbitProgram(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.process.end("")
		if err := os.RemoveAll(s.dir); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Stop ends the server in order.
func (s *RabbitServer) Stop() { s.process.end("stop\n") }

// Crash ends the server as kill -9 does.
func (s *RabbitServer) Crash() { s.process.end("crash\n") }

// Start starts the server again, at the same address.
func (s *RabbitServer) Start(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
}

// Management is the address of the management API.
func (s *RabbitServer) Management() string {
	return fmt.Sprintf("http://guest:guest@127.0.0.1:%d", s.management)
}

// VirtualHost makes an empty virtual host and returns how to connect to it.
func (s *RabbitServer) VirtualHost(t testing.TB) (amqp string) {
	t.Helper()
	name := fmt.Sprintf("test%d", s.made.Add(1))
	for _, call := range [][2]string{
		{"/api/vhosts/" + name, "{}"},
		{"/api/permissions/" + name + "/guest", `{"configure":".*","write":".*","read":".*"}`},
	} {
		if err := s.put(call[0], call[1]); err != nil {
			t.Fatal(err)
		}
	}
	return fmt.Sprintf("amqp://guest:guest@127.0.0.1:%d/%s", s.port, name)
}

func (s *RabbitServer) put(path, body string) error {
	req, err := http.NewRequest(http.MethodPut, s.Management()+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 {
		return fmt.Errorf("PUT %s: %s", path, res.Status)
	}
	return nil
}

var sharedRabbit = func() func(program string) (*RabbitServer, error) {
	var (
		once sync.Once
		s    *RabbitServer
		err  error
	)
	return func(program string) (*RabbitServer, error) {
		once.Do(func() { s, err = newRabbit(program) })
		return s, err
	}
}()

// rabbitProgram is the start script itself: the one in /usr/sbin changes the
// user and the folders.
func rabbitProgram(t testing.TB) string {
	t.Helper()
	if found, _ := filepath.Glob("/usr/lib/rabbitmq/lib/*/sbin/rabbitmq-server"); len(found) > 0 {
		return found[len(found)-1]
	}
	Missing(t, "RabbitMQ (the package rabbitmq-server)")
	return ""
}

func newRabbit(program string) (*RabbitServer, error) {
	dir, err := os.MkdirTemp("", "entrepot-rabbitmq-")
	if err != nil {
		return nil, err
	}
	s := &RabbitServer{program: program, dir: dir, made: new(atomic.Int64)}
	if err := s.init(); err != nil {
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("start a private RabbitMQ server: %w", err)
	}
	return s, nil
}

func (s *RabbitServer) init() error {
	if err := os.WriteFile(s.file("plugins"), []byte("[rabbitmq_management].\n"), 0o644); err != nil {
		return err
	}
	return startSomewhere(func(port int) error {
		s.port = port
		var err error
		for _, p := range []*int{&s.management, &s.dist, &s.epmd} {
			if *p, err = freePort(); err != nil {
				return err
			}
		}
		conf := fmt.Sprintf("listeners.tcp.1 = 127.0.0.1:%d\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = %d\n"+
			"log.console = true\nlog.console.level = warning\nlog.file = false\ndisk_free_limit.absolute = 100MB\n", s.port, s.management)
		if err := os.WriteFile(s.file("rabbitmq.conf"), []byte(conf), 0o644); err != nil {
			return err
		}
		if err = s.start(); err != nil {
			s.process.end("crash\n")
		}
		return err
	})
}

func (s *RabbitServer) file(name string) string { return filepath.Join(s.dir, name) }

// start runs the server. Erlang's port mapper is a part of it, so that it ends
// with the server and meets no other one.
func (s *RabbitServer) start() error {
	const run = `epmd -address 127.0.0.1 & exec "$1"`
	cmd := exec.Command("sh", "-c", run, "sh", s.program)
	cmd.Dir = s.dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "LC_ALL=C.UTF-8",
		fmt.Sprintf("RABBITMQ_NODENAME=entrepot%d@localhost", s.port),
		fmt.Sprintf("RABBITMQ_DIST_PORT=%d", s.dist), fmt.Sprintf("ERL_EPMD_PORT=%d", s.epmd),
		"RABBITMQ_MNESIA_BASE=" + s.file("mnesia"), "RABBITMQ_LOG_BASE=" + s.file("logs"),
		"RABBITMQ_CONFIG_FILE=" + s.file("rabbitmq.conf"), "RABBITMQ_ENABLED_PLUGINS_FILE=" + s.file("plugins"),
		"RABBITMQ_PID_FILE=" + s.file("rabbit.pid"),
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p, err := startProcess(cmd, s.dir, "KILL", "TERM")
	if err != nil {
		return err
	}
	s.process = p
	return p.await(func() bool {
		res, err := http.Get(s.Management() + "/api/overview")
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
}
