//go:build unix

package conntest

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Postgres makes an empty database in a private PostgreSQL server and returns
// how to connect to it, as a superuser. The server is started by the first
// call, serves all tests of the binary, and ends with the binary, however that
// ends. Without PostgreSQL on the machine the test is skipped; where the
// variable CI is set it fails instead.
func Postgres(t testing.TB) (dsn string) {
	t.Helper()
	return sharedPostgres(t).Database(t)
}

var sharedPostgres = shared(postgresBinaries, newPostgres)

// PostgresServer is a server that a test has for itself, to stop and start. A
// stop ends all its connections, and what runs is rolled back; after a crash
// the next start recovers from its log.
type PostgresServer struct {
	server
	bin  string
	cred *syscall.Credential
}

// OwnPostgres starts a server that ends with the test.
func OwnPostgres(t testing.TB) *PostgresServer {
	t.Helper()
	s, err := newPostgres(postgresBinaries(t))
	return own(t, s, err)
}

// Database makes an empty database and returns how to connect to it.
func (s *PostgresServer) Database(t testing.TB) (dsn string) {
	t.Helper()
	name := s.another()
	if _, err := s.psql("postgres", "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	return "postgres://postgres@" + s.address(0) + "/" + name + "?sslmode=disable"
}

// Query runs one statement in the database of a dsn, beside any driver, and
// returns the server's text.
func (s *PostgresServer) Query(dsn, query string) (string, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return "", err
	}
	return s.psql(strings.TrimPrefix(u.Path, "/"), query)
}

// postgresBinaries finds the newest installation.
func postgresBinaries(t testing.TB) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if path, err := exec.LookPath("initdb"); err == nil {
		found = append(found, path)
	}
	if len(found) > 0 {
		version := func(path string) int {
			n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
			return n
		}
		return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) }))
	}
	Missing(t, "PostgreSQL (the programs initdb, postgres and psql of the package postgresql)")
	return ""
}

func newPostgres(bin string) (*PostgresServer, error) {
	s := &PostgresServer{bin: bin}
	s.server = server{
		name: "postgres", ports: make([]int, 1), crash: "QUIT", stop: "INT",
		command: func() *exec.Cmd {
			return s.program("postgres", "-D", s.data(),
				"-c", "listen_addresses=127.0.0.1", "-c", "port="+strconv.Itoa(s.ports[0]), "-c", "unix_socket_directories=",
				"-c", "max_connections=60", "-c", "wal_level=logical", "-c", "max_wal_senders=30", "-c", "max_replication_slots=60", "-c", "max_prepared_transactions=10", "-c", "log_min_messages=fatal", "-c", "log_min_error_statement=panic")
		},
		ready: func() bool { // and is the one that was started
			answer, err := s.psql("postgres", "SHOW data_directory")
			return err == nil && answer == s.data()
		},
	}
	return s, s.launch(s.makeCluster)
}

func (s *PostgresServer) makeCluster() error {
	if err := s.dropRights(); err != nil {
		return err
	}
	if _, err := s.run("initdb", "-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.data(), "pg_hba.conf"), []byte(accessRules), 0o644)
}

// accessRules lets everyone in except members of the role "guarded", who need
// a password: with them a test can be refused.
const accessRules = "host all +guarded 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n"

// dropRights chooses whom to run the server as: it refuses to run as root.
func (s *PostgresServer) dropRights() error {
	if os.Getuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		s.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		return os.Chown(s.dir, uid, gid)
	}
	return fmt.Errorf("a server does not run as root, and there is no user postgres or nobody to run it as")
}

func (s *PostgresServer) data() string { return s.file("data") }

func (s *PostgresServer) program(name string, args ...string) *exec.Cmd {
	path := filepath.Join(s.bin, name)
	if _, err := os.Stat(path); err != nil {
		path = name // a link to one of the programs is not next to the others
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
	return cmd
}

func (s *PostgresServer) run(name string, args ...string) (string, error) {
	var out, complaint bytes.Buffer
	cmd := s.program(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(complaint.Bytes()))
	}
	return strings.TrimSpace(out.String()), nil
}

func (s *PostgresServer) psql(database, query string) (string, error) {
	return s.run("psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", strconv.Itoa(s.ports[0]), "-U", "postgres", "-d", database, "-c", query)
}
