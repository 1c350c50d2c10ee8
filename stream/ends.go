package stream

import (
	"context"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/entrepot-hub/entrepot/record"
)

// endsPoll is how often a runner asks for the ends of the topics that sinks
// read.
const endsPoll = 5 * time.Second

// watchEnds tells the monitors of sink jobs how far their topics go. A job that
// waits for its destination, has failed or is paused reads nothing: of itself
// it would show the lag that it had when it last read.
func (r *Runner) watchEnds(ctx context.Context, sh *shared) {
	cl, closed, err := sh.cluster.client(ctx, "entrepot-ends")
	if err != nil {
		return // the config of clients is wrong, and every job says so
	}
	defer closed()
	admin := kadm.NewClient(cl)
	tick := time.NewTicker(endsPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.askEnds(ctx, admin)
		}
	}
}

// askEnds asks once. What has no answer keeps the end that it had.
func (r *Runner) askEnds(ctx context.Context, admin *kadm.Client) {
	byTopic := map[string][]*monitor{}
	r.mu.Lock()
	for _, j := range r.mu.jobs {
		if j.spec.Sink != nil {
			byTopic[j.spec.Topic] = append(byTopic[j.spec.Topic], j.monitor)
		}
	}
	r.mu.Unlock()
	if len(byTopic) == 0 {
		return
	}
	topics := make([]string, 0, len(byTopic))
	for topic := range byTopic {
		topics = append(topics, topic)
	}
	slices.Sort(topics)
	ctx, cancel := context.WithTimeout(ctx, endsPoll)
	defer cancel()
	ends, err := admin.ListEndOffsets(ctx, topics...)
	if err != nil {
		return
	}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Err != nil {
			return
		}
		for _, m := range byTopic[o.Topic] {
			m.end(record.TopicPartition{Topic: o.Topic, Partition: o.Partition}.String(), o.Offset)
		}
	})
}
