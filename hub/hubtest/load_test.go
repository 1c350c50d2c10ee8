package hubtest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// jobsNode starts a node that is a site of its own and runs the jobs, a jobs
// file's text, with the extra environment (K=V).
func jobsNode(t *testing.T, jobs string, env ...string) *Node {
	t.Helper()
	dir := t.TempDir()
	n := NewNode(t, "solo", dir, nil, []string{writeJobs(t, dir, jobs)}, env)
	n.Start()
	return n
}

// writeJobs writes a jobs file in a folder and returns its path.
func writeJobs(t *testing.T, dir, text string) string {
	t.Helper()
	path := filepath.Join(dir, "jobs.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// inputFile writes a file of n lines, for a source to read, and returns its path.
func inputFile(t *testing.T, n int, line func(i int) string) string {
	t.Helper()
	var text strings.Builder
	for i := range n {
		text.WriteString(line(i))
		text.WriteByte('\n')
	}
	path := filepath.Join(t.TempDir(), "rows.ndjson")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// besides lets tests that wait for minutes and do little wait together.
func besides(t *testing.T) {
	if conntest.Full() {
		t.Parallel()
	}
}

// fullRows is the size of a load: short, or 1,000,000 in the full form.
func fullRows(short int) int { return conntest.Size(short, 1_000_000) }

// load is work of a node that is killed meanwhile.
type load struct {
	n     *Node
	what  string // what is counted, as in "rows are loaded"
	total int
	count func() (int, error)
	limit time.Duration // from one kill until it is time for the next
	late  time.Duration // a kill comes at most so long after it is time
	// strike kills something else than the node; nil: the node, which is
	// started again.
	strike func(i int)
}

// kill cuts the total in even shares, kills the node at a random place of each,
// while the work goes on, and starts it again. Kills that come when all is done
// prove nothing: in the full form half of them must not, in the short form one.
func (l load) kill(t *testing.T, times int) {
	t.Helper()
	amid, before := 0, 0
	var struck time.Time
	var back []time.Duration // from a kill until more has come, as far as the next kill let it
	past := func(want int) error {
		got, err := l.count()
		if err == nil && got > before && !struck.IsZero() {
			back, struck = append(back, time.Since(struck)), time.Time{}
		}
		if err == nil && got < want {
			err = fmt.Errorf("%d of %d", got, want)
		}
		return err
	}
	for i := range times {
		at, late := (l.total*i+rand.N(l.total))/(times+1), l.late
		if conntest.Full() && past(at) == nil { // the load is quick: leave something to the other kills
			late = l.late/10 + 2*time.Millisecond
		}
		Until(t, l.limit, l.what, func() error { return past(at) })
		pause(t.Context(), time.Millisecond, late)
		before, _ = l.count()
		if before < l.total {
			amid++
		}
		struck = time.Now()
		if l.strike != nil {
			l.strike(i)
			continue
		}
		l.n.Kill()
		l.n.Start()
	}
	least := 1 // a short load may be over before the others on a quick machine
	if conntest.Full() {
		least = times - times/2
	}
	if amid < least {
		t.Errorf("%d of %d kills came when all %s", times-amid, times, l.what)
	}
	if len(back) > 0 {
		slices.Sort(back)
		conntest.Figures(t, "%d of %d kills before all %s; from a kill until the next comes: median %s, worst %s", amid, times, l.what,
			back[len(back)/2].Round(time.Millisecond), back[len(back)-1].Round(time.Millisecond))
	}
}

// done waits until each of the others says that nothing is left to do, and the
// total is reached. It counts last: what came last is counted.
func (l load) done(t *testing.T, limit time.Duration, others ...func() error) {
	t.Helper()
	Until(t, limit, "all "+l.what, func() error {
		for _, other := range others {
			if err := other(); err != nil {
				return err
			}
		}
		return l.reached(l.total)
	})
}

func (l load) reached(want int) error {
	got, err := l.count()
	if err == nil && got < want {
		err = fmt.Errorf("%d of %d", got, want)
	}
	return err
}

// caughtUp says whether a job of a node has no lag.
func caughtUp(n *Node, name string) func() error {
	return func() error {
		j, err := job(n.Admin, name)
		if err != nil {
			return err
		}
		if lag, known := j.Lag.Value(); !known || lag != 0 {
			return fmt.Errorf("%s: lag %s", name, j.Lag)
		}
		return nil
	}
}

// counter is a count of a job of a node.
func counter(n *Node, of, name string) func() (int, error) {
	return func() (int, error) {
		j, err := job(n.Admin, of)
		return int(j.Counters[name]), err
	}
}
