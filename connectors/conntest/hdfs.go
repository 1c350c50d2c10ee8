//go:build unix

package conntest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// HDFS starts a private namenode with one datanode, of Hadoop itself, and
// returns the addresses of its own protocol and of WebHDFS. It is started by
// the first call, serves all tests of the binary, and ends with the binary.
// Where deploy/hadoop/hadoop.sh setup has not fetched Hadoop the test is
// skipped, or fails as Missing says.
func HDFS(t testing.TB) (rpc, web string) {
	t.Helper()
	s, err := sharedHDFS()
	if err != nil {
		t.Fatal(err)
	}
	if s == nil {
		Missing(t, "Hadoop (deploy/hadoop/hadoop.sh setup)")
	}
	return s.rpc, s.web
}

type hdfsServer struct {
	rpc, web string
	process  *process
}

var sharedHDFS = sync.OnceValues(func() (s *hdfsServer, err error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	script := filepath.Join(root, "deploy/hadoop/hadoop.sh")
	if _, err := os.Stat(filepath.Join(root, ".cache/hadoop/classes")); err != nil {
		return nil, nil
	}
	dir, err := os.MkdirTemp("", "entrepot-hdfs-")
	if err != nil {
		return nil, err
	}
	err = startSomewhere(func(port int) error {
		web, err := freePort()
		if err != nil {
			return err
		}
		data, err := os.MkdirTemp(dir, "data-")
		if err != nil {
			return err
		}
		p, err := startProcess(exec.Command(script, "run", data, fmt.Sprint(port), fmt.Sprint(web)), dir, "KILL", "TERM")
		if err != nil {
			return err
		}
		s = &hdfsServer{fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprintf("127.0.0.1:%d", web), p}
		if err := p.await(func() bool { return strings.Contains(string(p.log()), "HDFS serves") }); err != nil {
			p.end("")
			return err
		}
		return nil
	})
	return s, err
})

// moduleRoot is the folder of go.mod, above the test's.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no go.mod above the test's folder")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}
