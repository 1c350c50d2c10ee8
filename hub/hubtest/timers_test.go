package hubtest

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestThreadsHaveLooseTimers: all threads of a node have them, those of Go's runtime
// that are there before main begins among them.
func TestThreadsHaveLooseTimers(t *testing.T) {
	n := NewNode(t, "east", t.TempDir(), nil, nil, nil)
	n.Start()
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", n.proc.Pid()))
	if err != nil {
		t.Skip(err) // not Linux
	}
	for _, one := range threads {
		slack, err := os.ReadFile("/proc/" + one.Name() + "/timerslack_ns")
		if err != nil {
			t.Skip(err) // only root may ask for another process's
		}
		if got := strings.TrimSpace(string(slack)); got != "500000" {
			t.Errorf("thread %s of process %d has a timer slack of %s ns, want 500000", one.Name(), n.proc.Pid(), got)
		}
	}
	if len(threads) < 3 {
		t.Errorf("%d threads, want some of the runtime's", len(threads))
	}
}
