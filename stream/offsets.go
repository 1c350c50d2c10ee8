package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// Offset is how far one part of a job is: a split of a source, or a partition
// of a sink.
type Offset struct {
	Split    string              `json:"split,omitempty"`
	Position connectors.Position `json:"position,omitempty"` // base64 in JSON; nil: the beginning
	Where    string              `json:"where,omitempty"`    // the position for people

	Topic     string `json:"topic,omitempty"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

// Offsets lists how far a job is, as it is durable.
func (r *Runner) Offsets(ctx context.Context, name string) (out []Offset, err error) {
	err = r.operate(ctx, name, func(ctx context.Context, sh *shared, spec ConnectorSpec) error {
		if spec.Source != nil {
			out, err = splitOffsets(ctx, sh, name)
			return err
		}
		out, err = partitionOffsets(ctx, sh, spec)
		return err
	})
	return out, err
}

func splitOffsets(ctx context.Context, sh *shared, name string) ([]Offset, error) {
	if err := sh.store.load(ctx); err != nil {
		return nil, err
	}
	out := []Offset{}
	for _, key := range sh.store.keys(sourceKey(name, "")) {
		split := strings.TrimPrefix(key, sourceKey(name, ""))
		var ck sourceCheckpoint
		if _, err := sh.store.get(key, &ck); err != nil {
			return nil, err
		}
		if split != letterSplit {
			out = append(out, Offset{Split: split, Position: ck.Position, Where: ck.Where})
		}
	}
	return out, nil
}

func partitionOffsets(ctx context.Context, sh *shared, spec ConnectorSpec) ([]Offset, error) {
	out := []Offset{}
	all, err := kadm.NewClient(sh.store.client).FetchOffsetsForTopics(ctx, Group(spec.Name), spec.Topic)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, fmt.Errorf("ask for the offsets of group %s: %w", Group(spec.Name), err)
	}
	for _, o := range all.Sorted() {
		if o.Err == nil && o.At >= 0 {
			out = append(out, Offset{Topic: o.Topic, Partition: o.Partition, Offset: o.At})
		}
	}
	return out, nil
}

// SetOffsets moves parts of a job that does not run. Moving back has the
// records in between read again: a source writes them to its topic once more,
// and a sink whose destination keeps the offset itself follows the destination.
func (r *Runner) SetOffsets(ctx context.Context, name string, to []Offset) error {
	return r.operate(ctx, name, func(ctx context.Context, sh *shared, spec ConnectorSpec) error {
		for _, o := range to { // all, before the first one is moved
			if err := o.check(spec); err != nil {
				return err
			}
		}
		if err := r.settled(ctx, name); err != nil {
			return err
		}
		if err := sh.store.load(ctx); err != nil {
			return err
		}
		set := setPosition
		if spec.Source == nil {
			set = setOffset
		}
		for _, o := range to {
			if err := set(ctx, sh, spec, o); err != nil {
				return err
			}
		}
		return nil
	})
}

// check tells whether a job can have such an offset.
func (o Offset) check(spec ConnectorSpec) error {
	switch {
	case spec.Source == nil && (o.Topic != spec.Topic || o.Partition < 0 || o.Offset < 0):
		return fmt.Errorf("%w: a sink of %s has offsets of its partitions, not %+v", record.ErrInvalidRequest, spec.Topic, o)
	case spec.Source != nil && (o.Split == "" || len(o.Position) == 0):
		return fmt.Errorf("%w: a source has positions of its splits, not %+v", record.ErrInvalidRequest, o)
	}
	return nil
}

// setOffset moves a partition of a sink. Its last plan goes: it knows which
// records are dead letters already, and they are to be tried again.
func setOffset(ctx context.Context, sh *shared, spec ConnectorSpec, o Offset) error {
	tp := record.TopicPartition{Topic: o.Topic, Partition: o.Partition}
	if err := sh.store.drop(ctx, sinkKey(spec.Name, tp)); err != nil {
		return err
	}
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: tp.Topic, Partition: tp.Partition, At: o.Offset, LeaderEpoch: -1})
	return commitOffsets(ctx, sh, spec.Name, offsets)
}

// setPosition moves a split of a source.
func setPosition(ctx context.Context, sh *shared, spec ConnectorSpec, o Offset) error {
	// Only the place and the totals stay: what lies in the topic beyond it is
	// to be written again, so nothing is looked for.
	var ck sourceCheckpoint
	if _, err := sh.store.get(sourceKey(spec.Name, o.Split), &ck); err != nil {
		return err
	}
	ends, err := ends(ctx, sh, spec)
	if err != nil {
		return err
	}
	return sh.store.put(ctx, sourceKey(spec.Name, o.Split), sourceCheckpoint{
		V: checkpointVersion, Position: o.Position, Where: o.Where, Counters: ck.Counters, Ends: offsetsList(ends),
	})
}

// ends are the ends of what a source job writes to.
func ends(ctx context.Context, sh *shared, spec ConnectorSpec) (map[record.TopicPartition]int64, error) {
	bounds, err := spans(ctx, kadm.NewClient(sh.store.client), spec.Topic, spec.DLQ())
	if err != nil {
		return nil, err
	}
	out := map[record.TopicPartition]int64{}
	for tp, b := range bounds {
		out[tp] = b.end
	}
	return out, nil
}

func commitOffsets(ctx context.Context, sh *shared, name string, offsets kadm.Offsets) error {
	responses, err := kadm.NewClient(sh.store.client).CommitOffsets(ctx, Group(name), offsets)
	if err == nil {
		err = responses.Error()
	}
	if err != nil {
		return fmt.Errorf("set the offsets of group %s: %w", Group(name), err)
	}
	return nil
}

// ResetOffsets forgets how far a job is that does not run: it begins anew.
func (r *Runner) ResetOffsets(ctx context.Context, name string) error {
	return r.operate(ctx, name, func(ctx context.Context, sh *shared, spec ConnectorSpec) error {
		if err := r.settled(ctx, name); err != nil {
			return err
		}
		if err := sh.store.load(ctx); err != nil {
			return err
		}
		for _, prefix := range []string{sourceKey(name, ""), "dedup/" + name + "/", "sink/" + name + "/"} {
			for _, key := range sh.store.keys(prefix) {
				if key == sourceKey(name, letterSplit) || strings.HasPrefix(key, "sink/"+name+"/"+spec.DLQ()+"/") {
					continue // what was replayed stays replayed
				}
				if err := sh.store.drop(ctx, key); err != nil {
					return err
				}
			}
		}
		if spec.Source != nil {
			return nil
		}
		return deleteOffsets(ctx, sh, spec)
	})
}

func deleteOffsets(ctx context.Context, sh *shared, spec ConnectorSpec) error {
	all, err := partitionOffsets(ctx, sh, spec)
	if err != nil || len(all) == 0 {
		return err
	}
	set := kadm.TopicsSet{}
	for _, o := range all {
		set.Add(o.Topic, o.Partition)
	}
	responses, err := kadm.NewClient(sh.store.client).DeleteOffsets(ctx, Group(spec.Name), set)
	if err == nil {
		err = responses.Error()
	}
	if err != nil {
		return fmt.Errorf("delete the offsets of group %s: %w", Group(spec.Name), err)
	}
	return nil
}
