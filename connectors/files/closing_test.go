package files

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storytest"
)

// lakeside is a lake with a topic beside it, for tests of what closes folders.
// Its time is the test's own.
type lakeside struct {
	t      testing.TB
	cfg    connectors.Config
	store  func() store
	now    time.Time
	topic  map[int32][]connectors.Message
	fates  map[record.TopicPartition]map[int64]connectors.Fate
	loaded map[int32]int64
	plans  map[int32]int64 // ends of plans that are durable, as the hub keeps them
}

// day is the first moment of the tests' event time.
var day = time.Date(2015, 5, 17, 0, 0, 0, 0, time.UTC)

func newLakeside(t testing.TB, root string, more map[string]any) *lakeside {
	t.Helper()
	values := map[string]any{
		"url": "file://" + root, "partition_by": "dt={date(ts)}/hr={hour(ts)}", "format": "ndjson",
		"manifest": map[string]any{"lateness": 5 * time.Minute, "idle": time.Minute, "reissue": 10 * time.Minute},
	}
	maps.Copy(values, more)
	return &lakeside{
		t: t, cfg: conntest.Config(t, Sink{}.Spec(), values), now: day,
		store: func() store { return &localStore{root: root, disk: osDisk{}} },
		topic: map[int32][]connectors.Message{}, fates: map[record.TopicPartition]map[int64]connectors.Fate{}, loaded: map[int32]int64{}, plans: map[int32]int64{},
	}
}

// inMemory puts the lake into memory.
func (l *lakeside) inMemory() *memDisk {
	disk := newMemDisk()
	l.store = func() store { return &localStore{root: "/lake", disk: disk} }
	return disk
}

func (l *lakeside) task() connectors.TaskContext {
	task := conntest.Task(l.cfg)
	task.Clock = func() time.Time { return l.now }
	return task
}

func (l *lakeside) keeper(st store) *keeper {
	s, err := settingsOf(l.cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	return newKeeper(l.task(), s, st)
}

func (l *lakeside) writer(st store, partition int32) (connectors.Writer, error) {
	s, err := settingsOf(l.cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	return openOn(l.t.Context(), l.task(), []record.TopicPartition{l.tp(partition)}, s, st)
}

func (l *lakeside) tp(p int32) record.TopicPartition {
	return record.TopicPartition{Topic: "clicks", Partition: p}
}

// add puts a record of an event time into the topic.
func (l *lakeside) add(p int32, at time.Time, fate connectors.Fate) {
	o := int64(len(l.topic[p]))
	l.topic[p] = append(l.topic[p], connectors.Message{
		Partition: l.tp(p), Offset: o, Timestamp: at.UnixMilli(), Value: fmt.Appendf(nil, `{"id":"%d-%d","hr":"%02d"}`, p, o, at.Hour()),
	})
	if fate == connectors.Kept {
		return
	}
	if l.fates[l.tp(p)] == nil {
		l.fates[l.tp(p)] = map[int64]connectors.Fate{}
	}
	l.fates[l.tp(p)][o] = fate
}

// batch is the plan for a range of a partition's records.
func (l *lakeside) batch(p int32, from, to int64) (connectors.Plan, connectors.Batch) {
	b := connectors.Batch{Records: l.topic[p][from:to]}
	for _, m := range b.Records {
		f := l.fates[l.tp(p)][m.Offset]
		b.Fates = append(b.Fates, f)
		if f == connectors.Kept {
			b.Messages = append(b.Messages, m)
		}
	}
	return connectors.Plan{Partition: l.tp(p), From: from, To: to, Epoch: 1, ID: fmt.Sprint(p, from, to)}, b
}

// load writes all of a partition that is not loaded, as one plan, or the plan
// that was not finished.
func (l *lakeside) load(st store, p int32) error {
	w, err := l.writer(st, p)
	if err != nil {
		return err
	}
	defer func() { _ = w.Close(l.t.Context()) }()
	from, to := l.loaded[p], int64(len(l.topic[p]))
	if from == to {
		return nil
	}
	if l.plans[p] > from {
		to = l.plans[p]
	}
	l.plans[p] = to
	plan, b := l.batch(p, from, to)
	if bad, err := w.Write(l.t.Context(), plan, b); err != nil || len(bad) > 0 {
		return fmt.Errorf("%v: %w", bad, err)
	}
	l.loaded[p] = to
	return nil
}

func (l *lakeside) standings() (at []connectors.Standing) {
	for _, p := range slices.Sorted(maps.Keys(l.topic)) {
		at = append(at, connectors.Standing{Partition: l.tp(p), Loaded: l.loaded[p], End: int64(len(l.topic[p]))})
	}
	return at
}

// truth counts the topic's records by folder.
func (l *lakeside) truth() map[string]counts {
	all := map[string]counts{}
	for p, messages := range l.topic {
		for _, m := range messages {
			one := counts{Records: 1}
			switch l.fates[l.tp(p)][m.Offset] {
			case connectors.Filtered:
				one.Filtered = 1
			case connectors.DeadLettered:
				one.DeadLetters = 1
			default:
				one.Rows = 1
			}
			at := time.UnixMilli(m.Timestamp).UTC()
			folder := fmt.Sprintf("dt=%s/hr=%02d", at.Format(time.DateOnly), at.Hour())
			c := all[folder]
			c.add(one)
			all[folder] = c
		}
	}
	return all
}

// storyLake plays a story of hours that are closed.
type storyLake struct {
	*lakeside
	root   string
	keeper *keeper
}

// TestClosing plays the stories in testdata.
func TestClosing(t *testing.T) {
	storytest.Run(t, func(t *testing.T) func(string, storytest.Args) string {
		root := t.TempDir()
		s := &storyLake{lakeside: newLakeside(t, root, map[string]any{"compact": map[string]any{"target": 1 << 20, "after": time.Hour}}), root: root}
		s.keeper = s.lakeside.keeper(s.store())
		return s.do
	})
}

func (s *storyLake) do(verb string, a storytest.Args) string {
	p := int32(a.Int("partition", 0))
	switch verb {
	case "produce": // partition=0 at=10:05,10:07
		fate := map[string]connectors.Fate{"": connectors.Kept, "filtered": connectors.Filtered, "dead": connectors.DeadLettered}[a.Get("fate")]
		if s.topic[p] == nil {
			s.topic[p] = []connectors.Message{}
		}
		for at := range strings.SplitSeq(a.Get("at"), ",") {
			if at != "" {
				s.add(p, s.clock(at), fate)
			}
		}
		return fmt.Sprintf("end %d", len(s.topic[p]))
	case "load":
		if err := s.load(s.store(), p); err != nil {
			return err.Error()
		}
		return fmt.Sprintf("loaded %d", s.loaded[p])
	case "back": // as an operator sets an offset back
		s.loaded[p] = a.Int("to", 0)
		return ""
	case "restart":
		s.keeper = s.lakeside.keeper(s.store())
		return ""
	case "plant":
		if err := os.WriteFile(filepath.Join(s.root, a.Get("file")), []byte("{}\n"), 0o600); err != nil {
			return err.Error()
		}
		return ""
	case "remove":
		if err := os.Remove(filepath.Join(s.root, a.Get("file"))); err != nil {
			return err.Error()
		}
		return ""
	case "time": // is=11:06
		s.now = s.clock(a.Get("is"))
		return s.keep()
	case "look":
		return s.look()
	}
	s.t.Fatalf("no verb %q", verb)
	return ""
}

func (s *storyLake) clock(text string) time.Time {
	at, err := time.Parse("15:04", text)
	if err != nil {
		s.t.Fatal(err)
	}
	return day.Add(time.Duration(at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute)
}

// keep lets the keeper work twice, as it is called every second.
func (s *storyLake) keep() string {
	s.keeper.next = time.Time{}
	if err := s.keeper.Keep(s.t.Context(), s.standings()); err != nil {
		return err.Error()
	}
	mark := s.keeper.tide.watermark(s.now, s.standings(), s.keeper.book.last)
	words := []string{"watermark none"}
	if mark != noTime {
		words[0] = "watermark " + mark.time().Format("15:04")
	}
	for _, folder := range slices.Sorted(maps.Keys(s.keeper.shelves)) {
		if trouble := s.keeper.shelves[folder].trouble; trouble != "" {
			words = append(words, folder+": "+trouble)
		}
	}
	return strings.Join(words, "\n")
}

// look shows every folder: its names, and what its manifest says.
func (s *storyLake) look() string {
	var out []string
	_ = filepath.WalkDir(s.root, func(name string, d os.DirEntry, err error) error {
		rel, _ := filepath.Rel(s.root, name)
		if err != nil || d.IsDir() || strings.HasPrefix(rel, tmpFolder) || strings.HasPrefix(rel, planFolder) {
			return err
		}
		if path.Base(rel) != manifestName {
			out = append(out, rel)
			return nil
		}
		m := s.manifest(path.Dir(rel))
		out = append(out, fmt.Sprintf("%s: version %d, %s, watermark %s", rel, m.Version, m.Reason, m.Watermark.time().Format("15:04")))
		out = append(out, fmt.Sprintf("  %d records = %d rows + %d filtered + %d dead letters; %d late, %d files", m.Totals.Records, m.Totals.Rows, m.Totals.Filtered, m.Totals.DeadLetters, m.Totals.Late, m.Totals.Files))
		for _, p := range m.Partitions {
			out = append(out, fmt.Sprintf("  partition %d: %d to %d, all below %d; %d records", p.Partition, p.First, p.Last, p.Accounted, p.Records))
		}
		return nil
	})
	return strings.Join(out, "\n")
}

func (l *lakeside) manifest(folder string) (m manifest) {
	l.t.Helper()
	text, err := l.store().Read(l.t.Context(), path.Join(folder, manifestName))
	if err != nil {
		l.t.Fatal(err)
	}
	if err := json.Unmarshal(text, &m); err != nil {
		l.t.Fatal(err)
	}
	return m
}
