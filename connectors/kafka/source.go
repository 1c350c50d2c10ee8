package kafka

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// Validate implements connectors.Source. With ProbeLive it connects and looks
// whether the topics are there.
func (Source) Validate(ctx context.Context, cfg connectors.Config, probe connectors.Probe) []connectors.Finding {
	all := checkLink(cfg)
	s := sourceSettingsOf(cfg)
	if len(s.topics) == 0 && s.pattern == nil {
		all = append(all, connectors.Finding{Field: "topics", Message: "nothing says which topics to read", Hint: "give topics, topics_regexp, or both"})
	}
	if probe != connectors.ProbeLive || slices.ContainsFunc(all, func(f connectors.Finding) bool { return !f.Warning }) {
		return all
	}
	l, err := linkOf(cfg)
	if err != nil {
		return append(all, connectors.Finding{Message: err.Error()})
	}
	c := l.cluster()
	defer c.close()
	if _, err := s.list(ctx, c, map[string]bool{}, true); err != nil {
		all = append(all, connectors.Finding{Field: "topics", Message: err.Error()})
	}
	return all
}

// Splits implements connectors.Source: one for each partition.
func (Source) Splits(ctx context.Context, cfg connectors.Config) (<-chan []connectors.Split, error) {
	l, err := linkOf(cfg)
	if err != nil {
		return nil, err
	}
	s, c, seen := sourceSettingsOf(cfg), l.cluster(), map[string]bool{}
	first, err := s.list(ctx, c, seen, true)
	if err != nil {
		c.close()
		return nil, err
	}
	lists := make(chan []connectors.Split, 1)
	lists <- first
	if !s.follow {
		c.close()
		close(lists)
		return lists, nil
	}
	go func() {
		defer close(lists)
		defer c.close()
		s.discoverAll(ctx, c, seen, lists, first)
	}()
	return lists, nil
}

// discoverAll looks for new partitions until ctx ends.
func (s sourceSettings) discoverAll(ctx context.Context, c *cluster, seen map[string]bool, lists chan<- []connectors.Split, last []connectors.Split) {
	tick := time.NewTicker(s.discover)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// What cannot be heard now is heard at the next tick; meanwhile the
		// readers tell what is wrong.
		now, err := s.list(ctx, c, seen, false)
		if err != nil || len(now) == len(last) {
			continue
		}
		last = now
		select {
		case lists <- now:
		case <-ctx.Done():
			return
		}
	}
}

// The key of a split's notes, and what it says of a partition that appeared
// while the job was running: all of it is new, whatever `start` says.
const (
	noteStart = "start"
	fromFirst = "earliest"
)

// list is the present list of splits. One that was there stays: a topic that
// is gone is its reader's to report. seen holds those listed before.
func (s sourceSettings) list(ctx context.Context, c *cluster, seen map[string]bool, first bool) ([]connectors.Split, error) {
	topics := s.topics
	if s.pattern != nil {
		topics = nil
	}
	m, err := c.refresh(ctx, topics)
	if err != nil {
		return nil, fmt.Errorf("list the topics of %s: %w", strings.Join(s.where(c), ", "), err)
	}
	for _, name := range s.topics {
		if t, ok := m.topics[name]; first && (!ok || t.code != 0) {
			return nil, failed("topic "+name, max(t.code, int16(kafkago.UnknownTopicOrPartition)))
		}
	}
	for name, t := range m.topics {
		if t.code != 0 || !s.wants(name, t) {
			continue
		}
		for p := range t.partitions {
			id := splitID(record.TopicPartition{Topic: name, Partition: p})
			if _, ok := seen[id]; !ok {
				seen[id] = !first
			}
		}
	}
	all := make([]connectors.Split, 0, len(seen))
	for id, late := range seen {
		sp := connectors.Split{ID: id}
		if late {
			sp.Config = map[string]string{noteStart: fromFirst}
		}
		all = append(all, sp)
	}
	slices.SortFunc(all, func(a, b connectors.Split) int { return strings.Compare(a.ID, b.ID) })
	return all, nil
}

func (sourceSettings) where(c *cluster) []string { return c.brokers }

func splitID(tp record.TopicPartition) string { return tp.String() }

func parseSplitID(id string) (record.TopicPartition, error) {
	at := strings.LastIndexByte(id, '-')
	if at > 0 {
		if n, err := strconv.ParseInt(id[at+1:], 10, 32); err == nil && n >= 0 {
			return record.TopicPartition{Topic: id[:at], Partition: int32(n)}, nil
		}
	}
	return record.TopicPartition{}, connectors.Fatalf("split %q is not a topic's partition such as orders-3", id)
}

// Open implements connectors.Source.
func (Source) Open(ctx context.Context, task connectors.TaskContext, split connectors.Split, from connectors.Position) (connectors.Reader, error) {
	tp, err := parseSplitID(split.ID)
	if err != nil {
		return nil, err
	}
	l, err := linkOf(task.Config)
	if err != nil {
		return nil, err
	}
	r, err := openReader(ctx, l, task, split, tp, from)
	if err != nil {
		return nil, err
	}
	return r, nil
}

func openReader(ctx context.Context, l *link, task connectors.TaskContext, split connectors.Split, tp record.TopicPartition, from connectors.Position) (*reader, error) {
	r := &reader{sourceSettings: sourceSettingsOf(task.Config), task: task, tp: tp, cluster: l.cluster(), end: -1}
	if split.Config[noteStart] == fromFirst {
		r.start = atEarliest
	}
	if err := r.begin(ctx, from); err != nil {
		r.cluster.close()
		return nil, err
	}
	return r, nil
}
