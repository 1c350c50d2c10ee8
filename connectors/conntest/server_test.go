//go:build unix

package conntest

import (
	"os"
	"os/exec"
	"runtime"
	"testing"
)

// A server that cannot start at its first ports is tried at others, in the
// folder that it has.
func TestServerIsTriedAgain(t *testing.T) {
	s := &server{name: "late", ports: make([]int, 2)}
	var tried []int
	s.prepare = func() error {
		tried = append(tried, s.ports[0])
		return nil
	}
	s.command = func() *exec.Cmd {
		return exec.Command("sh", "-c", `[ -e kept ] && echo serves && exec sleep 1000; : >kept; exit 1`)
	}
	s.ready = func() bool { return s.process.says("serves") }
	err := s.launch(nil)
	own(t, s, err)
	if len(tried) != 2 || tried[0] == tried[1] || s.ports[0] == s.ports[1] {
		t.Errorf("tried at %v", tried)
	}
	s.remove(t)
	if exists(s.dir) {
		t.Error("its folder is still there")
	}
}

// A server that never starts leaves no folder.
func TestServerThatEnds(t *testing.T) {
	s := &server{name: "never", ports: make([]int, 1)}
	s.command = func() *exec.Cmd { return exec.Command("false") }
	s.ready = func() bool { return false }
	if err := s.launch(nil); err == nil || exists(s.dir) {
		t.Errorf("%v, and the folder %s", err, s.dir)
	}
}

// A test that has no program to start does not end the server for the others.
func TestSharedIsStartedOnce(t *testing.T) {
	missing, started := true, 0
	get := shared(func(testing.TB) string {
		if missing {
			runtime.Goexit() // as a skip does
		}
		return os.Args[0]
	}, func(string) (int, error) {
		started++
		return started, nil
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		get(t)
	}()
	<-done
	missing = false
	if a, b := get(t), get(t); a != 1 || b != 1 {
		t.Errorf("got %d and %d", a, b)
	}
}
