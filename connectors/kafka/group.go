package kafka

import (
	"context"
	"time"

	"github.com/segmentio/kafka-go/protocol/offsetcommit"

	"github.com/entrepot-hub/entrepot/connectors"
)

// tellAgain is the pause before a commit that the remote group did not take is
// tried again while nothing new comes.
const tellAgain = 5 * time.Second

// Committed implements connectors.Reader: it tells the remote group how far
// the hub is, for those who look at its lag. The hub's own checkpoint counts,
// so trouble with the group is told once and stops nothing.
func (r *reader) Committed(ctx context.Context, upTo connectors.Position) error {
	if r.group == "" {
		return nil
	}
	offset, _, err := parsePosition(upTo)
	if err != nil {
		return err
	}
	r.owed = offset + 1
	r.tell(ctx)
	return nil
}

// remind tells the group what it has not heard: of a commit that failed, or of
// the checkpoint that a killed run has left. It is for when nothing new comes;
// else the next commit says more.
func (r *reader) remind(ctx context.Context) {
	if r.group != "" && r.owed > 0 && time.Since(r.tried) >= tellAgain {
		r.tell(ctx)
	}
}

// tell commits what is owed to the group.
func (r *reader) tell(ctx context.Context) {
	text := ""
	if err := r.commit(ctx, r.owed); err != nil {
		text = err.Error()
		delete(r.cluster.coordinators, coordinated{r.group, ofGroup}) // it may be elsewhere
	} else {
		r.owed = 0
	}
	if text != "" && text != r.grumble {
		r.task.Logger.Warn("the remote group does not hear how far the hub is", "topic", r.tp.Topic, "partition", r.tp.Partition, "error", text)
	}
	r.grumble, r.tried = text, time.Now()
}

func (r *reader) commit(ctx context.Context, next int64) error {
	c, err := r.cluster.coordinator(ctx, r.group, ofGroup)
	if err != nil {
		return err
	}
	answer, err := c.ask(ctx, &offsetcommit.Request{
		GroupID: r.group, GenerationID: -1, RetentionTimeMs: -1,
		Topics: []offsetcommit.RequestTopic{{Name: r.tp.Topic, Partitions: []offsetcommit.RequestPartition{
			{PartitionIndex: r.tp.Partition, CommittedOffset: next, CommittedLeaderEpoch: -1},
		}}},
	})
	if err != nil {
		return err
	}
	for _, t := range answer.(*offsetcommit.Response).Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode != 0 {
				return failed("commit to group "+r.group, p.ErrorCode)
			}
		}
	}
	return nil
}
