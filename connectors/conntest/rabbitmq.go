//go:build unix

package conntest

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
	s := sharedRabbit(t)
	return s.VirtualHost(t), s.Management()
}

var sharedRabbit = shared(rabbitProgram, newRabbit)

// RabbitServer is a server that a test has for itself, to stop and start.
type RabbitServer struct{ server }

// OwnRabbitMQ starts a server that ends with the test.
func OwnRabbitMQ(t testing.TB) *RabbitServer {
	t.Helper()
	s, err := newRabbit(rabbitProgram(t))
	return own(t, s, err)
}

// Management is the address of the management API.
func (s *RabbitServer) Management() string {
	return "http://guest:guest@" + s.address(1)
}

// VirtualHost makes an empty virtual host and returns how to connect to it.
func (s *RabbitServer) VirtualHost(t testing.TB) (amqp string) {
	t.Helper()
	name := s.another()
	for _, call := range [][2]string{
		{"/api/vhosts/" + name, "{}"},
		{"/api/permissions/" + name + "/guest", `{"configure":".*","write":".*","read":".*"}`},
	} {
		if err := s.put(call[0], call[1]); err != nil {
			t.Fatal(err)
		}
	}
	return "amqp://guest:guest@" + s.address(0) + "/" + name
}

// Control runs rabbitmqctl.
func (s *RabbitServer) Control(t testing.TB, args ...string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(filepath.Dir(rabbitProgram(t)), "rabbitmqctl"), args...)
	cmd.Env = s.environment()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("rabbitmqctl %s: %v: %s", strings.Join(args, " "), err, out)
	}
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

// newRabbit's ports are for AMQP, the management API, other nodes, and Erlang's
// port mapper.
func newRabbit(program string) (*RabbitServer, error) {
	s := &RabbitServer{}
	s.server = server{
		name: "rabbitmq", ports: make([]int, 4),
		prepare: s.configure,
		command: func() *exec.Cmd { return s.run(program) },
		ready:   func() bool { return answers(s.Management()+"/api/overview") && listens(s.address(0)) },
	}
	return s, s.launch(nil)
}

// listens asks whether a port takes connections.
func listens(address string) bool {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

func (s *RabbitServer) configure() error {
	if err := os.WriteFile(s.file("plugins"), []byte("[rabbitmq_management].\n"), 0o644); err != nil {
		return err
	}
	conf := fmt.Appendf(nil, "listeners.tcp.1 = 127.0.0.1:%d\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = %d\n"+
		"log.console = true\nlog.console.level = warning\nlog.file = false\ndisk_free_limit.absolute = 100MB\n", s.ports[0], s.ports[1])
	return os.WriteFile(s.file("rabbitmq.conf"), conf, 0o644)
}

// run has Erlang's port mapper as a part of the server, so that it ends with
// the server and meets no other one.
func (s *RabbitServer) run(program string) *exec.Cmd {
	cmd := exec.Command("sh", "-c", `epmd -address 127.0.0.1 & exec "$1"`, "sh", program)
	cmd.Env = s.environment()
	return cmd
}

func (s *RabbitServer) environment() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "LC_ALL=C.UTF-8",
		fmt.Sprintf("RABBITMQ_NODENAME=entrepot%d@localhost", s.ports[0]),
		fmt.Sprintf("RABBITMQ_DIST_PORT=%d", s.ports[2]), fmt.Sprintf("ERL_EPMD_PORT=%d", s.ports[3]),
		"RABBITMQ_MNESIA_BASE=" + s.file("mnesia"), "RABBITMQ_LOG_BASE=" + s.file("logs"),
		"RABBITMQ_CONFIG_FILE=" + s.file("rabbitmq.conf"), "RABBITMQ_ENABLED_PLUGINS_FILE=" + s.file("plugins"),
		"RABBITMQ_PID_FILE=" + s.file("rabbit.pid"),
	}
}
