package conntest

import (
	"log/slog"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Task is the context of a task in a test.
func Task(cfg connectors.Config) connectors.TaskContext {
	return connectors.TaskContext{Job: "conntest", Task: "0", Site: "here", Config: cfg, Logger: slog.New(slog.DiscardHandler), Clock: time.Now}
}

// Config builds a config of a spec, or ends the test.
func Config(t testing.TB, s connectors.Spec, values map[string]any) connectors.Config {
	t.Helper()
	cfg, err := connectors.NewConfig(s.Fields, values)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// released runs use a few times and checks that neither goroutines nor open
// files are left of it.
func released(t *testing.T, use func()) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	use() // what is kept for the process's life is there now
	files := openFiles()
	for range 5 {
		use()
	}
	now := openFiles()
	for range 100 { // a server in this process closes its end a little later
		if now <= files {
			break
		}
		<-time.After(10 * time.Millisecond)
		now = openFiles()
	}
	if now > files {
		t.Errorf("%d open files, %d before", now, files)
	}
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}

// openFiles counts the process's descriptors; 0 where the system does not say.
func openFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}
