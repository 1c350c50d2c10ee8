package kafka

import (
	"context"
	"slices"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// Validate implements connectors.Sink. With ProbeLive it connects and looks
// whether the topic is there.
func (Sink) Validate(ctx context.Context, cfg connectors.Config, probe connectors.Probe) []connectors.Finding {
	all := checkLink(cfg)
	s := sinkSettingsOf(cfg)
	if s.id != "" && !s.transaction {
		all = append(all, connectors.Finding{Field: "transactional_id", Message: "without transactions there is no transactional id", Hint: "set exactly_once: transaction, or leave it out"})
	}
	if probe != connectors.ProbeLive || s.topic == "" || slices.ContainsFunc(all, func(f connectors.Finding) bool { return !f.Warning }) {
		return all
	}
	l, err := linkOf(cfg)
	if err != nil {
		return append(all, connectors.Finding{Message: err.Error()})
	}
	c := l.cluster()
	defer c.close()
	if _, err := c.topic(ctx, s.topic); err != nil {
		all = append(all, connectors.Finding{Field: "remote_topic", Message: err.Error()})
	}
	return all
}

// Batching implements connectors.Sink.
func (Sink) Batching(cfg connectors.Config) connectors.Limits { return sinkSettingsOf(cfg).batching }

// Open implements connectors.Sink.
func (Sink) Open(ctx context.Context, task connectors.TaskContext, partitions []record.TopicPartition) (connectors.Writer, error) {
	l, err := linkOf(task.Config)
	if err != nil {
		return nil, err
	}
	w, err := openWriter(ctx, l, task, partitions)
	if err != nil {
		return nil, err
	}
	return w, nil
}

func openWriter(ctx context.Context, l *link, task connectors.TaskContext, partitions []record.TopicPartition) (*writer, error) {
	w := &writer{
		sinkSettings: sinkSettingsOf(task.Config), task: task, cluster: l.cluster(), lanes: map[record.TopicPartition]*lane{},
	}
	for _, tp := range partitions {
		w.lanes[tp] = &lane{next: -1}
	}
	if w.topic == "" && len(partitions) > 0 {
		w.topic = partitions[0].Topic
	}
	if w.id == "" {
		w.id = "entrepot-" + task.Job
	}
	var err error
	if w.choose, err = partitionerOf(w.partitioner); err == nil {
		err = w.look(ctx)
	}
	if err != nil {
		w.cluster.close()
		return nil, err
	}
	return w, nil
}
