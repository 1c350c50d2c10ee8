//go:build unix

package conntest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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
	bin := postgresBinaries(t)
	s, err := sharedPostgres(bin)
	if err != nil {
		t.Fatal(err)
	}
	return s.database(t)
}

// PostgresServer is a server that a test has for itself, to stop and start.
type PostgresServer struct {
	bin, dir string
	port     int
	cred     *syscall.Credential
	process  *process
	made     *atomic.Int64
}

// OwnPostgres starts a server that ends with the test.
func OwnPostgres(t testing.TB) *PostgresServer {
	t.Helper()
	s, err := newPostgres(postgresBinaries(t))
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

// Database makes an empty database and returns how to connect to it.
func (s *PostgresServer) Database(t testing.TB) (dsn string) {
	t.Helper()
	return s.database(t)
}

// Stop ends the server, and with it all its connections; what runs is rolled
// back.
func (s *PostgresServer) Stop() { s.process.end("stop\n") }

// Crash ends the server without a shutdown: the next start recovers from its
// log.
func (s *PostgresServer) Crash() { s.process.end("crash\n") }

// Start starts the server again, at the same address.
func (s *PostgresServer) Start(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
}

var sharedPostgres = func() func(bin string) (*PostgresServer, error) {
	var (
		once sync.Once
		s    *PostgresServer
		err  error
	)
	return func(bin string) (*PostgresServer, error) {
		once.Do(func() { s, err = newPostgres(bin) })
		return s, err
	}
}()

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

// newPostgres makes a cluster and starts it.
func newPostgres(bin string) (*PostgresServer, error) {
	dir, err := os.MkdirTemp("", "entrepot-postgres-")
	if err != nil {
		return nil, err
	}
	s := &PostgresServer{bin: bin, dir: dir, made: new(atomic.Int64)}
	if err := s.init(); err != nil {
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("start a private PostgreSQL server: %w", err)
	}
	return s, nil
}

func (s *PostgresServer) init() error {
	if err := s.dropRights(); err != nil {
		return err
	}
	if _, err := s.run("initdb", "-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.data(), "pg_hba.conf"), []byte(accessRules), 0o644); err != nil {
		return err
	}
	return startSomewhere(func(port int) error {
		s.port = port
		err := s.start()
		if err != nil {
			s.process.end("stop\n")
		}
		return err
	})
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

func (s *PostgresServer) data() string { return filepath.Join(s.dir, "data") }

func (s *PostgresServer) command(name string, args ...string) *exec.Cmd {
	path := filepath.Join(s.bin, name)
	if _, err := os.Stat(path); err != nil {
		path = name // a link to one of the programs is not next to the others
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred, Setpgid: true}
	return cmd
}

func (s *PostgresServer) run(name string, args ...string) (string, error) {
	var out, complaint bytes.Buffer
	cmd := s.command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(complaint.Bytes()))
	}
	return strings.TrimSpace(out.String()), nil
}

func (s *PostgresServer) start() error {
	cmd := s.command("postgres", "-D", s.data(),
		"-c", "listen_addresses=127.0.0.1", "-c", "port="+strconv.Itoa(s.port), "-c", "unix_socket_directories=",
		"-c", "max_connections=60", "-c", "wal_level=logical", "-c", "max_wal_senders=30", "-c", "max_replication_slots=60", "-c", "max_prepared_transactions=10", "-c", "log_min_messages=fatal", "-c", "log_min_error_statement=panic")
	p, err := startProcess(cmd, s.dir, "QUIT", "INT")
	if err != nil {
		return err
	}
	s.process = p
	return p.await(func() bool { // and is the one that was started
		answer, err := s.psql("postgres", "SHOW data_directory")
		return err == nil && answer == s.data()
	})
}

func (s *PostgresServer) psql(database, query string) (string, error) {
	return s.run("psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", strconv.Itoa(s.port), "-U", "postgres", "-d", database, "-c", query)
}

func (s *PostgresServer) database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d", s.made.Add(1))
	if _, err := s.psql("postgres", "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", s.port, name)
}
