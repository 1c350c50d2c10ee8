package hubtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"testing"
)

// TestThreadsHaveLooseTimers: all threads of a node have them, those of Go's runtime
// that are there before main begins among them. A slack that was set before is kept.
func TestThreadsHaveLooseTimers(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("timers have a slack on Linux alone")
	}
	slackOf := func(id string) (string, error) {
		text, err := os.ReadFile("/proc/" + id + "/timerslack_ns")
		return strings.TrimSpace(string(text)), err
	}
	want, err := slackOf("self")
	if err != nil {
		t.Fatal(err)
	}
	if want == "50000" { // Linux's own
		want = "500000"
	}
	n := NewNode(t, "east", t.TempDir(), nil, nil, nil)
	n.Start()
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", n.proc.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, one := range threads {
		got, err := slackOf(one.Name())
		switch {
		case errors.Is(err, fs.ErrPermission):
			t.Skip(err) // only root may ask for another process's
		case errors.Is(err, fs.ErrNotExist): // it has ended
			continue
		case err != nil:
			t.Fatal(err)
		case got != want:
			t.Errorf("thread %s of process %d has a timer slack of %s ns, want %s", one.Name(), n.proc.Pid(), got, want)
		}
		seen++
	}
	if seen < 3 {
		t.Errorf("%d threads, want some of the runtime's", seen)
	}
}
