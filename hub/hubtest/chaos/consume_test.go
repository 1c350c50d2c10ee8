package chaos

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/hub/hubtest/history"
)

// reads are records as the history has them.
func reads(records []*kgo.Record) []history.Read {
	all := make([]history.Read, 0, len(records))
	for _, one := range records {
		read := history.Read{Offset: one.Offset, Epoch: one.LeaderEpoch, Control: one.Attrs.IsControl()}
		if !read.Control {
			read.Key, read.Value = string(one.Key), string(one.Value)
		}
		all = append(all, read)
	}
	return all
}

// polled adds what one poll gave to the history. name tells which consumer of a
// partition it is.
func (r *run) polled(begin time.Duration, fetches kgo.Fetches, name func(topic string, partition int32) string, like history.Poll) {
	end := r.rec.Now()
	r.rec.Add(func(h *history.History) {
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if len(p.Records) == 0 {
				return
			}
			one := like
			one.Begin, one.End, one.Consumer = begin, end, name(p.Topic, p.Partition)
			one.Topic, one.Partition, one.High, one.Reads = p.Topic, p.Partition, p.HighWatermark, reads(p.Records)
			h.Polls = append(h.Polls, one)
		})
	})
	fetches.EachError(func(topic string, partition int32, err error) {
		r.note("a consumer of %s-%d: %v", topic, partition, err)
	})
}

// tail reads all topics as they grow.
func (r *run) tail(committed bool) {
	isolation, name := kgo.ReadUncommitted(), "tail"
	if committed {
		isolation, name = kgo.ReadCommitted(), "tail-committed"
	}
	cl, err := kgo.NewClient(r.options(kgo.ConsumeTopics(names()...), kgo.FetchIsolationLevel(isolation), kgo.KeepControlRecords(),
		kgo.FetchMaxWait(200*time.Millisecond), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		r.t.Error(err)
		return
	}
	defer cl.Close()
	for r.load.Err() == nil {
		begin := r.rec.Now()
		r.polled(begin, cl.PollFetches(r.load), func(string, int32) string { return name }, history.Poll{Committed: committed})
	}
}

// member is a member of a group that comes and goes. It commits what it has
// read, and waits for the answer.
func (r *run) member(i int) {
	rng := r.random(fmt.Sprint("member", i))
	lives(r.load, fmt.Sprintf("member-%d", i), func(name string) {
		assigned := 0 // each time it is given partitions, it reads as another
		life, end := context.WithTimeout(r.load, 10*time.Second+time.Duration(rng.IntN(20))*time.Second)
		defer end()
		again := func(context.Context, *kgo.Client, map[string][]int32) { assigned++ }
		cl, err := kgo.NewClient(r.options(kgo.ConsumerGroup("readers"), kgo.ConsumeTopics("records"), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
			kgo.OnPartitionsAssigned(again), kgo.OnPartitionsRevoked(again), kgo.OnPartitionsLost(again),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(500*time.Millisecond),
			kgo.FetchMaxWait(200*time.Millisecond))...)
		if err != nil {
			r.t.Error(err)
			return
		}
		defer cl.CloseAllowingRebalance()
		for life.Err() == nil {
			begin := r.rec.Now()
			fetches := cl.PollRecords(life, 500)
			r.polled(begin, fetches, func(string, int32) string { return fmt.Sprintf("%s/%d", name, assigned) }, history.Poll{Group: "readers"})
			r.commit(cl, fetches.Records())
			cl.AllowRebalance()
		}
	})
}

func (r *run) commit(cl *kgo.Client, records []*kgo.Record) {
	if len(records) == 0 {
		return
	}
	upTo := map[int32]int64{}
	for _, one := range records {
		upTo[one.Partition] = max(upTo[one.Partition], one.Offset+1)
	}
	o := history.Offset{Group: "readers", Topic: "records", Outcome: history.Unknown}
	o.Begin = r.rec.Now()
	ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
	defer cancel()
	err := cl.CommitRecords(ctx, records...)
	if o.End = r.rec.Now(); err == nil {
		o.Outcome = history.OK
	}
	r.rec.Add(func(h *history.History) {
		for p, at := range upTo {
			o.Partition, o.At = p, at
			h.Offsets = append(h.Offsets, o)
		}
	})
}

// askOffsets asks where the groups are, over and over.
func (r *run) askOffsets() {
	admin := kadm.NewClient(r.client())
	for r.load.Err() == nil {
		for _, group := range []string{"readers", "copiers"} {
			_, _ = r.offsets(r.load, admin, group)
		}
		select {
		case <-r.load.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// offsets asks where a group is and records the answer.
func (r *run) offsets(ctx context.Context, admin *kadm.Client, group string) (map[int32]int64, error) {
	o := history.Offset{Group: group, Topic: "records", Ask: true, Outcome: history.OK}
	o.Begin = r.rec.Now()
	// Stable: without it an answer may be from before a transaction whose end
	// the client was told, and whose markers are on their way.
	got, err := admin.FetchOffsetsForTopics(kadm.RequireStable(ctx), group, "records")
	if err == nil {
		err = got.Error()
	}
	if err != nil {
		return nil, err
	}
	o.End = r.rec.Now()
	at := map[int32]int64{}
	r.rec.Add(func(h *history.History) {
		got.Each(func(one kadm.OffsetResponse) {
			o.Partition, o.At = one.Partition, one.At
			at[o.Partition] = one.At
			h.Offsets = append(h.Offsets, o)
		})
	})
	return at, nil
}
