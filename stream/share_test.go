package stream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/strict"
	"github.com/entrepot-hub/entrepot/record"
)

// TestShares: each partition and each split is of exactly one task, and a share
// has those of its tasks.
func TestShares(t *testing.T) {
	for _, of := range []int{0, 1, 2, 3, 7} {
		for i := range 100 {
			partition, split := 0, 0
			for task := range max(of, 1) {
				s := Share{of, []int{task}}
				if s.partition(int32(i)) {
					partition++
				}
				if s.split(fmt.Sprint("split-", i)) {
					split++
				}
			}
			if partition != 1 || split != 1 {
				t.Errorf("of %d tasks %d have partition %d, and %d have a split", of, partition, i, split)
			}
		}
	}
	for text, want := range map[string]string{"0": "1 tasks", "3": "3 tasks", "100": "100 tasks", "101": "want 1 to 100", "-1": "want 1 to 100"} {
		jobs, errs := Parse([]File{{"jobs.yaml", []byte(plainSink + "    tasks: " + text + "\n")}}, registry(nil, newFakeSink(false, connectors.Limits{})), strict.Options{})
		got := fmt.Sprint(errs)
		if len(errs) == 0 {
			got = fmt.Sprint(jobs.Connectors[0].Parts(), " tasks")
		}
		if !strings.Contains(got, want) {
			t.Errorf("tasks: %s: %s, want %s", text, got, want)
		}
	}
}

// leases are a catalog's, of the tasks of one job.
type leases struct {
	mu     sync.Mutex
	owners []int // by task
	newest int64
}

// move gives a task to a runner.
func (l *leases) move(task, owner int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.owners[task] = owner
	l.newest++
}

func (l *leases) share(owner int) Share {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Share{Of: len(l.owners)}
	for task, o := range l.owners {
		if o == owner {
			s.Mine = append(s.Mine, task)
		}
	}
	return s
}

func (l *leases) claim(owner int, tasks Share) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, task := range tasks.Mine {
		if l.owners[task] != owner {
			return 0, fmt.Errorf("task %d is of another", task)
		}
	}
	l.newest++
	return l.newest, nil
}

// fenced makes a sink refuse an owner that is not the last one of a partition,
// and one that has not asked where it is.
func (s *fakeSink) fenced() {
	epochs := map[record.TopicPartition]int64{}
	s.before = func(p connectors.Plan) error {
		if p.Epoch < epochs[p.Partition] {
			return connectors.Fatal(fmt.Errorf("%w: epoch %d of %s, there was %d", connectors.ErrFenced, p.Epoch, p.Partition, epochs[p.Partition]))
		}
		if next, known := s.next[p.Partition]; known && next != p.From {
			return connectors.Retry(0, errors.New("it is elsewhere"))
		}
		epochs[p.Partition] = p.Epoch
		return nil
	}
}

// TestTasksMove: a source and a sink of four tasks each run at three runners.
// Tasks move from one to another at any time, also while the former one goes on
// for a while, and with a runner that is killed. Nothing is lost or there twice.
func TestTasksMove(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { inBubble(t, func(t *testing.T) { tasksMove(t, seed) }) })
	}
}

func tasksMove(t *testing.T, seed uint64) {
	const runners, tasks, splits, each = 3, 4, 9, 400
	rng := rand.New(rand.NewPCG(seed, 31))
	w := newWorld(t)
	defer w.close()
	w.createTopic("in", 8)
	src := newFakeSource(false, map[string][]string{})
	for i := range splits {
		src.splits[fmt.Sprint("s", i)] = nil
	}
	snk := newFakeSink(true, connectors.Limits{Records: 20, Wait: 100 * time.Millisecond})
	snk.fenced()
	reg := registry(src, snk)
	read := parseOne(t, reg, "connectors: [{name: tail, topic: in, tasks: 4, source: {type: lines}}]")
	shelve := parseOne(t, reg, plainSink+"    tasks: 4\n")
	jobs := map[string]*leases{"tail": {owners: make([]int, tasks)}, "shelve": {owners: make([]int, tasks)}}
	specs := func(owner int) (all []ConnectorSpec) {
		for _, spec := range []ConnectorSpec{read, shelve} {
			if spec.Share = jobs[spec.Name].share(owner); len(spec.Share.Mine) > 0 {
				all = append(all, spec)
			}
		}
		return all
	}
	begin := func(owner int) *life {
		return w.startAs(time.Second, func(_ context.Context, job string, mine Share, _ int64) (int64, error) {
			return jobs[job].claim(owner, mine)
		}, specs(owner)...)
	}
	lives := []*life{begin(0), begin(1), begin(2)}
	follow := func(owner int) {
		if err := lives[owner].Apply(specs(owner), nil); err != nil {
			t.Fatal(err)
		}
	}
	written := 0
	for range 25 {
		for i := range splits {
			n := min(rng.IntN(40), each*splits-written)
			src.append(fmt.Sprint("s", i), lines(written, written+n)...)
			written += n
		}
		pass(time.Duration(rng.IntN(3000)) * time.Millisecond)
		if killed := rng.IntN(runners); rng.IntN(4) == 0 {
			lives[killed].crash()
			for _, l := range jobs {
				for _, task := range l.share(killed).Mine {
					l.move(task, (killed+1+rng.IntN(runners-1))%runners)
				}
			}
			for _, o := range rng.Perm(runners) {
				if o != killed {
					follow(o)
				}
			}
			pass(time.Duration(rng.IntN(3000)) * time.Millisecond)
			lives[killed] = begin(killed)
			continue
		}
		for _, l := range jobs {
			l.move(rng.IntN(tasks), rng.IntN(runners))
		}
		for _, o := range rng.Perm(runners) { // whoever has a task now may hear of it before who had it
			follow(o)
			pass(time.Duration(rng.IntN(500)) * time.Millisecond)
		}
	}
	late := time.Now().Add(10 * time.Minute)
	for len(snk.loaded()) < written && time.Now().Before(late) {
		pass(time.Second)
	}
	checkApart(t, lives, splits+8)
	for _, l := range lives {
		l.end()
	}
	checkOnce(t, w.committed("in"), written)
	got := snk.loaded()
	slices.Sort(got)
	if len(got) != written || len(slices.Compact(got)) != written {
		t.Errorf("%d values are loaded, %d different ones, want %d", len(snk.loaded()), len(slices.Compact(got)), written)
	}
	for _, f := range snk.faults {
		t.Error(f)
	}
}

// checkApart: what the runners show of their jobs are all parts, each at one.
func checkApart(t *testing.T, lives []*life, parts int) {
	t.Helper()
	at := map[string]int{}
	for i, l := range lives {
		for _, j := range l.Status() {
			for _, p := range j.Parts {
				if other, twice := at[j.Name+" "+p.Name]; twice {
					t.Errorf("%s of %s is at runners %d and %d", p.Name, j.Name, other, i)
				}
				at[j.Name+" "+p.Name] = i
			}
		}
	}
	if len(at) != parts {
		t.Errorf("%d parts are shown, want %d", len(at), parts)
	}
}

func (s *fakeSink) loaded() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.values)
}
