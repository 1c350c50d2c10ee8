package hubtest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// pluginNode starts a node with the sample plugins, and returns the name of
// each one's program.
func pluginNode(t *testing.T, jobs string) (n *Node, counter, ndjson string) {
	t.Helper()
	counter, ndjson = conntest.GoPlugin(t, "plugins/samples/counter"), conntest.PythonPlugin(t, "plugins/samples/ndjson/ndjson.py")
	dir := t.TempDir()
	n = NewNode(t, "solo", dir, nil, []string{writeJobs(t, dir, jobs)}, nil)
	n.Configure(fmt.Sprintf("plugins:\n  - {name: counter, path: %q, sha256: %q}\n  - {name: ndjson, path: %q, sha256: %q}",
		counter, conntest.SHA256(t, counter), ndjson, conntest.SHA256(t, ndjson)))
	n.Start()
	return n, counter, ndjson
}

// running finds the processes of a program that a test has made itself, by its
// path; no other process has it among its arguments.
func running(t *testing.T, program string) (pids []int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		args := strings.Split(string(text), "\x00")
		if args[0] == program || len(args) > 1 && args[1] == program {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
		}
	}
	return pids
}

func gone(t *testing.T, programs ...string) {
	t.Helper()
	Until(t, 10*time.Second, "the plugins have ended", func() error {
		for _, program := range programs {
			if pids := running(t, program); len(pids) > 0 {
				return fmt.Errorf("%s runs as %v", program, pids)
			}
		}
		return nil
	})
}

// TestKilledPlugins kills the hub, the process of a source in Go and that of a
// sink in Python in turn while one's records go through a topic to the other:
// every record is in the files once, and in the topic once. What was killed
// leaves no process behind.
func TestKilledPlugins(t *testing.T) {
	const splits = 4
	total := fullRows(100_000)
	out := filepath.Join(t.TempDir(), "out")
	n, counterFile, ndjsonFile := pluginNode(t, fmt.Sprintf(`
topics:
  - {name: numbers, partitions: %d}
connectors:
  - name: numbers-in
    source: {type: counter, count: %d, splits: %d}
    topic: numbers
    transforms: [{parse: {format: json}}]
    key: string(value.n)
  - name: numbers-out
    topic: numbers
    sink: {type: ndjson, path: %q, rows: 2000, every: 500ms}
`, splits, total/splits, splits, out))
	strike := func(i int) {
		programs := [][]string{{counterFile, ndjsonFile}, {counterFile}, {ndjsonFile}}[i%3]
		Until(t, 20*time.Second, "what is to be killed runs", func() error { // one that was killed before may not be back yet
			for _, program := range programs {
				if len(running(t, program)) > 0 {
					return nil
				}
			}
			return fmt.Errorf("none of %s does", programs)
		})
		if len(programs) == 1 {
			kill(t, programs[0])
			return
		}
		n.Kill()
		gone(t, programs...)
		n.Start()
	}
	times := kills(t, 6)
	l := load{n: n, what: "records are in files", total: total, count: counter(n, "numbers-out", "written"), limit: 2 * time.Minute, late: 200 * time.Millisecond, strike: strike}
	l.kill(t, times)
	l.done(t, 4*time.Minute, caughtUp(n, "numbers-out"))
	lines := map[string]bool{}
	for i := range total {
		lines[fmt.Sprintf(`{"split":"part-%d","n":%d}`, i%splits, i/splits)] = true
	}
	checkLines(t, n, "numbers", total, lines)
	if err := n.Process().Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if status, err := n.Process().Wait(time.Minute); status != 0 || err != nil {
		t.Errorf("the hub ended with status %d, %v", status, err)
	}
	gone(t, counterFile, ndjsonFile)
	rows, distinct := numbers(t, out)
	if rows != total || distinct != total {
		t.Errorf("%d rows, %d distinct, want %d of both", rows, distinct, total)
	}
	conntest.Figures(t, "%d kills of hub, source and sink in turn, source %d = topic %d = rows %d = distinct %d", times, total, total, rows, distinct)
}

func kill(t *testing.T, program string) {
	t.Helper()
	for _, pid := range running(t, program) { // none while it is started again
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Logf("kill %s: %v", program, err)
		}
	}
}

// numbers counts the rows in the files of a folder.
func numbers(t *testing.T, dir string) (rows, distinct int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		Split string `json:"split"`
		N     int64  `json:"n"`
	}
	seen := map[row]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			var r row
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatalf("%s: %q: %v", file, line, err)
			}
			rows++
			seen[r] = true
		}
	}
	return rows, len(seen)
}

// TestPluginSuite runs `entrepot plugin test` against the samples.
func TestPluginSuite(t *testing.T) {
	for program, file := range map[string]string{
		conntest.GoPlugin(t, "plugins/samples/counter"):              "plugins/samples/counter/counter.test.yaml",
		conntest.PythonPlugin(t, "plugins/samples/ndjson/ndjson.py"): "plugins/samples/ndjson/ndjson.test.yaml",
	} {
		p := Start(t, nil, "plugin", "test", program, "--json", "--config", filepath.Join(Root(t), file))
		status, err := p.Wait(2 * time.Minute)
		var report struct {
			Tests          []struct{ Name, Result, Output string }
			Passed, Failed int
		}
		if jsonErr := json.Unmarshal([]byte(p.Output()), &report); status != 0 || err != nil || jsonErr != nil || report.Failed > 0 || report.Passed < 14 {
			t.Errorf("%s: status %d, %v, %v: %s", file, status, err, jsonErr, p.Output())
		}
		t.Logf("%s: %d tests passed", file, report.Passed)
	}
}

// TestDeafPlugin: a program that does not notice the end of its standard input
// fails the suite, and ends with a hub that is killed all the same: the kernel
// sees to it.
func TestDeafPlugin(t *testing.T) {
	program := conntest.PythonPlugin(t, "plugins/host/testdata/deaf.py")
	suite := Start(t, nil, "plugin", "test", program)
	if status, err := suite.Wait(time.Minute); status != 1 || err != nil || !strings.Contains(suite.Output(), "FAILED   process/ends with its hub") {
		t.Errorf("status %d, %v: %s", status, err, suite.Output())
	}
	n := NewNode(t, "solo", t.TempDir(), nil, nil, nil)
	n.Configure(fmt.Sprintf("plugins:\n  - {name: deaf, path: %q, sha256: %q}", program, conntest.SHA256(t, program)))
	t.Cleanup(func() { kill(t, program) })
	n.Start()
	if pids := running(t, program); len(pids) != 1 {
		t.Errorf("it runs as %v", pids)
	}
	n.Kill()
	gone(t, program)
}
