package hubtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestRollingRestart restarts one node after the other under load, as an upgrade
// does: each lets others lead before it ends, and nothing is lost.
func TestRollingRestart(t *testing.T) {
	t.Parallel() // it waits more than it works
	s := NewSite(t, "roll", 3)
	s.begin(t, 6, 3)
	w := writeTo(t, s, "t", 6)
	w.until(t, 500)
	for _, n := range s.Nodes {
		Until(t, time.Minute, "every copy is in line", func() error { return s.whole() })
		took := n.Restart()
		if out := n.before; !strings.Contains(out, "other nodes lead what this one led") {
			t.Errorf("%s ended without letting others lead:\n%s", n.ID, out)
		}
		t.Logf("%s serves again after %s", n.ID, took.Round(time.Millisecond))
		w.until(t, w.count()+500)
	}
	acked := w.stop(t)
	t.Logf("%d records, the longest time without one acknowledged was %s", len(acked), w.gap().Round(time.Millisecond))
	allThere(t, s.Brokers(), acked)
}

// TestJobsMove: a connector that every node has in its jobs files runs on one of
// them, and goes on at another one when that is killed; each line is there once.
func TestJobsMove(t *testing.T) {
	t.Parallel() // it waits more than it works
	s := NewSite(t, "jobs", 3)
	dir := t.TempDir()
	input, jobs := filepath.Join(dir, "in.log"), filepath.Join(dir, "jobs.yaml")
	text := fmt.Sprintf("topics: [{name: t, partitions: 1, replicas: 3}]\nconnectors: [{name: reader, source: {type: file, path: %q}, topic: t}]\n", input)
	if err := os.WriteFile(jobs, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var lines []string
	more := func(n int) {
		f, err := os.OpenFile(input, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		for range n {
			line := fmt.Sprintf("line-%d", len(lines))
			lines = append(lines, line)
			if _, err := fmt.Fprintln(f, line); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	more(1000)
	for _, n := range s.Nodes {
		n.Configure(fmt.Sprintf("jobs: [%q]", jobs))
	}
	Build(t)
	s.Start()
	// runs is the node that runs the connector, as every node says.
	runs := func() (where *Node) {
		Until(t, time.Minute, "all say that one node runs the connector", func() error {
			where = nil
			for _, n := range s.Nodes {
				if n.proc.Ended() {
					continue
				}
				j, err := job(n.Admin, "reader")
				if err != nil || j.State != "running" || where != nil && j.Node != where.ID {
					return fmt.Errorf("%s says %s %s at %s, %v", n.ID, j.State, j.Reason, j.Node, err)
				}
				for _, one := range s.Nodes {
					if one.ID == j.Node {
						where = one
					}
				}
				var list []struct{ Name string }
				if err := n.get("/v1/jobs", &list); err != nil || len(list) != 1 {
					return fmt.Errorf("%s lists %+v, %v", n.ID, list, err)
				}
			}
			return nil
		})
		return where
	}
	first := runs()
	allThere(t, s.Brokers(), lines)
	first.Kill()
	more(1000)
	second := runs()
	if second == first {
		t.Fatal("a node that was killed runs the connector")
	}
	allThere(t, s.Brokers(), lines)
	first.Start()
	more(1000)
	allThere(t, s.Brokers(), lines)
	runs()
	if n := recordsIn(t, s.Brokers(), "t"); n != len(lines) {
		t.Errorf("%d records of %d lines", n, len(lines))
	}
}

// recordsIn counts the records of a topic by its ends.
func recordsIn(t testing.TB, brokers []string, topic string) (n int) {
	t.Helper()
	cl := client(t, kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords())
	ends, err := kadm.NewClient(cl).ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	err = ReadTo(t.Context(), cl, ends, func(r *kgo.Record) {
		if !r.Attrs.IsControl() {
			n++
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestSchemasOnAllNodes: schemas registered through all nodes at once have one
// ID each, and every node says the same.
func TestSchemasOnAllNodes(t *testing.T) {
	t.Parallel() // it waits more than it works
	s := NewSite(t, "schemas", 3)
	Build(t)
	s.Start()
	const subjects = 12
	ids := make([][3]int, subjects)
	Until(t, 2*time.Minute, "all schemas are registered", func() error {
		var wg sync.WaitGroup
		var failed [subjects][3]error
		for i := range subjects {
			for n, node := range s.Nodes {
				if ids[i][n] == 0 {
					wg.Go(func() { ids[i][n], failed[i][n] = register(node, fmt.Sprintf("s-%d", i)) })
				}
			}
		}
		wg.Wait()
		for _, of := range failed {
			if err := errors.Join(of[:]...); err != nil {
				return err
			}
		}
		return nil
	})
	seen := map[int]int{}
	for i, of := range ids {
		if of[0] != of[1] || of[1] != of[2] {
			t.Errorf("subject %d has IDs %v at the three nodes", i, of)
		}
		if before, twice := seen[of[0]]; twice {
			t.Errorf("subjects %d and %d have the ID %d", before, i, of[0])
		}
		seen[of[0]] = i
	}
}

// register gives a subject a schema of its own through a node.
func register(n *Node, subject string) (id int, err error) {
	body := fmt.Sprintf(`{"schema": "{\"type\": \"record\", \"name\": \"%s\", \"fields\": []}"}`, strings.ReplaceAll(subject, "-", "_"))
	client := http.Client{Timeout: 30 * time.Second}
	resp, err := client.Post("http://"+n.Registry+"/subjects/"+subject+"/versions", "application/vnd.schemaregistry.v1+json", strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	var out struct{ ID int }
	if err := json.Unmarshal(text, &out); err != nil || resp.StatusCode != http.StatusOK || out.ID == 0 {
		return 0, fmt.Errorf("%s says %s: %s", n.ID, resp.Status, text)
	}
	return out.ID, nil
}
