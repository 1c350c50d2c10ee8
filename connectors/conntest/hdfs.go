//go:build unix

package conntest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// HDFS starts a private namenode with one datanode, of Hadoop itself, and
// returns the addresses of its own protocol and of WebHDFS. It is started by
// the first call, serves all tests of the binary, and ends with the binary.
// Where deploy/hadoop/hadoop.sh setup has not fetched Hadoop the test is
// skipped, or fails as Missing says.
func HDFS(t testing.TB) (rpc, web string) {
	t.Helper()
	s := sharedHDFS(t)
	return s.address(0), s.address(1)
}

var sharedHDFS = shared(hdfsScript, newHDFS)

func hdfsScript(t testing.TB) string {
	t.Helper()
	root := moduleRoot(t)
	if !exists(filepath.Join(root, ".cache/hadoop/classes")) {
		Missing(t, "Hadoop (deploy/hadoop/hadoop.sh setup)")
	}
	return filepath.Join(root, "deploy/hadoop/hadoop.sh")
}

func newHDFS(script string) (*server, error) {
	s := &server{name: "hdfs", ports: make([]int, 2)}
	s.prepare = func() error { return os.RemoveAll(s.file("data")) } // of a try before
	s.command = func() *exec.Cmd {
		return exec.Command(script, "run", s.file("data"), fmt.Sprint(s.ports[0]), fmt.Sprint(s.ports[1]))
	}
	s.ready = func() bool { return s.process.says("HDFS serves") }
	return s, s.launch(nil)
}
