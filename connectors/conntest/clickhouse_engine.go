//go:build unix

package conntest

import (
	_ "embed"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

// clickHouseEngine puts chdb behind HTTP.
//
//go:embed clickhouse_engine.py
var clickHouseEngine string

// ClickHouseEngine makes an empty database in ClickHouse's present engine,
// which runs in a process of Python (chdb) behind the HTTP interface, and
// returns how to connect to it. Debian's server is of 2018: what is newer
// (deduplication tokens, DateTime64, Map, wide decimals) is tried here. It
// runs one query at a time, and queries have no IDs in it.
func ClickHouseEngine(t testing.TB) (dsn string) {
	t.Helper()
	return sharedEngine(t).Database(t)
}

var sharedEngine = shared(enginePython, newEngine)

// EngineServer is an engine that a test has for itself, to stop and start.
type EngineServer struct{ server }

// OwnClickHouseEngine starts an engine that ends with the test.
func OwnClickHouseEngine(t testing.TB) *EngineServer {
	t.Helper()
	s, err := newEngine(enginePython(t))
	return own(t, s, err)
}

func enginePython(t testing.TB) string { return Python(t, "chdb") }

func newEngine(python string) (*EngineServer, error) {
	s := &EngineServer{}
	s.server = server{
		name: "chdb", ports: make([]int, 1),
		command: func() *exec.Cmd {
			return exec.Command(python, "-c", clickHouseEngine, s.file("data"), fmt.Sprint(s.ports[0]))
		},
		ready: func() bool {
			n, err := s.Query("SELECT 1")
			return err == nil && n == "1"
		},
	}
	return s, s.launch(nil)
}

// Database makes an empty database and returns how to connect to it.
func (s *EngineServer) Database(t testing.TB) (dsn string) {
	t.Helper()
	name := s.another()
	if _, err := s.Query("CREATE DATABASE " + name); err != nil {
		t.Fatal(err)
	}
	return "http://default@" + s.address(0) + "/" + name + "?compress=none"
}

// Query runs one statement and returns the engine's text.
func (s *EngineServer) Query(query string) (string, error) { return askClickHouse(s.address(0), query) }

// URL is where the engine answers over HTTP.
func (s *EngineServer) URL() string { return "http://" + s.address(0) }

// askClickHouse runs one statement over HTTP, beside any driver.
func askClickHouse(address, query string) (string, error) {
	req, err := http.NewRequest(http.MethodPost, "http://"+address+"/", strings.NewReader(query))
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
