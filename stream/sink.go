package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// maxTasks is the number of writers that a sink job uses at once.
	maxTasks = 4
	// growthPoll is how often a sink looks for new partitions of its topic.
	growthPoll = 30 * time.Second
)

// Group is the consumer group whose offsets say how far a sink job is.
func Group(job string) string { return "connect-" + job }

// sinkRun is one session of a sink job. The topic's partitions are dealt out
// to a few tasks; each task has one goroutine, one writer and one consumer.
type sinkRun struct {
	*session
	topic  topicInfo
	group  string
	limits connectors.Limits
	bounds map[record.TopicPartition]span
	// message is what a record of the topic stands for; not ours: it is of
	// another job, and is counted as filtered.
	message func(*kgo.Record) (m connectors.Message, ours bool)

	standings standings
}

// runSink writes until the session is stopped or an error.
func runSink(s *session) error {
	r, err := newSinkRun(s)
	if err != nil {
		return s.cause(err)
	}
	committed, err := r.committed()
	if err != nil {
		return s.cause(err)
	}
	tasks, parts := r.deal(committed), map[string]bool{}
	for _, t := range tasks {
		parts[t.name] = true
		for _, l := range t.sorted() {
			parts[l.tp.String()] = true
			t.report(l) // a destination that is away must not hide what waits for it
		}
	}
	s.monitor.only(parts)
	if len(tasks) == 0 { // there are fewer partitions than tasks of the job
		s.monitor.state(Running)
	}
	var wg sync.WaitGroup
	for _, t := range tasks {
		wg.Go(func() {
			if err := s.guard(t.name, t.run); err != nil && s.soft.Err() == nil {
				s.fail(err)
			}
		})
	}
	wg.Go(func() { r.watchGrowth() })
	wg.Go(func() {
		if err := s.guard(s.spec.Name+"/keeper", r.keep); err != nil && s.soft.Err() == nil {
			s.fail(err)
		}
	})
	wg.Wait()
	return s.cause(nil)
}

func newSinkRun(s *session) (*sinkRun, error) {
	topic, err := s.awaitTopic()
	if err != nil {
		return nil, err
	}
	r := &sinkRun{session: s, topic: topic, group: Group(s.spec.Name), limits: s.spec.Sink.Batching(s.spec.Config)}
	r.message = func(rec *kgo.Record) (connectors.Message, bool) { return message(rec), true }
	r.bounds, err = spans(s.soft, s.admin, s.spec.Topic)
	return r, err
}

// deal gives every task its partitions.
func (r *sinkRun) deal(committed map[int32]commit) []*sinkTask {
	var mine []int32
	for p := range r.topic.partitions {
		if r.spec.Share.partition(p) {
			mine = append(mine, p)
		}
	}
	tasks := make([]*sinkTask, min(len(mine), maxTasks))
	for i := range tasks {
		tasks[i] = &sinkTask{
			sinkRun: r, name: fmt.Sprintf("%s/%d", r.spec.Name, r.spec.Share.first()*maxTasks+i), pipe: r.spec.Pipeline.start(),
			memory: r.spec.memory() / int64(len(tasks)), lanes: map[int32]*lane{},
		}
	}
	for i, p := range mine {
		tp := record.TopicPartition{Topic: r.spec.Topic, Partition: p}
		tasks[i%len(tasks)].lanes[p] = &lane{tp: tp, commit: committed[p], end: r.bounds[tp].end, old: r.bounds[tp].end}
	}
	return tasks
}

// errGrown ends a session so that the next one reads the new partitions too.
var errGrown = errors.New("the topic has new partitions, or is a new one")

func (r *sinkRun) watchGrowth() {
	tick := time.NewTicker(growthPoll)
	defer tick.Stop()
	for {
		select {
		case <-r.soft.Done():
			return
		case <-tick.C:
			if now, err := askTopic(r.soft, r.admin, r.spec.Topic); err == nil && now != r.topic {
				r.fail(fmt.Errorf("%w: %d, there were %d", errGrown, now.partitions, r.topic.partitions))
			}
		}
	}
}

// commit is what the consumer group holds of one partition: the offset, and
// in its metadata the totals up to there, so that both change together.
type commit struct {
	known    bool
	offset   int64
	counters Counters
}

// commitMetadata is the text that goes with a committed offset.
type commitMetadata struct {
	Counters
	Topic string `json:"topic_id,omitempty"`
}

func (r *sinkRun) committed() (map[int32]commit, error) {
	all, err := r.admin.FetchOffsetsForTopics(r.soft, r.group, r.spec.Topic)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, fmt.Errorf("ask for the offsets of group %s: %w", r.group, err)
	}
	out := map[int32]commit{}
	for p, o := range all[r.spec.Topic] {
		if o.Err != nil {
			return nil, fmt.Errorf("ask for the offset of %s-%d in group %s: %w", r.spec.Topic, p, r.group, o.Err)
		}
		if o.At < 0 {
			continue
		}
		c := commit{known: true, offset: o.At}
		// An offset set by a tool has other metadata or none; the totals
		// begin anew then.
		var meta commitMetadata
		_ = json.Unmarshal([]byte(o.Metadata), &meta)
		c.counters = meta.Counters
		if meta.Topic != "" && r.topic.id != "" && meta.Topic != r.topic.id {
			return nil, connectors.Fatalf("topic %s was deleted and made anew since offset %d of partition %d was loaded; "+
				"reset the offsets of group %s, and those that the destination keeps, to load the new one", r.spec.Topic, o.At, p, r.group)
		}
		out[p] = c
	}
	return out, nil
}

// commitOffset moves the group's offset. Invariant: the offset moves only
// after the destination has what is below it and the dead letters are in.
func (r *sinkRun) commitOffset(ctx context.Context, tp record.TopicPartition, offset int64, c Counters) error {
	meta, err := json.Marshal(commitMetadata{Counters: c, Topic: r.topic.id})
	if err != nil {
		return fmt.Errorf("encode the totals of %s: %w", tp, err)
	}
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: tp.Topic, Partition: tp.Partition, At: offset, LeaderEpoch: -1, Metadata: string(meta)})
	responses, err := r.admin.CommitOffsets(ctx, r.group, offsets)
	if err == nil {
		err = responses.Error()
	}
	if err != nil {
		return fmt.Errorf("commit offset %d of %s in group %s: %w", offset, tp, r.group, err)
	}
	return nil
}

// limitRecords and limitBytes are the bounds of one plan; 0 in the sink's own
// limits means that it has none.
func (r *sinkRun) limitRecords() int {
	if r.limits.Records > 0 {
		return r.limits.Records
	}
	return math.MaxInt
}

func (r *sinkRun) limitBytes() int64 {
	if r.limits.Bytes > 0 {
		return int64(r.limits.Bytes)
	}
	return math.MaxInt64
}
