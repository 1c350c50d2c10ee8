package hubtest

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// TestTasksAreShared: a source and a sink of three tasks each run at three
// nodes. Nodes are killed and stopped with SIGSTOP in the middle of a load; the
// others take their tasks over, and give them back. Nothing is lost or there
// twice.
func TestTasksAreShared(t *testing.T) {
	t.Parallel() // it waits more than it works
	const files = 6
	strikes := conntest.Size(2, 10)
	chunk := fullRows(60_000) / strikes / files * files
	dir := t.TempDir()
	jobs := writeJobs(t, dir, fmt.Sprintf(`
topics:
  - {name: rows, partitions: 6, replicas: 3}
connectors:
  - {name: rows-in, topic: rows, tasks: 3, source: {type: file, path: %q}}
  - name: rows-out
    topic: rows
    tasks: 3
    sink: {type: postgres, dsn: "${env:TEST_DSN}", table: rows, mode: insert, batch: {rows: 500}}
`, filepath.Join(dir, "rows-*.ndjson")))
	s := newRowsSite(t, "shared", jobs)
	midway, frozen := 0, 0
	for i := range strikes {
		s.shared(t, "rows-in", nil)
		s.shared(t, "rows-out", nil)
		for f := range files {
			writeRows(t, filepath.Join(dir, fmt.Sprintf("rows-%d.ndjson", f)), i*chunk+f*(chunk/files), chunk/files)
		}
		s.reach(i*chunk + 1 + rand.N(chunk/2))
		struck := s.Nodes[rand.N(len(s.Nodes))]
		freeze := i%2 == 0
		if freeze {
			struck.Stop()
			frozen++
		} else {
			struck.Kill()
		}
		if s.there < (i+1)*chunk {
			midway++
		}
		s.shared(t, "rows-in", struck)
		s.shared(t, "rows-out", struck)
		if freeze {
			struck.Cont()
		}
		s.reach((i + 1) * chunk)
		if !freeze {
			struck.Start()
		}
		Until(t, time.Minute, "the node serves again", func() error { return Ready(struck.Admin) })
	}
	s.shared(t, "rows-out", nil)
	Until(t, time.Minute, "nothing waits", caughtUp(s.Nodes[0], "rows-out"))
	conntest.Figures(t, "3 tasks of a source and 3 of a sink at 3 nodes; %d times a node stood still and %d times one was killed, %d of them in the middle of a load: %s",
		frozen, strikes-frozen, midway, s.exactly(strikes*chunk))
}

// shared waits until every node but the one without has tasks of a connector,
// and that one has none.
func (s *Site) shared(t *testing.T, name string, without *Node) {
	t.Helper()
	var want []string
	for _, n := range s.Nodes {
		if n != without {
			want = append(want, n.ID)
		}
	}
	slices.Sort(want)
	Until(t, time.Minute, fmt.Sprintf("%s is at %v", name, want), func() error {
		for _, n := range s.Nodes {
			if n == without {
				continue
			}
			j, err := job(n.Admin, name)
			if at := strings.Split(j.Node, ", "); err != nil || j.State != "running" || !slices.Equal(at, want) {
				return fmt.Errorf("%s says that it is %s at %v, %s, %v", n.ID, j.State, at, j.Reason, err)
			}
		}
		return nil
	})
}
