package stream

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// Rewind is what going back to a time does to a job, or would do.
type Rewind struct {
	Job   string       `json:"job"`
	Kind  string       `json:"kind"`
	Time  time.Time    `json:"time"`
	Moved bool         `json:"moved"`
	Parts []RewindPart `json:"parts"`
	// Then says what becomes of records that come again.
	Then string `json:"then"`
}

// RewindPart is one partition of a sink, or split of a source. One that is not
// behind the time already stays where it is.
type RewindPart struct {
	From    Offset `json:"from"`
	To      Offset `json:"to"`
	Stays   bool   `json:"stays"`
	Records int64  `json:"records"` // to be read again, at most; -1 where nobody knows
}

// Rewind moves a job that does not run back to the first record at or after a
// time, in each of its parts; in none when the place of one is not found. An
// error while they are moved leaves those before where they were to go: who asks
// again moves the rest. It never goes forward: that would leave records out. dry
// only tells, also of a job that runs.
func (r *Runner) Rewind(ctx context.Context, name string, to time.Time, dry bool) (out Rewind, err error) {
	err = r.operate(ctx, name, func(ctx context.Context, sh *shared, spec ConnectorSpec) error {
		if !dry {
			if err := r.settled(ctx, name); err != nil {
				return err
			}
		}
		if err := sh.store.load(ctx); err != nil {
			return err
		}
		out = Rewind{Job: name, Kind: spec.Kind(), Time: to.UTC(), Parts: []RewindPart{}}
		if spec.Source != nil {
			return rewindSource(ctx, sh, spec, dry, &out)
		}
		return rewindSink(ctx, sh, spec, dry, &out)
	})
	return out, err
}

// rewindSink asks the topic for the offsets of the time.
func rewindSink(ctx context.Context, sh *shared, spec ConnectorSpec, dry bool, out *Rewind) error {
	have, err := partitionOffsets(ctx, sh, spec)
	if err != nil {
		return err
	}
	listed, err := kadm.NewClient(sh.store.client).ListOffsetsAfterMilli(ctx, out.Time.UnixMilli(), spec.Topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return fmt.Errorf("ask for the offsets of %s at %s: %w", spec.Topic, out.Time.Format(time.RFC3339), err)
	}
	var moves []connectors.Move
	for _, from := range have {
		at, ok := listed.Lookup(from.Topic, from.Partition)
		if !ok {
			continue
		}
		p := RewindPart{From: from, To: from, Stays: at.Offset >= from.Offset}
		if !p.Stays {
			p.To.Offset, p.Records = at.Offset, from.Offset-at.Offset
			moves = append(moves, connectors.Move{
				Partition: record.TopicPartition{Topic: from.Topic, Partition: from.Partition}, From: from.Offset, To: at.Offset,
			})
		}
		out.Parts = append(out.Parts, p)
	}
	out.Then = "records are written to the destination once more"
	if s, ok := spec.Sink.(connectors.Replayer); ok && len(moves) > 0 {
		out.Then = s.Replayed(spec.Config, spec.Name, moves)
	}
	return out.apply(ctx, sh, spec, dry, setOffset)
}

// rewindSource asks the source's system for the place of the time.
func rewindSource(ctx context.Context, sh *shared, spec ConnectorSpec, dry bool, out *Rewind) error {
	s, ok := spec.Source.(connectors.Timed)
	if !ok {
		return fmt.Errorf("%w: a source of type %s does not know the times of its messages: use `connector offsets set` with a position that it had, or `connector offsets reset` to read all of it", record.ErrInvalidRequest, spec.Type)
	}
	have, err := splitOffsets(ctx, sh, spec.Name)
	if err != nil {
		return err
	}
	task := connectors.TaskContext{Job: spec.Name, Task: spec.Name + "/rewind", Site: sh.site, Config: spec.Config, Logger: slog.New(slog.DiscardHandler), Clock: time.Now}
	for _, from := range have {
		at, err := s.At(ctx, task, connectors.Split{ID: from.Split}, out.Time)
		if err != nil {
			return fmt.Errorf("look for %s in %s: %w", out.Time.Format(time.RFC3339), from.Split, err)
		}
		p := RewindPart{From: from, To: from, Stays: from.Position.Compare(at.Position) <= 0, Records: -1}
		if p.Stays {
			p.Records = 0
		} else {
			p.To.Position, p.To.Where = at.Position, at.Where
		}
		out.Parts = append(out.Parts, p)
	}
	out.Then = fmt.Sprintf("what lies behind the new place is written to topic %s a second time", spec.Topic)
	return out.apply(ctx, sh, spec, dry, setPosition)
}

func (out *Rewind) apply(ctx context.Context, sh *shared, spec ConnectorSpec, dry bool, set func(context.Context, *shared, ConnectorSpec, Offset) error) error {
	if dry {
		return nil
	}
	for _, p := range out.Parts {
		if p.Stays {
			continue
		}
		if err := set(ctx, sh, spec, p.To); err != nil {
			return err
		}
		out.Moved = true
	}
	return nil
}
