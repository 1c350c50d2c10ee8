package hubtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/hub/admin"
)

// poisonEvery is how far apart the lines are that are no JSON.
const poisonEvery = 50_000

// TestKilledSourceIsExact kills the hub again and again while it reads a file
// into a topic. Every line is in the topic once, for readers of committed and
// of uncommitted records alike, or in the dead letters once; and after the
// config is mended, a replay brings the dead letters into the topic, once.
func TestKilledSourceIsExact(t *testing.T) {
	total, lines := kills(t, 4), fullRows(200_000)
	input := inputFile(t, lines, sourceLine)
	config := func(transforms, key string) string {
		return fmt.Sprintf("topics:\n  - {name: rows, partitions: 6}\nconnectors:\n  - name: rows-in\n"+
			"    source: {type: file, path: %q, follow: false}\n    topic: rows\n    transforms: [%s]\n%s", input, transforms, key)
	}
	dir := t.TempDir()
	jobs := writeJobs(t, dir, config("{parse: {format: json}}", "    key: string(value.id)\n"))
	n := NewNode(t, "solo", dir, nil, []string{jobs}, nil)
	n.Start()
	topic := collect(t, n.Kafka, "rows")
	l := load{n: n, what: "lines are read", total: lines - lines/poisonEvery, count: func() (int, error) { return topic.count(), nil }, limit: time.Minute, late: 60 * time.Millisecond}
	l.kill(t, total)
	l.done(t, 2*time.Minute, func() error { return completed(n) })
	dead := lines / poisonEvery
	all, bad := map[string]bool{}, map[string]bool{}
	for i := range lines {
		all[sourceLine(i)] = true
		if i%poisonEvery == 17 {
			bad[sourceLine(i)] = true
		}
	}
	checkLines(t, n, "rows", lines-dead, all)
	checkLines(t, n, "rows-in.dlq", dead, bad)

	n.Kill()
	writeJobs(t, dir, config("", ""))
	n.Start()
	Until(t, time.Minute, "the connector is there", func() error { return completed(n) })
	if done := replayLetters(t, n, "rows-in"); done.Written != int64(dead) || done.Left != 0 {
		t.Errorf("replay: %+v, want %d written", done, dead)
	}
	if done := replayLetters(t, n, "rows-in"); done.Read != 0 {
		t.Errorf("a second replay: %+v, want nothing", done)
	}
	checkLines(t, n, "rows", lines, all)
	conntest.Figures(t, "%d kills, source %d = records %d = distinct %d, %d of them replayed dead letters", total, lines, lines, lines, dead)
}

// sourceLine is a line of the file; one in poisonEvery is no JSON.
func sourceLine(i int) string {
	if i%poisonEvery == 17 {
		return fmt.Sprintf("no JSON: %d", i)
	}
	return fmt.Sprintf(`{"id":%d}`, i)
}

func completed(n *Node) error {
	j, err := job(n.Admin, "rows-in")
	if err == nil && j.State != "completed" {
		err = fmt.Errorf("it is %s: %s", j.State, j.Reason)
	}
	return err
}

func replayLetters(t *testing.T, n *Node, name string) (done admin.Replayed) {
	t.Helper()
	resp, err := http.Post("http://"+n.Admin+"/v1/jobs/"+name+"/replay", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(&done); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("replay: %s, %v", resp.Status, err)
	}
	return done
}

// checkLines reads a whole topic, uncommitted and committed: it has so many of
// these lines, each once.
func checkLines(t *testing.T, n *Node, topic string, want int, lines map[string]bool) {
	t.Helper()
	for name, level := range map[string]kgo.IsolationLevel{"uncommitted": kgo.ReadUncommitted(), "committed": kgo.ReadCommitted()} {
		seen, all := map[string]bool{}, 0
		readEach(t, time.Minute, n.Kafka, topic, func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				seen[string(r.Value)], all = true, all+1
				if !lines[string(r.Value)] {
					t.Errorf("topic %s: %s is no line of the file", topic, r.Value)
				}
			}
		}, kgo.FetchIsolationLevel(level))
		if all != want || len(seen) != want {
			t.Errorf("topic %s, read %s: %d records, %d distinct, want %d of both", topic, name, all, len(seen), want)
		}
	}
}
