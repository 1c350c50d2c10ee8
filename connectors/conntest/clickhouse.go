//go:build unix

package conntest

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// ClickHouse makes an empty database in a private ClickHouse server and
// returns how to connect to it over the native protocol. The server is started
// by the first call, serves all tests of the binary, and ends with the binary,
// however that ends. Without ClickHouse on the machine the test is skipped;
// where the variable CI is set it fails instead.
func ClickHouse(t testing.TB) (dsn string) {
	t.Helper()
	return sharedClickHouse(t).Database(t)
}

var sharedClickHouse = shared(clickHouseProgram, newClickHouse)

// ClickHouseServer is a server that a test has for itself, to stop and start.
type ClickHouseServer struct{ server }

// OwnClickHouse starts a server that ends with the test.
func OwnClickHouse(t testing.TB) *ClickHouseServer {
	t.Helper()
	s, err := newClickHouse(clickHouseProgram(t))
	return own(t, s, err)
}

// Database makes an empty database and returns how to connect to it.
func (s *ClickHouseServer) Database(t testing.TB) (dsn string) {
	t.Helper()
	name := s.another()
	if _, err := s.Query("CREATE DATABASE " + name); err != nil {
		t.Fatal(err)
	}
	return "clickhouse://default@" + s.address(0) + "/" + name
}

// Query runs one statement over HTTP, beside any driver, and returns the
// server's text.
func (s *ClickHouseServer) Query(query string) (string, error) {
	return askClickHouse(s.address(1), query)
}

// URL is where the server answers over HTTP.
func (s *ClickHouseServer) URL() string { return "http://" + s.address(1) }

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
	s := &ClickHouseServer{}
	s.server = server{
		name: "clickhouse", ports: make([]int, 2),
		prepare: s.configure, ready: s.serves,
		command: func() *exec.Cmd {
			cmd := exec.Command(program, "--config-file="+s.file("config.xml"))
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir}
			return cmd
		},
	}
	return s, s.launch(nil)
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

func (s *ClickHouseServer) configure() error {
	if err := os.WriteFile(s.file("users.xml"), []byte(clickHouseUsers), 0o644); err != nil {
		return err
	}
	return os.WriteFile(s.file("config.xml"), fmt.Appendf(nil, clickHouseConfig, s.ports[0], s.ports[1], s.dir), 0o644)
}

func (s *ClickHouseServer) serves() bool {
	n, err := s.Query("SELECT count() FROM system.tables WHERE database = 'system' AND name = 'one'")
	return err == nil && n == "1"
}
