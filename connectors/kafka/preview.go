package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// lookWait is how long a look waits for records of one partition.
const lookWait = 2 * time.Second

// Sample implements connectors.Sampler: it fetches the first records of each
// partition, in no group.
func (Source) Sample(ctx context.Context, task connectors.TaskContext, most int) (out connectors.Sample, err error) {
	l, err := linkOf(task.Config)
	if err != nil {
		return out, err
	}
	s, c := sourceSettingsOf(task.Config), l.cluster()
	defer c.close()
	splits, err := s.list(ctx, c, map[string]bool{}, true)
	if err != nil {
		return out, err
	}
	for i, split := range splits {
		if most <= len(out.Messages) {
			break
		}
		split.Config = map[string]string{noteStart: fromFirst} // `start` may be at the end, where there is nothing
		got, err := sampleOf(ctx, l, task, split, max(1, (most-len(out.Messages))/(len(splits)-i)))
		if err != nil {
			return out, err
		}
		out.Messages = append(out.Messages, got...)
	}
	return out, nil
}

func sampleOf(ctx context.Context, l *link, task connectors.TaskContext, split connectors.Split, most int) (got []connectors.Message, err error) {
	tp, err := parseSplitID(split.ID)
	if err != nil {
		return nil, err
	}
	r, err := openReader(ctx, l, task, split, tp, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close(ctx)) }()
	if r.end, err = r.cluster.offset(ctx, tp, atLatest, r.sifter.committed); err != nil {
		return nil, err
	}
	for len(got) < most {
		b, err := r.Read(ctx, connectors.Limits{Records: most - len(got), Wait: lookWait})
		for _, m := range b.Messages {
			if !m.Mark {
				got = append(got, m)
			}
		}
		if errors.Is(err, io.EOF) || err == nil && len(b.Messages) == 0 {
			return got, nil
		}
		if err != nil {
			return got, err
		}
	}
	return got, nil
}

// At implements connectors.Timed, by the times that the broker keeps.
func (Source) At(ctx context.Context, task connectors.TaskContext, split connectors.Split, at time.Time) (connectors.Found, error) {
	tp, err := parseSplitID(split.ID)
	if err != nil {
		return connectors.Found{}, err
	}
	l, err := linkOf(task.Config)
	if err != nil {
		return connectors.Found{}, err
	}
	s, c := sourceSettingsOf(task.Config), l.cluster()
	defer c.close()
	t, err := c.topic(ctx, tp.Topic)
	if err != nil {
		return connectors.Found{}, err
	}
	next, err := c.offset(ctx, tp, max(at.UnixMilli(), 0), s.committed)
	if err == nil && next < 0 { // nothing is that late
		next, err = c.offset(ctx, tp, atLatest, s.committed)
	}
	if err != nil {
		return connectors.Found{}, err
	}
	if next > 0 {
		return connectors.Found{Position: appendPosition(nil, next-1, t.id), Where: fmt.Sprintf("%s:%d", tp, next-1)}, nil
	}
	if s.start != atEarliest {
		return connectors.Found{}, connectors.Fatalf("%w: the first record of %s is of that time, and no position stands before it: set start: earliest, then reset the job's offsets", record.ErrInvalidRequest, tp)
	}
	return connectors.Found{Where: "the beginning"}, nil
}

// Preview implements connectors.Previewer: it asks for the topic and what that
// takes.
func (Sink) Preview(ctx context.Context, task connectors.TaskContext, sample []connectors.Message) (out connectors.Preview, err error) {
	l, err := linkOf(task.Config)
	if err != nil {
		return out, err
	}
	var partitions []record.TopicPartition
	if len(sample) > 0 {
		partitions = append(partitions, sample[0].Partition)
	}
	if sinkSettingsOf(task.Config).topic == "" && len(partitions) == 0 {
		out.Notes = append(out.Notes, "the topic has the name of the hub's, and there are no records to look at")
		return out, nil
	}
	w, err := openWriter(ctx, l, task, partitions)
	if err != nil {
		return out, err
	}
	defer w.cluster.close()
	out.Target = fmt.Sprintf("topic %s at %s, which is there with %d partitions and takes batches of %d bytes", w.topic, strings.Join(w.cluster.brokers, ", "), w.partitions, w.limit)
	out.Refused, err = w.refuse(connectors.Batch{Messages: sample})
	return out, err
}

// Replayed implements connectors.Replayer.
func (Sink) Replayed(cfg connectors.Config, _ string, _ []connectors.Move) string {
	if sinkSettingsOf(cfg).transaction {
		return "the other cluster keeps the job's offsets, in a consumer group for each partition, and they count more than the hub's: nothing is written again unless those are moved too"
	}
	return "records that the search at the end of the remote partitions finds there (resume_scan) are left out, all older ones are written a second time"
}
