package hubtest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/hub/admin"
)

// poisonEvery is how far apart the lines are that are no JSON.
const poisonEvery = 50_000

// TestKilledSourceIsExact kills the hub again and again while it reads a file
// into a topic. Every line is in the topic once, for readers of committed and
// of uncommitted records alike, or in the dead letters once; and after the
// config is mended, a replay brings the dead letters into the topic, once.
func TestKilledSourceIsExact(t *testing.T) {
	dir := t.TempDir()
	total, lines := kills(t, 4), 200_000
	if os.Getenv("ENTREPOT_KILLS") != "" {
		lines = 1_000_000
	}
	input := filepath.Join(dir, "rows.ndjson")
	var text strings.Builder
	for i := range lines {
		if i%poisonEvery == 17 {
			fmt.Fprintf(&text, "no JSON: %d\n", i)
			continue
		}
		fmt.Fprintf(&text, `{"id":%d}`+"\n", i)
	}
	jobs := filepath.Join(dir, "jobs.yaml")
	write := func(name, text string) {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config := func(transforms, key string) string {
		return fmt.Sprintf("topics:\n  - {name: rows, partitions: 6}\nconnectors:\n  - name: rows-in\n"+
			"    source: {type: file, path: %q, follow: false}\n    topic: rows\n    transforms: [%s]\n%s", input, transforms, key)
	}
	write(input, text.String())
	write(jobs, config("{parse: {format: json}}", "    key: string(value.id)\n"))
	n := NewNode(t, "solo", dir, nil, []string{jobs}, nil)
	n.Start()
	for i := range total {
		want := int64(lines) * int64(i) / int64(total+1)
		Until(t, time.Minute, fmt.Sprintf("%d lines are read", want), func() error { return hasRead(n, want) })
		pause(t.Context(), time.Millisecond, 60*time.Millisecond)
		n.Kill()
		n.Start()
	}
	Until(t, 2*time.Minute, "the file is read", func() error { return completed(n) })
	dead := lines / poisonEvery
	checkLines(t, n, "rows", lines-dead)
	checkLines(t, n, "rows-in.dlq", dead)

	write(jobs, config("", ""))
	n.Kill()
	n.Start()
	Until(t, time.Minute, "the connector is there", func() error { return completed(n) })
	if done := replayLetters(t, n); done.Written != int64(dead) || done.Left != 0 {
		t.Errorf("replay: %+v, want %d written", done, dead)
	}
	if done := replayLetters(t, n); done.Read != 0 {
		t.Errorf("a second replay: %+v, want nothing", done)
	}
	checkLines(t, n, "rows", lines)
	t.Logf("%d kills, source %d = records %d = distinct %d, %d of them replayed dead letters", total, lines, lines, lines, dead)
}

func hasRead(n *Node, want int64) error {
	j, err := job(n.Admin, "rows-in")
	if err == nil && j.Counters["read"] < want {
		err = fmt.Errorf("%d are read", j.Counters["read"])
	}
	return err
}

func completed(n *Node) error {
	j, err := job(n.Admin, "rows-in")
	if err == nil && j.State != "completed" {
		err = fmt.Errorf("it is %s: %s", j.State, j.Reason)
	}
	return err
}

func replayLetters(t *testing.T, n *Node) (done admin.Replayed) {
	t.Helper()
	resp, err := http.Post("http://"+n.Admin+"/v1/jobs/rows-in/replay", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(&done); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("replay: %s, %v", resp.Status, err)
	}
	return done
}

// checkLines reads a whole topic, uncommitted and committed.
func checkLines(t *testing.T, n *Node, topic string, want int) {
	t.Helper()
	for name, level := range map[string]kgo.IsolationLevel{"uncommitted": kgo.ReadUncommitted(), "committed": kgo.ReadCommitted()} {
		seen, all := map[string]bool{}, 0
		readTopic(t, n, topic, level, func(r *kgo.Record) { seen[string(r.Value)], all = true, all+1 })
		if all != want || len(seen) != want {
			t.Errorf("topic %s, read %s: %d records, %d distinct, want %d of both", topic, name, all, len(seen), want)
		}
	}
}

func readTopic(t *testing.T, n *Node, topic string, level kgo.IsolationLevel, fn func(*kgo.Record)) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(level), kgo.KeepControlRecords())
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("read %s, %v left: %v", topic, left, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				fn(r)
			}
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
}
