//go:build unix

package conntest

import (
	"fmt"
	"io"
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

// ClickHouse makes an empty database in a private ClickHouse server and
// returns how to connect to it over the native protocol. The server is started
// by the first call, serves all tests of the binary, and ends with the binary,
// however that ends. Without ClickHouse on the machine the test is skipped;
// where the variable CI is set it fails instead.
func ClickHouse(t testing.TB) (dsn string) {
	t.Helper()
	s, err := sharedClickHouse(clickHouseProgram(t))
	if err != nil {
		t.Fatal(err)
	}
	return s.Database(t)
}

// ClickHouseServer is a server that a test has for itself, to stop and start.
type ClickHouseServer struct {
	program, dir string
	port, http   int
	process      *process
	made         *atomic.Int64
}

// OwnClickHouse starts a server that ends with the test.
func OwnClickHouse(t testing.TB) *ClickHouseServer {
	t.Helper()
	s, err := newClickHouse(clickHouseProgram(t))
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
func (s *ClickHouseServer) Stop() { s.process.end("stop\n") }

// Crash ends the server as kill -9 does.
func (s *ClickHouseServer) Crash() { s.process.end("crash\n") }

// Start starts the server again, at the same address.
func (s *ClickHouseServer) Start(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
}

// Database makes an empty database and returns how to connect to it.
func (s *ClickHouseServer) Database(t testing.TB) (dsn string) {
	t.Helper()
	name := fmt.Sprintf("test%d", s.made.Add(1))
	if _, err := s.Query("CREATE DATABASE " + name); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("clickhouse://default@127.0.0.1:%d/%s", s.port, name)
}

// Query runs one statement over HTTP, beside any driver, and returns the
// server's text.
func (s *ClickHouseServer) Query(query string) (string, error) {
	req, err := http.NewRequest(http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/", s.http), strings.NewReader(query))
	if err != nil {
		return "", err
	}
	req.Close = true // nothing of it is left for a test that looks for goroutines
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s: %s", query, res.Status, text)
	}
	return strings.TrimSpace(string(text)), nil
}

var sharedClickHouse = func() func(program string) (*ClickHouseServer, error) {
	var (
		once sync.Once
		s    *ClickHouseServer
		err  error
	)
	return func(program string) (*ClickHouseServer, error) {
		once.Do(func() { s, err = newClickHouse(program) })
		return s, err
	}
}()

func clickHouseProgram(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"clickhouse-server", "/usr/sbin/clickhouse-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	Missing(t, "ClickHouse (the package clickhouse-server)")
	return ""
}

func newClickHouse(program string) (*ClickHouseServer, error) {
	dir, err := os.MkdirTemp("", "entrepot-clickhouse-")
	if err != nil {
		return nil, err
	}
	s := &ClickHouseServer{program: program, dir: dir, made: new(atomic.Int64)}
	if err := s.init(); err != nil {
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("start a private ClickHouse server: %w", err)
	}
	return s, nil
}

// Debian's server reads <yandex>, later ones <clickhouse> and that name too.
const (
	clickHouseConfig = `<yandex>
<logger><level>warning</level><console>1</console></logger>
<listen_host>127.0.0.1</listen_host><tcp_port>%d</tcp_port><http_port>%d</http_port>
<path>%[3]s/data/</path><tmp_path>%[3]s/tmp/</tmp_path><user_files_path>%[3]s/files/</user_files_path>
<mark_cache_size>67108864</mark_cache_size><users_config>%[3]s/users.xml</users_config>
<default_profile>default</default_profile><default_database>default</default_database><timezone>UTC</timezone>
</yandex>
`
	clickHouseUsers = `<yandex><profiles><default/></profiles><quotas><default/></quotas><users><default>
<password></password><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota>
</default></users></yandex>
`
)

func (s *ClickHouseServer) init() error {
	if err := os.WriteFile(filepath.Join(s.dir, "users.xml"), []byte(clickHouseUsers), 0o644); err != nil {
		return err
	}
	return startSomewhere(func(port int) error {
		s.port = port
		var err error
		if s.http, err = freePort(); err != nil {
			return err
		}
		config := fmt.Sprintf(clickHouseConfig, s.port, s.http, s.dir)
		if err := os.WriteFile(filepath.Join(s.dir, "config.xml"), []byte(config), 0o644); err != nil {
			return err
		}
		if err = s.start(); err != nil {
			s.process.end("crash\n")
		}
		return err
	})
}

func (s *ClickHouseServer) start() error {
	cmd := exec.Command(s.program, "--config-file="+filepath.Join(s.dir, "config.xml"))
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p, err := startProcess(cmd, s.dir, "KILL", "TERM")
	if err != nil {
		return err
	}
	s.process = p
	return p.await(func() bool {
		path, err := s.Query("SELECT count() FROM system.tables WHERE database = 'system' AND name = 'one'")
		return err == nil && path == "1"
	})
}
